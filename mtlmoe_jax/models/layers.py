"""Layers that hold parameters, and the small pieces between them.

Letters: B images (or slots), H W input size, C input channels, O output
channels, G H' W' size of a grid.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtlmoe_jax.models.convolution import conv2d
from mtlmoe_jax.models.normalization import scale_kernel

# Scale of learned cosines before training (Gidaris & Komodakis 2018).
START_SCALE = 10.0


def scaled_normal(gain: float) -> Callable[..., jax.Array]:
  """Initializer: normal with variance gain / fan-in.

  Args:
    gain: 2 in front of a rectifier (He et al. 2015), 1 in front of a sum.

  Returns:
    A function of (key, shape, dtype); fan-in is the product of all axes of the
    shape but the last.
  """

  def init(
    key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
  ) -> jax.Array:
    std = math.sqrt(gain / math.prod(shape[:-1]))
    # Drawn flat: XLA:CPU takes seconds to compile each draw of four axes.
    draw = jax.random.normal(key, (math.prod(shape),), dtype)
    return std * draw.reshape(shape)

  return init


class Conv(nn.Module):
  """A convolution kernel (and bias) applied by `convolution.conv2d`.

  Parameters, float32 whatever the compute type: `kernel` [k, k, C / groups, O]
  and, with `use_bias`, `bias` [O].

  Attributes:
    features: O.
    kernel_size: k.
    strides: step between outputs.
    groups: channel groups; O == C == groups is depthwise.
    padding: see `conv2d`.
    use_bias: adds a bias.
    gain: of the initial kernel, see `scaled_normal`.
    dtype: type of the computation and of the result.
  """

  features: int
  kernel_size: int = 1
  strides: int = 1
  groups: int = 1
  padding: str = "SAME"
  use_bias: bool = False
  gain: float = 2.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: jax.Array, factor: jax.Array | None = None
  ) -> jax.Array:
    """Maps [B, H, W, C] to [B, H', W', O]; with "SAME", H' = ceil(H / strides).

    Args:
      x: the input.
      factor: f32 [O] that multiplies the kernel, not the bias; None is 1.
    """
    k = self.kernel_size
    kernel = self.param(
      "kernel",
      scaled_normal(self.gain),
      (k, k, x.shape[-1] // self.groups, self.features),
    )
    if factor is not None:
      kernel = scale_kernel(kernel, factor)
    x = conv2d(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      strides=self.strides,
      padding=self.padding,
      groups=self.groups,
    )
    if self.use_bias:
      bias = self.param("bias", nn.initializers.zeros, (self.features,))
      x = x + bias.astype(self.dtype)
    return x


def dense(features: int, gain: float, dtype: Any, name: str) -> nn.Dense:
  """A fully connected layer whose kernel starts as `scaled_normal(gain)`."""
  return nn.Dense(
    features, dtype=dtype, kernel_init=scaled_normal(gain), name=name
  )


def layer_norm(dtype: Any, name: str) -> nn.LayerNorm:
  """Layer normalisation (Ba et al. 2016) of channels, epsilon 1e-6.

  Statistics are float32, in two passes: the mean of squares loses digits.
  """
  return nn.LayerNorm(
    epsilon=1e-6, dtype=dtype, use_fast_variance=False, name=name
  )


@jax.custom_jvp
def relu6(x: jax.Array) -> jax.Array:
  """min(max(x, 0), 6), in the type of x; its gradient at 0 and at 6 is 0."""
  return jnp.clip(x, 0, 6)


@relu6.defjvp
def _relu6_jvp(
  primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
  # The derivative of `clip` shares out ties, which costs two divisions; and it
  # reads the input, which nothing else would keep.
  y = relu6(*primals)
  return y, jnp.where((y > 0) & (y < 6), tangents[0], 0)


def drop_path(x: jax.Array, key: jax.Array, rate: float) -> jax.Array:
  """Stochastic depth (Huang et al. 2016): drops whole rows of a branch.

  Args:
    x: [B, ...] a residual branch.
    key: random key.
    rate: probability that a row is set to zero; kept rows are divided by
      1 - rate, so the expectation stays.

  Returns:
    [B, ...].
  """
  keep = jax.random.bernoulli(key, 1.0 - rate, x.shape[:1])
  keep = keep.reshape(-1, *(1,) * (x.ndim - 1))
  return jnp.where(keep, x / jnp.asarray(1.0 - rate, x.dtype), 0)


def drop_branch(block: nn.Module, y: jax.Array, train: bool) -> jax.Array:
  """`drop_path` of a block's branch [B, ...] in training.

  Args:
    block: has the attribute `drop_path`, the rate, and where that is not 0 the
      random stream "dropout".
    y: the branch.
    train: drop.
  """
  if not train or block.drop_path == 0.0:
    return y
  return drop_path(y, block.make_rng("dropout"), block.drop_path)


def average_to(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Adaptive average pooling to a fixed grid, in either direction.

  Cell i of a grid of G over H rows averages rows floor(i H / G) to
  ceil((i + 1) H / G) - 1: plain windows where G divides H, overlapping ones
  where not, repeated rows where G > H.

  Args:
    x: [B, H, W, C].
    size: (H', W') of the grid.

  Returns:
    [B, H', W', C] in the type of x.
  """
  b, h, w, c = x.shape
  if (h, w) == size:
    return x
  if h % size[0] == 0 and w % size[1] == 0:
    windows = (b, size[0], h // size[0], size[1], w // size[1], c)
    return jnp.mean(x.reshape(windows), (2, 4))
  rows, columns = _averaging(h, size[0]), _averaging(w, size[1])
  return jnp.einsum(
    "bhwc,gh,vw->bgvc", x, rows.astype(x.dtype), columns.astype(x.dtype)
  )


def _averaging(length: int, cells: int) -> jax.Array:
  """[cells, length] matrix whose rows average the window of each cell."""
  position = jnp.arange(length)
  starts = [i * length // cells for i in range(cells)]
  ends = [math.ceil((i + 1) * length / cells) for i in range(cells)]
  start, end = jnp.array(starts)[:, None], jnp.array(ends)[:, None]
  inside = (position >= start) & (position < end)
  return inside / (end - start)


def cosine_logits(
  features: jax.Array, kernel: jax.Array, scale: jax.Array
) -> jax.Array:
  """scale cos(f_b, w_l) (Luo et al. 2018, "Cosine Normalization", eq. 3).

  Args:
    features: f, [B, F].
    kernel: w, [F, L], of L classes (or experts).
    scale: scalar.

  Returns:
    [B, L], between -scale and scale; 0 where a vector is 0.
  """
  return scale * (_unit(features, -1) @ _unit(kernel, 0))


def _unit(x: jax.Array, axis: int) -> jax.Array:
  """Vectors of length 1; those shorter than 1e-6 stay shorter."""
  square = jnp.sum(x * x, axis, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-12))
