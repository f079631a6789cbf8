"""Convolutions that stay fast on every backend, plain and over experts.

XLA:CPU runs a convolution whose kernel is batched by `jax.vmap` (a model with
N experts) as a grouped convolution, up to 14 times slower than the same sum
written as a matrix product, and a depthwise convolution 7 to 40 times slower
than multiplying shifted slices. `conv2d` therefore writes the same sum
differently on each backend; the value does not depend on the choice.

Letters: B images, H W input size, C input channels, O output channels,
G groups, P Q output size.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mtlmoe_jax.devices import compilation, meshes
from mtlmoe_jax.errors import InputError

IMPLEMENTATIONS = ("auto", "native", "dot", "shift")

# Products of two maps that one expression adds: with 4 rows the sums take three
# times as long, with 56 a fifth longer.
_SUMMED_ROWS = 14
# Numbers of an input that stay in the cache while kernel rows pass over it.
_CACHED = 1 << 20

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
# (H, W) of an input and (kh, kw) of a kernel.
Size = tuple[Pair, Pair]


def conv2d(
  x: jax.Array,
  kernel: jax.Array,
  *,
  strides: int | tuple[int, int] = 1,
  padding: str | Sequence[Sequence[int]] = "SAME",
  groups: int = 1,
  impl: str = "auto",
) -> jax.Array:
  """Two-dimensional cross-correlation, channels last.

  Args:
    x: [B, H, W, C] floating input.
    kernel: [kh, kw, C / groups, O], of the same type as `x`
      (else both are promoted).
    strides: step between outputs, one number or (rows, columns).
    padding: "SAME" (TensorFlow's: the odd pixel goes to the bottom right and
      depends on the input size), "TORCH" (k // 2 on each side), "VALID", or
      ((top, bottom), (left, right)).
    groups: channel groups; `groups == C == O` is a depthwise convolution.
    impl: "native" is one XLA convolution; "dot" matrix products of patches;
      "shift" (depthwise only) sums of shifted slices; "auto" chooses by
      backend and shape.

  Returns:
    [B, P, Q, O], of the promoted type of `x` and `kernel`.

  Raises:
    InputError: shapes, padding or `impl` that do not fit together.
  """
  dtype = jnp.result_type(x, kernel)
  x, kernel = x.astype(dtype), kernel.astype(dtype)
  steps = (strides, strides) if isinstance(strides, int) else strides
  _check(x, kernel, groups, impl)
  (_, h, w, _), (kh, kw, _, _) = x.shape, kernel.shape
  pads = resolve_padding((h, w), (kh, kw), steps, padding)
  # Inside `shard_map` the gradient rules below want both to vary alike.
  axes = meshes.manual_axes(x, kernel)
  x, kernel = meshes.varying(x, axes), meshes.varying(kernel, axes)
  depthwise = groups == x.shape[-1] == kernel.shape[-1] and groups > 1
  if impl == "auto":
    impl = _choose(kernel.shape, pads, depthwise)
  if impl == "shift":
    if not depthwise:
      raise InputError(
        f"impl='shift' with groups={groups}, C={x.shape[-1]}, "
        f"O={kernel.shape[-1]}: only for depthwise; use 'dot'"
      )
    out: jax.Array = _depthwise(((h, w), (kh, kw)), steps, pads, x, kernel)
    return out
  if impl == "dot":
    return _dot(x, kernel, steps, pads, groups)
  return _native(x, kernel, steps, pads, groups)


def resolve_padding(
  size: tuple[int, int],
  kernel: tuple[int, int],
  strides: tuple[int, int],
  padding: str | Sequence[Sequence[int]],
) -> Pads:
  """Pixels added at the (top, bottom) and (left, right).

  Args:
    size: (H, W) of the input.
    kernel: (kh, kw).
    strides: (rows, columns).
    padding: as for `conv2d`.

  Returns:
    ((top, bottom), (left, right)).

  Raises:
    InputError: an unknown padding.
  """
  if not isinstance(padding, str):
    (top, bottom), (left, right) = padding
    return (top, bottom), (left, right)
  if padding == "TORCH":
    half = [k // 2 for k in kernel]
    return (half[0], half[0]), (half[1], half[1])
  if padding == "VALID":
    return (0, 0), (0, 0)
  if padding == "SAME":
    total = [
      max((-(-n // s) - 1) * s + k - n, 0)
      for n, k, s in zip(size, kernel, strides)
    ]
    before, after = [t // 2 for t in total], [t - t // 2 for t in total]
    return (before[0], after[0]), (before[1], after[1])
  raise InputError(
    f"padding={padding!r}: use 'SAME', 'TORCH', 'VALID' or "
    "((top, bottom), (left, right))"
  )


def _check(x: jax.Array, kernel: jax.Array, groups: int, impl: str) -> None:
  if x.ndim != 4 or kernel.ndim != 4:
    raise InputError(
      f"conv2d of shapes {x.shape} and {kernel.shape}: pass [B, H, W, C] and "
      "[kh, kw, C / groups, O]"
    )
  if kernel.shape[2] * groups != x.shape[-1] or kernel.shape[3] % groups:
    raise InputError(
      f"conv2d kernel {kernel.shape} for C={x.shape[-1]}, groups={groups}: "
      "the kernel must be [kh, kw, C / groups, multiple of groups]"
    )
  if impl not in IMPLEMENTATIONS:
    raise InputError(f"impl={impl!r}: use one of {', '.join(IMPLEMENTATIONS)}")


def _choose(kernel: tuple[int, ...], pads: Pads, depthwise: bool) -> str:
  pointwise = kernel[:2] == (1, 1) and pads == ((0, 0), (0, 0))
  if compilation.backend() != "cpu":
    return "dot" if pointwise and not depthwise else "native"
  return "shift" if depthwise else "dot"


def _native(
  x: jax.Array, kernel: jax.Array, strides: Pair, pads: Pads, groups: int
) -> jax.Array:
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    pads,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )


def _taps(
  x: jax.Array, kernel: Pair, strides: Pair, pads: Pads
) -> Iterator[jax.Array]:
  """Yields x [B, P, Q, C] shifted under each kernel element, row by row."""
  x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
  (sh, sw), (kh, kw) = strides, kernel
  p = (x.shape[1] - kh) // sh + 1
  q = (x.shape[2] - kw) // sw + 1
  for i in range(kh):
    for j in range(kw):
      yield lax.slice(
        x,
        (0, i, j, 0),
        (x.shape[0], i + (p - 1) * sh + 1, j + (q - 1) * sw + 1, x.shape[3]),
        (1, sh, sw, 1),
      )


def _dot(
  x: jax.Array, kernel: jax.Array, strides: Pair, pads: Pads, groups: int
) -> jax.Array:
  """Patches [B, P, Q, kh kw C] times the kernel [kh kw C, O]."""
  kh, kw, c, o = kernel.shape
  taps = list(_taps(x, (kh, kw), strides, pads))
  if groups == 1:
    patches = taps[0] if len(taps) == 1 else jnp.concatenate(taps, -1)
    # Matrices, not [B, P, Q, K]: the kernel's gradient sums over one axis
    # then, where XLA:CPU would first transpose both operands.
    out = _matmul(
      patches.reshape(-1, kh * kw * c), kernel.reshape(kh * kw * c, o)
    )
    product: jax.Array = out.reshape(*patches.shape[:3], o)
    return product
  patches = jnp.stack(taps, -2)
  patches = patches.reshape(*patches.shape[:-1], groups, c)
  kernel = kernel.reshape(kh * kw, c, groups, o // groups)
  out = jnp.einsum("bpqkgc,kcgo->bpqgo", patches, kernel)
  return out.reshape(*out.shape[:3], o)


@jax.custom_vjp
def _matmul(x: jax.Array, w: jax.Array) -> jax.Array:
  """x [R, K] times w [K, O].

  JAX's own gradient of w is the transpose of a product [O, K]; XLA:CPU really
  transposes it. Here the product is [K, O] at once.
  """
  return x @ w


def _matmul_forward(x: Any, w: Any) -> tuple[jax.Array, Any]:
  return x.value @ w.value, (
    x.value if w.perturbed else None,
    w.value if x.perturbed else None,
  )


def _matmul_backward(
  residuals: Any, g: jax.Array
) -> tuple[jax.Array | None, jax.Array | None]:
  x, w = residuals
  return None if w is None else g @ w.T, None if x is None else x.T @ g


_matmul.defvjp(_matmul_forward, _matmul_backward, symbolic_zeros=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _depthwise(
  size: Size, strides: Pair, pads: Pads, x: jax.Array, kernel: jax.Array
) -> jax.Array:
  """Sum of shifted slices [B, P, Q, C], each times its [C] weights.

  `size` is ((H, W), (kh, kw)): the backward pass may keep neither array.
  """
  taps = _taps(x, size[1], strides, pads)
  weights = kernel.reshape(-1, kernel.shape[-1])
  return functools.reduce(
    jnp.add, (tap * weight for tap, weight in zip(taps, weights))
  )


def _depthwise_forward(
  size: Size, strides: Pair, pads: Pads, x: Any, kernel: Any
) -> tuple[jax.Array, Any]:
  # What no gradient is asked for is left out of the residuals, so a frozen
  # kernel costs nothing, also where XLA could not see that it is unused.
  return _depthwise(size, strides, pads, x.value, kernel.value), (
    x.value if kernel.perturbed else None,
    kernel.value if x.perturbed else None,
  )


def _depthwise_backward(
  size: Size, strides: Pair, pads: Pads, residuals: Any, g: jax.Array
) -> tuple[jax.Array | None, jax.Array | None]:
  x, kernel = residuals
  return (
    None if kernel is None else _input_gradient(size, strides, pads, kernel, g),
    None if x is None else _kernel_gradient(size, strides, pads, x, g),
  )


_depthwise.defvjp(_depthwise_forward, _depthwise_backward, symbolic_zeros=True)


def _input_gradient(
  size: Size, strides: Pair, pads: Pads, kernel: jax.Array, g: jax.Array
) -> jax.Array:
  """[B, H, W, C]: per residue of the position by the stride, one small sum.

  The input pixel z s + a (a < s) meets only the kernel elements a, a + s, ...;
  spreading `g` with zeros instead would cost s^2 times the work.
  """
  (h, w), (kh, kw) = size
  (sh, sw), ((top, _), (left, _)) = strides, pads
  reach = -(-kh // sh) - 1, -(-kw // sw) - 1
  blocks = -(-(h + top) // sh), -(-(w + left) // sw)
  margin = [(r, max(n - p, 0)) for r, n, p in zip(reach, blocks, g.shape[1:3])]
  g = jnp.pad(g, ((0, 0), *margin, (0, 0)))

  def residue(a: int, b: int) -> jax.Array:
    terms = [
      lax.slice_in_dim(
        lax.slice_in_dim(g, reach[0] - u, reach[0] - u + blocks[0], axis=1),
        reach[1] - v,
        reach[1] - v + blocks[1],
        axis=2,
      )
      * kernel[a + sh * u, b + sw * v, 0]
      for u in range(-(-(kh - a) // sh))
      for v in range(-(-(kw - b) // sw))
    ]
    # A kernel smaller than the stride leaves some pixels unseen.
    empty = jnp.zeros((g.shape[0], *blocks, g.shape[3]), g.dtype)
    return functools.reduce(jnp.add, terms) if terms else empty

  if strides == (1, 1):
    full = residue(0, 0)
  else:
    full = jnp.stack(
      [jnp.stack([residue(a, b) for b in range(sw)], 3) for a in range(sh)], 2
    ).reshape(g.shape[0], blocks[0] * sh, blocks[1] * sw, g.shape[3])
  return full[:, top : top + h, left : left + w]


def _kernel_gradient(
  size: Size, strides: Pair, pads: Pads, x: jax.Array, g: jax.Array
) -> jax.Array:
  """[kh, kw, 1, C]: sums over B, P and Q of shifted x times g."""
  if meshes.compiler_partitions():
    # The blocks below run over images; plain sums need no gathering of them.
    sums = [
      jnp.sum((tap * g).astype(jnp.float32), (0, 1, 2))
      for tap in _taps(x, size[1], strides, pads)
    ]
    return jnp.stack(sums).reshape(*size[1], 1, -1).astype(g.dtype)
  # One expert after another: the blocks of all would not fit in the cache.
  blocked = functools.partial(_blocked_gradient, size[1], strides, pads)
  out: jax.Array = jax.custom_batching.sequential_vmap(blocked)(x, g)
  return out


def _blocked_gradient(
  kernel: Pair, strides: Pair, pads: Pads, x: jax.Array, g: jax.Array
) -> jax.Array:
  """The same sums, 4 to 8 times faster on XLA:CPU.

  XLA:CPU writes each product x g to memory before it sums it. Here one
  expression adds `_SUMMED_ROWS` of them, so that only every such row is
  written; and some images at a time, so that it stays in the cache.
  """
  kh, kw = kernel
  sh, sw = strides
  b, p, q, c = g.shape
  blocks = -(-p // _SUMMED_ROWS)
  rows = -(-p // blocks)
  (top, _), columns = pads
  g = jnp.pad(g, ((0, 0), (0, blocks * rows - p), (0, 0), (0, 0)))
  bottom = max((blocks * rows - 1) * sh + kh - top - x.shape[1], 0)
  x = jnp.pad(x, ((0, 0), (top, bottom), columns, (0, 0)))
  most = max(_CACHED // (x.size // b), 1)
  images = max(n for n in range(1, b + 1) if b % n == 0 and n <= most)

  def kernel_row(x: jax.Array, g: jax.Array, i: jax.Array) -> jax.Array:
    height = (blocks * rows - 1) * sh + 1
    x = lax.dynamic_slice_in_dim(x, i, height, axis=1)
    x, g = x.astype(jnp.float32), g.astype(jnp.float32)
    sums = [
      functools.reduce(
        jnp.add,
        [
          x[:, r * sh :: rows * sh, j : j + (q - 1) * sw + 1 : sw]
          * g[:, r::rows]
          for r in range(rows)
        ],
      )
      for j in range(kw)
    ]
    return jnp.sum(jnp.stack(sums).reshape(kw, -1, c), 1)

  def add_images(t: jax.Array, total: jax.Array) -> jax.Array:
    part = [
      lax.dynamic_slice_in_dim(v, t * images, images, axis=0) for v in (x, g)
    ]
    return total + lax.map(functools.partial(kernel_row, *part), jnp.arange(kh))

  zeros = jnp.zeros((kh, kw, c), jnp.float32)
  zeros = meshes.varying(zeros, meshes.manual_axes(x, g))
  sums = lax.fori_loop(0, b // images, add_images, zeros)
  return sums[:, :, None].astype(g.dtype)
