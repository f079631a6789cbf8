"""Normalisation for experts that receive only some of the images.

Letters: B images (or slots of an expert), H W map size, C channels.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


class Norm(nn.Module):
  """Batch normalisation with stored or masked statistics, or GroupNorm.

  Parameters `scale` and `bias` [C]; `frozen` and `batch` also keep `mean` and
  `var` [C] in the collection `batch_stats`.

  - `frozen`: always the stored statistics, which never change (those of
    pretrained weights); scale and bias are trained.
  - `batch` (Ioffe and Szegedy 2015): in training, the statistics of the rows
    that `mask` marks; the stored ones follow them by
    `momentum * old + (1 - momentum) * new` where `batch_stats` is mutable. An
    expert without a row uses its stored statistics and keeps them. With the
    batch sharded under `jax.jit` the statistics are those of the whole batch.
  - `group` (Wu and He 2018): statistics of each row alone, over groups of
    gcd(C, 16) channels (16 or 8 in every registered backbone).

  Statistics that are stored are no more than a factor and an offset of each
  channel: `normalised` folds the factor into the kernel in front.

  Attributes:
    mode: "frozen", "batch" or "group".
    features: C.
    epsilon: added to the variance (1e-3 as in the published EfficientNets).
    momentum: of the stored statistics.
    dtype: type of the result; statistics are float32.
  """

  mode: str
  features: int
  epsilon: float = 1e-3
  momentum: float = 0.9
  dtype: Any = jnp.float32

  def setup(self) -> None:
    """Parameters and statistics."""
    shape = (self.features,)
    self.scale = self.param("scale", nn.initializers.ones, shape)
    self.bias = self.param("bias", nn.initializers.zeros, shape)
    if self.mode != "group":
      self.mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
      self.var = self.variable("batch_stats", "var", jnp.ones, shape)

  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None = None,
    train: bool = False,
  ) -> jax.Array:
    """Normalises [B, H, W, C]; `mask` [B] bool marks the rows that count."""
    if self.mode == "group":
      return group_norm(x, self.scale, self.bias, self.epsilon).astype(
        self.dtype
      )
    if self.uses_stored(train):
      factor, offset = self.affine()
    else:
      factor, offset = self._affine(*self._batch_moments(x, mask))
    return x * factor.astype(self.dtype) + offset.astype(self.dtype)

  def uses_stored(self, train: bool) -> bool:
    """True where the result is `affine` of the input."""
    return self.mode == "frozen" or (self.mode == "batch" and not train)

  def affine(self) -> tuple[jax.Array, jax.Array]:
    """Factor and offset of each channel, f32 [C], by the stored statistics."""
    return self._affine(self.mean.value, self.var.value)

  def _affine(self, mean, var):
    factor = self.scale * lax.rsqrt(var + self.epsilon)
    return factor, self.bias - mean * factor

  def _batch_moments(self, x, mask):
    """Those of the marked rows, which the stored ones then follow."""
    mean, var, count = masked_moments(x, mask)
    mean = jnp.where(count > 0, mean, self.mean.value)
    var = jnp.where(count > 0, var, self.var.value)
    updates = self.is_mutable_collection("batch_stats")
    if updates and not self.is_initializing():
      keep = jnp.where(count > 0, self.momentum, 1.0)
      for stored, new in ((self.mean, mean), (self.var, var)):
        new = lax.stop_gradient(new)
        stored.value = keep * stored.value + (1.0 - keep) * new
    return mean, var


def normalised(
  conv: Callable[..., jax.Array],
  norm: Norm,
  x: jax.Array,
  mask: jax.Array | None,
  train: bool,
) -> jax.Array:
  """The norm of a convolution's result.

  Where the norm uses stored statistics its factor goes into the kernel. The
  map is then written once, and the gradient of the scale comes from that of
  the kernel, without another pass over the map.

  Args:
    conv: maps (x, factor) to [B, H, W, C]; `layers.Conv` without bias.
    norm: of C features.
    x: the input of `conv`.
    mask: as for `Norm`.
    train: as for `Norm`.

  Returns:
    [B, H, W, C] of the norm's type.
  """
  if not norm.uses_stored(train):
    return norm(conv(x), mask, train)
  factor, offset = norm.affine()
  return conv(x, factor) + offset.astype(norm.dtype)


def masked_moments(
  x: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Mean and population variance per channel over the marked rows.

  Args:
    x: [B, H, W, C].
    mask: [B] bool, or None for all rows.

  Returns:
    mean [C], variance [C] and the number of marked rows (a scalar), float32.
    Without a marked row: zeros.
  """
  x = x.astype(jnp.float32)
  if mask is None:
    mask = jnp.ones(x.shape[0], bool)
  weight = mask.astype(jnp.float32)[:, None, None, None]
  rows = jnp.sum(weight)
  pixels = jnp.maximum(rows, 1.0) * x.shape[1] * x.shape[2]
  # `where`, not a product: a slot nobody fills may hold anything.
  mean = jnp.sum(jnp.where(weight > 0, x, 0.0), (0, 1, 2)) / pixels
  centred = jnp.where(weight > 0, x - mean, 0.0)
  return mean, jnp.sum(jnp.square(centred), (0, 1, 2)) / pixels, rows


def group_norm(
  x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> jax.Array:
  """GroupNorm over groups of gcd(C, 16) channels.

  Args:
    x: [B, H, W, C].
    scale: [C].
    bias: [C].
    epsilon: added to the variance.

  Returns:
    [B, H, W, C] float32.
  """
  b, h, w, c = x.shape
  size = math.gcd(c, 16)
  grouped = x.astype(jnp.float32).reshape(b, h, w, c // size, size)
  mean = jnp.mean(grouped, (1, 2, 4), keepdims=True)
  centred = grouped - mean
  var = jnp.mean(jnp.square(centred), (1, 2, 4), keepdims=True)
  normalised = centred * lax.rsqrt(var + epsilon)
  return normalised.reshape(x.shape) * scale + bias
