"""Normalisation for experts that receive only some of the images.

Letters: B images (or slots of an expert), H W map size, C channels.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from mtlmoe_jax.devices import meshes
from mtlmoe_jax.ops import folding

# As in the published EfficientNets.
EPSILON = 1e-3


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
    batch split over devices, by the compiler or inside `jax.shard_map`, the
    statistics are those of the whole batch.
  - `folded`: only the offset `bias` is left; `fold` has put the rest into the
    kernels in front.
  - `group` (Wu and He 2018): statistics of each row alone, over groups of
    gcd(C, 16) channels (16 or 8 in every registered backbone).

  Statistics that are stored are no more than a factor and an offset of each
  channel: `normalized_conv` folds the factor into the kernel in front.

  Attributes:
    mode: "frozen", "batch", "group" or "folded".
    features: C.
    epsilon: added to the variance.
    momentum: of the stored statistics.
    dtype: type of the result; statistics are float32.
  """

  mode: str
  features: int
  epsilon: float = EPSILON
  momentum: float = 0.9
  dtype: Any = jnp.float32

  def setup(self) -> None:
    """Parameters and statistics."""
    shape = (self.features,)
    self.bias = self.param("bias", nn.initializers.zeros, shape)
    if self.mode == "folded":
      return
    self.scale = self.param("scale", nn.initializers.ones, shape)
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
    factor: jax.Array | None
    if self.uses_stored(train):
      factor, offset = self.affine()
    else:
      factor, offset = self._affine(*self._batch_moments(x, mask))
    if factor is not None:
      x = x * factor.astype(self.dtype)
    return x + offset.astype(self.dtype)

  def uses_stored(self, train: bool) -> bool:
    """True where the result is `affine` of the input."""
    return uses_stored(self.mode, train)

  def affine(self) -> tuple[jax.Array | None, jax.Array]:
    """Factor (None: 1) and offset of each channel, f32 [C]."""
    if self.mode == "folded":
      return None, self.bias
    return self._affine(self.mean.value, self.var.value)

  def _affine(
    self, mean: jax.Array, var: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    return affine(self.scale, self.bias, mean, var, self.epsilon)

  def _batch_moments(
    self, x: jax.Array, mask: jax.Array | None
  ) -> tuple[jax.Array, jax.Array]:
    """Those of the marked rows, which the stored ones then follow."""
    # Inside `shard_map`: the devices that have other rows of the same norm.
    axes = meshes.manual_axes(x) - meshes.manual_axes(self.scale)
    mean, var, count = masked_moments(x, mask, tuple(sorted(axes)))
    mean = jnp.where(count > 0, mean, self.mean.value)
    var = jnp.where(count > 0, var, self.var.value)
    updates = self.is_mutable_collection("batch_stats")
    if updates and not self.is_initializing():
      keep = jnp.where(count > 0, self.momentum, 1.0)
      for stored, new in ((self.mean, mean), (self.var, var)):
        new = lax.stop_gradient(new)
        stored.value = keep * stored.value + (1.0 - keep) * new
    return mean, var


def uses_stored(mode: str, train: bool) -> bool:
  """True where a norm's result is a fixed affine function of its input."""
  return mode in ("frozen", "folded") or (mode == "batch" and not train)


def affine(
  scale: jax.Array,
  bias: jax.Array,
  mean: jax.Array,
  var: jax.Array,
  epsilon: float = EPSILON,
) -> tuple[jax.Array, jax.Array]:
  """Batch normalisation by these statistics as factor and offset, [..., C]."""
  factor = scale * lax.rsqrt(var + epsilon)
  return factor, bias - mean * factor


def _join(
  kernel: jax.Array, norm: Mapping[str, jax.Array], epsilon: float
) -> tuple[jax.Array, jax.Array]:
  """Kernel and offset in place of a kernel and the norm behind it."""
  factor, offset = affine(**norm, epsilon=epsilon)
  return scale_kernel(kernel, factor), offset


def fold(
  variables: Mapping[str, Any], epsilon: float = EPSILON
) -> dict[str, Any]:
  """`folding.fold` of traced arrays: gradients flow back to those given."""
  return folding.fold(variables, epsilon, _join)


@jax.custom_vjp
def scale_kernel(kernel: jax.Array, factor: jax.Array) -> jax.Array:
  """A convolution's kernel times a factor of each channel that it gives.

  Args:
    kernel: [..., h, w, I, O].
    factor: [..., O].

  Returns:
    [..., h, w, I, O]. The factor's gradient is a product of matrices: XLA:CPU
    takes many times as long for the equal sum of products in a large program.
  """
  return kernel * factor[..., None, None, None, :]


def _scale_kernel_forward(
  kernel: jax.Array, factor: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return scale_kernel(kernel, factor), (kernel, factor)


def _scale_kernel_backward(
  operands: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
  kernel, factor = operands
  # [..., h w I, O]
  rows, columns = (
    v.reshape(*v.shape[:-4], -1, v.shape[-1]) for v in (g, kernel)
  )
  return scale_kernel(g, factor), jnp.einsum("...io,...io->...o", rows, columns)


scale_kernel.defvjp(_scale_kernel_forward, _scale_kernel_backward)


def normalized_conv(
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
  x: jax.Array, mask: jax.Array | None, axes: tuple[str, ...] = ()
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Mean and population variance per channel over the marked rows.

  Args:
    x: [B, H, W, C].
    mask: [B] bool, or None for all rows.
    axes: of `jax.shard_map`, over which the rows are split.

  Returns:
    mean [C], variance [C] and the number of marked rows (a scalar), float32.
    Without a marked row: zeros.
  """
  x = x.astype(jnp.float32)
  if mask is None:
    mask = jnp.ones(x.shape[0], bool)
  weight = mask.astype(jnp.float32)[:, None, None, None]
  rows = lax.psum(jnp.sum(weight), axes)
  pixels = jnp.maximum(rows, 1.0) * x.shape[1] * x.shape[2]
  # `where`, not a product: a slot nobody fills may hold anything.
  total = jnp.sum(jnp.where(weight > 0, x, 0.0), (0, 1, 2))
  mean = lax.psum(total, axes) / pixels
  centered = jnp.where(weight > 0, x - mean, 0.0)
  squares = jnp.sum(jnp.square(centered), (0, 1, 2))
  return mean, lax.psum(squares, axes) / pixels, rows


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
  centered = grouped - mean
  var = jnp.mean(jnp.square(centered), (1, 2, 4), keepdims=True)
  normalized = centered * lax.rsqrt(var + epsilon)
  return normalized.reshape(x.shape) * scale + bias
