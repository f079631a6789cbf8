"""Gates: small networks that look at an image and choose its experts.

Gates compute in float32 whatever the precision of the backbone: a rounded
logit may send an image to another expert.

Letters: B images, H W input size, N experts, K experts per image, F features.
"""

import dataclasses
import math
import zlib
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtlmoe_jax.models.layers import (
  START_SCALE,
  Conv,
  average_to,
  cosine_logits,
  scaled_normal,
)
from mtlmoe_jax.models.normalization import Norm
from mtlmoe_jax.moe import balancing, routing

# Larger images are averaged down to at most this side, so that a gate costs
# little beside an expert (under 1 % of EfficientNet-Lite0 at 224 pixels).
MAX_SIDE = 112
# The logits start near 0 but not at 0 (Shazeer et al. 2017 use 0): weights are
# almost uniform and noise decides in training, yet in evaluation, without
# noise, no ties have to be broken by the index of the expert.
LOGIT_GAIN = 0.01
# Floor of the learned noise, as in the paper's code.
MIN_NOISE_STD = 0.01
# Features of which a cosine router takes the cosines.
PROJECTED = 16
# What a gate sees, where it does not see the image: see `FeatureInput`.
FEATURE_INPUTS = ("stem", "all")


# Name of the selection's bias, in the collection "batch_stats": state that
# steps like the norms' statistics, not a parameter.
BIAS = "selection_bias"


