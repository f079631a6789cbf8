"""Gates: small networks that look at the image and choose its experts.

Gates compute in float32 whatever the precision of the backbone: a rounded
logit may send an image to another expert.

Letters: B images, H W input size, N experts, K experts per image.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtlmoe_jax import routing
from mtlmoe_jax.models.layers import Conv, average_to, scaled_normal
from mtlmoe_jax.models.normalization import Norm

# Larger images are averaged down to at most this side, so that a gate costs
# little beside an expert (under 1 % of EfficientNet-Lite0 at 224 pixels).
MAX_SIDE = 112
# The logits start near 0 but not at 0 (Shazeer et al. 2017 use 0): weights are
# almost uniform and noise decides in training, yet in evaluation, without
# noise, no ties have to be broken by the index of the expert.
LOGIT_GAIN = 0.01
# Floor of the learned noise, as in the paper's code.
MIN_NOISE_STD = 0.01


class Gate(nn.Module):
  """Three strided convolutions, global average, one layer to the logits.

  Attributes:
    kind: "dense", "noisy_top_k", "top_k" (see `routing`) or "uniform", which
      has no parameters and looks at nothing.
    experts: N.
    k: K; "dense" and "uniform" use all N.
    width: channels of the first convolution; each one after has twice as many.
    noise: scale of the noise; 0 is none.
  """

  kind: str
  experts: int
  k: int
  width: int
  noise: float

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    train: bool = False,
    valid: jax.Array | None = None,
  ) -> routing.Routing:
    """Routes a batch.

    Args:
      x: [B, H, W, 3] normalised images.
      train: with noise, if the random stream "gating" is given.
      valid: [B] bool, False for padding.

    Returns:
      The routing of each image.
    """
    if self.kind == "uniform":
      return routing.uniform_routing(x.shape[0], self.experts, valid)
    features = self._features(x)
    logits = nn.Dense(
      self.experts, kernel_init=scaled_normal(LOGIT_GAIN), name="logits"
    )(features)
    if self.kind == "dense":
      return routing.dense_routing(logits, valid)
    noise = None
    if train and self.noise > 0 and self.has_rng("gating"):
      noise = jax.random.normal(self.make_rng("gating"), logits.shape)
    if self.kind == "top_k":
      return routing.top_k_routing(logits, self.k, noise, self.noise, valid)
    raw = nn.Dense(
      self.experts, kernel_init=nn.initializers.zeros, name="noise_std"
    )(features)
    std = self.noise * (nn.softplus(raw) + MIN_NOISE_STD)
    return routing.noisy_top_k_routing(logits, self.k, std, noise, valid)

  def _features(self, x: jax.Array) -> jax.Array:
    """[B, 4 width], float32."""
    size = tuple(n // math.ceil(n / MAX_SIDE) for n in x.shape[1:3])
    x = average_to(x.astype(jnp.float32), size)
    for i in range(3):
      features = self.width * 2**i
      x = Conv(features, 3, 2, name=f"conv_{i}")(x)
      # Per image: a decision must not depend on the rest of the batch.
      x = nn.swish(Norm("group", features, name=f"norm_{i}")(x))
    return jnp.mean(x, (1, 2))