def gate_size(shape: Sequence[int]) -> tuple[int, int]:
  """Height and width at which gates look at images [B, H, W, C]."""
  height, width = (n // math.ceil(n / MAX_SIDE) for n in shape[1:3])
  return height, width


@dataclasses.dataclass(frozen=True)
class GateOptions:
  """What a gate and its head have.

  Attributes:
    kind: "dense", "noisy_top_k", "top_k" (see `routing`) or a control without
      parameters: "uniform" looks at nothing, "random" at an image's hash. A
      `Head` alone knows no controls.
    experts: N, those that are shared among them.
    width: channels of a gate's first convolution; each one after has twice as
      many.
    noise: scale of the noise; 0 is none.
    temperature: divides the logits (not the noise, which then weighs more when
      it is above 1).
    bias_rate: step of the selection's bias (`balancing`); 0 is no bias, nor is
      there one for "dense", which selects all.
    sees: "pixels", or of FEATURE_INPUTS: features that are given.
    router: from features to logits: "linear", "cosine" or "mlp".
    shared: how many experts serve every image (`routing.with_shared`); the
      first ones, which a gate does not choose.
    dropout: probability with which, in training, an expert is not there for an
      image, whose next best then takes its place; "dense" has none.
  """

  kind: str
  experts: int
  width: int = 0
  noise: float = 1.0
  temperature: float = 1.0
  bias_rate: float = 0.0
  sees: str = "pixels"
  router: str = "linear"
  dropout: float = 0.0
  shared: int = 0

  @property
  def routed(self) -> int:
    """How many experts there are to choose from."""
    return self.experts - self.shared


class FeatureInput(nn.Module):
  """Features as gates take them: standardized, and no gradient goes back.

  The moments are set once, before training (`training.gate_start`); they are
  state that is kept, not parameters. A gate that could change what it sees
  would make its own task easy.
  """

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """Standardizes [B, F], float32."""
    shape = features.shape[-1:]
    mean: Any = self.variable("batch_stats", "mean", jnp.zeros, shape)
    std: Any = self.variable("batch_stats", "std", jnp.ones, shape)
    features = features.astype(jnp.float32)
    return jax.lax.stop_gradient((features - mean.value) / std.value)


class Head(nn.Module):
  """From features to the scores of the experts.

  A linear router is one layer; "mlp" adds a hidden layer to it, whose output
  starts at 0, so that both start alike; "cosine" is a learned scale times the
  cosines of projected features and a prototype of each expert (Chi et al. 2022,
  "On the Representation Collapse of Sparse Mixture of Experts").

  Attributes:
    options: of the gate; its width is that of the hidden layer of "mlp".
    k: experts that are chosen; only `options.dropout` needs it.
  """

  options: GateOptions
  k: int = 1

  @nn.compact
  def __call__(
    self,
    features: jax.Array,
    train: bool = False,
    noise: jax.Array | None = None,
  ) -> routing.Scores:
    """Scores [B, F] features.

    Args:
      features: [B, F], float32.
      train: with noise, if the random stream "gating" is given.
      noise: scalar, the scale of the noise now; None: the option.

    Returns:
      The scores of the experts that are routed.
    """
    options = self.options
    logits = self._logits(features) / options.temperature
    if options.kind == "dense":
      return routing.Scores(logits)
    bias: jax.Array | None = None
    draws: jax.Array | None = None
    if options.bias_rate > 0:
      shape = (options.routed,)
      stored: Any = self.variable("batch_stats", BIAS, jnp.zeros, shape)
      bias = stored.value
    random = train and self.has_rng("gating")
    if random and options.dropout > 0:
      out = routing.left_out(
        self.make_rng("gating"), logits.shape, options.dropout, self.k
      )
      bias = out if bias is None else bias + out
    if random and options.noise > 0:
      draws = jax.random.normal(self.make_rng("gating"), logits.shape)
    scale = options.noise if noise is None else noise
    if options.kind == "top_k":
      std = scale / options.routed
    else:
      raw = nn.Dense(
        options.routed, kernel_init=nn.initializers.zeros, name="noise_std"
      )(features)
      std = scale * (nn.softplus(raw) + MIN_NOISE_STD)
    return routing.Scores(logits, draws, std, bias)

  def _logits(self, features: jax.Array) -> jax.Array:
    options = self.options
    if options.router == "cosine":
      return CosineRouter(options.routed, name="cosine")(features)
    logits = nn.Dense(
      options.routed, kernel_init=scaled_normal(LOGIT_GAIN), name="logits"
    )(features)
    if options.router == "mlp":
      hidden = nn.Dense(options.width, name="hidden")(features)
      logits += nn.Dense(
        options.routed, kernel_init=nn.initializers.zeros, name="bend"
      )(nn.swish(hidden))
    return logits

  def balance(self, experts: jax.Array, valid: jax.Array | None) -> None:
    """Steps the bias after a selection, where "batch_stats" is mutable.

    Args:
      experts: i32 [B, K], what was selected in training.
      valid: [B] bool, False for padding.
    """
    updates = self.is_mutable_collection("batch_stats")
    updates = updates and not self.is_initializing()
    if not updates or not self.has_variable("batch_stats", BIAS):
      return
    bias: Any = self.get_variable("batch_stats", BIAS)
    bias = balancing.update_bias(bias, experts, self.options.bias_rate, valid)
    self.put_variable("batch_stats", BIAS, bias)


class CosineRouter(nn.Module):
  """Scale times the cosines of projected features and N prototypes.

  Attributes:
    experts: N.
  """

  experts: int

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """Maps [B, F] to logits [B, N], float32."""
    x = nn.Dense(PROJECTED, kernel_init=scaled_normal(1.0), name="project")(
      features
    )
    prototypes = self.param(
      "prototypes", scaled_normal(1.0), (PROJECTED, self.experts)
    )
    start = nn.initializers.constant(math.log(LOGIT_GAIN * START_SCALE))
    return cosine_logits(
      x, prototypes, jnp.exp(self.param("log_scale", start, ()))
    )


class Gate(nn.Module):
  """From images, or features of them, to a routing.

  Of images: three strided convolutions, global average, then the `Head`; of
  features the head alone.

  Attributes:
    options: of the gate.
    k: K, shared experts among them; "dense" and "uniform" use all N.
  """

  options: GateOptions
  k: int

  def setup(self) -> None:
    """The head's arrays are the gate's own: `gate_class/logits/kernel`."""
    self.head = Head(self.options, self.chosen)
    nn.share_scope(self, self.head)

  @property
  def chosen(self) -> int:
    """How many experts it chooses, beside those that are shared."""
    return self.k - self.options.shared

  def __call__(
    self,
    x: jax.Array,
    train: bool = False,
    valid: jax.Array | None = None,
    noise: jax.Array | None = None,
  ) -> routing.Routing:
    """Routes a batch for itself, see `route`."""
    return route([self], x, train, valid, noise)[0]

  @nn.compact
  def scores(
    self,
    x: jax.Array,
    train: bool = False,
    noise: jax.Array | None = None,
  ) -> routing.Scores:
    """Scores what `options.sees`; the rest as in `Head`.

    Args:
      x: [B, H, W, 3] normalized images, or [B, F] of `FeatureInput`.
      train: see `Head`.
      noise: see `Head`.
    """
    if self.options.sees in FEATURE_INPUTS:
      return self.head(x, train, noise)
    x = average_to(x.astype(jnp.float32), gate_size(x.shape))
    for i in range(3):
      features = self.options.width * 2**i
      x = Conv(features, 3, 2, name=f"conv_{i}")(x)
      # Per image: a decision must not depend on the rest of the batch.
      x = nn.swish(Norm("group", features, name=f"norm_{i}")(x))
    return self.head(jnp.mean(x, (1, 2)), train, noise)

  def probabilities(self, x: jax.Array) -> jax.Array:
    """Softmax [B, N] of the logits of what `scores` takes, without noise."""
    logits = routing.bounded(self.scores(x).logits)
    return jax.nn.softmax(logits)

  def draws(self, x: jax.Array, train: bool = False) -> jax.Array:
    """What a "random" gate selects by.

    An image's draws come from a key and its own pixels, so that neither the
    batch nor its place in it matters.

    Args:
      x: [B, H, W, 3] normalized images.
      train: with a new key at each step, if the random stream "gating" is
        given; else the key is a constant, another one for each gate's name.

    Returns:
      f32 [B, N], uniform in [0, 1).
    """
    if train and self.has_rng("gating"):
      key = self.make_rng("gating")
    else:
      # Threefry whatever the default: under `vmap` others mix their rows.
      key = jax.random.key(0, impl="threefry2x32")
      key = jax.random.fold_in(key, zlib.crc32((self.name or "").encode()))

    def draw(number: jax.Array) -> jax.Array:
      own = jax.random.fold_in(key, number)
      return jax.random.uniform(own, (self.options.experts,))

    return jax.vmap(draw)(image_hash(x))


def image_hash(x: jax.Array) -> jax.Array:
  """A number that tells images apart.

  Pixels are rounded first, so that the rounding of floats hardly ever shows;
  sums modulo 2^32 are exact in any order.

  Args:
    x: [B, H, W, 3] normalized images.

  Returns:
    u32 [B].
  """
  levels = jnp.round(16 * x.astype(jnp.float32)).astype(jnp.int32)
  levels = levels.astype(jnp.uint32).reshape(x.shape[0], -1)
  # Multiples of 2^32 / golden ratio lie far apart; odd ones lose no bit.
  places = jnp.arange(levels.shape[1], dtype=jnp.uint32)
  factors = (places * jnp.uint32(2654435769)) | jnp.uint32(1)
  return jnp.sum(levels * factors, axis=1, dtype=jnp.uint32)


def route(
  gates: Sequence[Gate],
  x: jax.Array,
  train: bool = False,
  valid: jax.Array | None = None,
  noise: jax.Array | None = None,
  joint: bool = False,
) -> list[routing.Routing]:
  """Routes a batch by gates of one kind; steps their biases in training.

  Args:
    gates: bound gates.
    x: [B, H, W, 3] normalized images, or [B, F] for gates that see features.
    train: with noise (or draws of this step), if the random stream "gating" is
      given.
    valid: [B] bool, False for padding.
    noise: scalar, the scale of the noise now; None: that of the gates.
    joint: all gates share one selection (`routing.joint_routing`); they then
      have the same k.

  Returns:
    The routing of each gate.
  """
  kind, experts = gates[0].options.kind, gates[0].options.experts
  if kind == "uniform":
    return [routing.uniform_routing(x.shape[0], experts, valid) for _ in gates]
  if kind == "random":
    draws = [gate.draws(x, train) for gate in gates]
    if joint:
      draws = draws[:1] * len(gates)
    return [
      routing.random_routing(d, gate.k, valid) for gate, d in zip(gates, draws)
    ]
  scores = [gate.scores(x, train, noise) for gate in gates]
  if joint:
    routings = routing.joint_routing(kind, scores, gates[0].chosen, valid)
  else:
    routings = [
      routing.separate_routing(kind, s, gate.chosen, valid)
      for gate, s in zip(gates, scores)
    ]
  if train:
    for gate, r in zip(gates, routings):
      gate.head.balance(r.experts, valid)
  shared = gates[0].options.shared
  return [routing.with_shared(r, shared) for r in routings]
