"""Vision transformers and DINOv2, whole or cut between blocks.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021); Oquab et al.,
"DINOv2" (2023); Darcet et al., "Vision Transformers Need Registers" (ICLR
2024); as in timm (`vit_*_patch16_224`, `vit_*_patch14_dinov2`,
`vit_*_patch14_reg4_dinov2`).

Unit 0 cuts the image into patches, units 1 ... 4 are quarters of the blocks,
unit 5 is the last norm. Between units go tokens, at the end a map: each place
has its own patch's features and, after them, those of the class token, so that
the average of the map is what linear probes of DINOv2 take.
Parameters: `patches`, `position` [G, G, C], `prefix` [P, C], `block_00` ...
(`layernorm_1`, `attention/qkv`, `attention/out`, `gamma_1`, `layernorm_2`,
`up`, `down`, `gamma_2`), `layernorm`. The position of the class token is part
of its prefix: only their sum matters. Layer norms see one token, so the option
`norm` means nothing here.

Letters: B images, S side of an image, G side of the grid of positions, P prefix
tokens (class token first), T tokens = P + (S / patch)^2, C channels.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models.backbones.units import Sizes, Units
from mtlmoe_jax.models.layers import Conv, dense, drop_branch, layer_norm

_EXPANSION = 4
_STAGES = 4
# Initial scale of each branch where there is one (DINOv2).
_GAMMA = 1e-5


class ViT(Units):
  """Units of a network.

  Its attributes are those of `Units`; `lateral` must be False, as all maps have
  the same size. Unit 0 takes the normalised square image [B, S, S, 3], the
  others take tokens [B, T, C]. The last gives a map [B, S / patch, S / patch,
  2 C].
  """

  def unit(
    self, number: int, x: jax.Array, mask: jax.Array | None, train: bool
  ) -> jax.Array:
    """The patches, a quarter of the blocks, or the last norm.

    Raises:
      InputError: an image that is not square or no whole number of patches.
    """
    variant = self.variant
    if number == 0:
      return self._tokens(x)
    if number == variant.last:
      x = layer_norm(self.dtype, "layernorm")(x)
      return _as_map(x, variant.prefix)
    for block in variant.numbers(number):
      x = ViTBlock(
        variant.heads,
        variant.scaled,
        self.rate(block),
        dtype=self.dtype,
        name=f"block_{block:02d}",
      )(x, train)
    return x

  def _tokens(self, x: jax.Array) -> jax.Array:
    variant = self.variant
    side = x.shape[1] // variant.patch
    if x.shape[1] != x.shape[2] or x.shape[1] % variant.patch:
      raise InputError(
        f"image of {x.shape[1]} x {x.shape[2]} pixels: a network with patches "
        f"of {variant.patch} needs squares of a multiple of it, such as "
        f"config.data.image_size={max(1, side) * variant.patch}"
      )
    x = Conv(
      variant.width,
      variant.patch,
      variant.patch,
      padding="VALID",
      use_bias=True,
      gain=1.0,
      dtype=self.dtype,
      name="patches",
    )(x)
    init = nn.initializers.normal(0.02)
    shape = (variant.grid, variant.grid, variant.width)
    position = interpolated(self.param("position", init, shape), side)
    prefix = self.param("prefix", init, (variant.prefix, variant.width))
    x = (x + position.astype(self.dtype)).reshape(x.shape[0], -1, variant.width)
    prefix = jnp.broadcast_to(
      prefix.astype(self.dtype), (x.shape[0], *prefix.shape)
    )
    return jnp.concatenate([prefix, x], 1)


@dataclasses.dataclass(frozen=True)
class ViTSizes(Sizes):
  """Sizes of one network.

  Attributes:
    width: C.
    depth: number of blocks, a multiple of 4.
    heads: of the attention.
    patch: side of a patch, pixels.
    grid: G, of the published positions; others are interpolated.
    registers: prefix tokens beside the class token.
    scaled: True where each branch is multiplied by a learned gamma.
  """

  width: int
  depth: int
  heads: int
  patch: int
  grid: int
  registers: int = 0
  scaled: bool = False
  family = "vit"
  module = ViT

  @property
  def blocks(self) -> tuple[int, ...]:
    """Number of blocks of each quarter."""
    return (self.depth // _STAGES,) * _STAGES

  @property
  def last_stride(self) -> int:
    """Number of the last unit whose output is smaller than its input."""
    return 0

  @property
  def features(self) -> int:
    """Channels of the last map: of a patch and of the class token."""
    return 2 * self.width

  @property
  def prefix(self) -> int:
    """P."""
    return 1 + self.registers


def interpolated(position: jax.Array, side: int) -> jax.Array:
  """Positions [G, G, C] at another grid [side, side, C].

  Bicubic with antialiasing, as PyTorch's `interpolate(antialias=True)`.
  """
  if position.shape[0] == side:
    return position
  return jax.image.resize(
    position, (side, side, position.shape[-1]), "cubic", antialias=True
  )


def _as_map(x: jax.Array, prefix: int) -> jax.Array:
  side = math.isqrt(x.shape[1] - prefix)
  patches = x[:, prefix:].reshape(x.shape[0], side, side, -1)
  token = jnp.broadcast_to(x[:, None, None, 0], patches.shape)
  return jnp.concatenate([patches, token], -1)


class ViTBlock(nn.Module):
  """Self-attention and an MLP, each behind a layer norm, as residuals.

  Attributes:
    heads: of the attention.
    scaled: multiplies each branch by a learned gamma.
    drop_path: rate of stochastic depth of this block.
    dtype: type of the computation.
  """

  heads: int
  scaled: bool = False
  drop_path: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps tokens [B, T, C] to the same shape."""
    width = x.shape[-1]

    def add(x, y, name):
      if self.scaled:
        gamma = self.param(name, nn.initializers.constant(_GAMMA), (width,))
        y = y * gamma.astype(self.dtype)
      return x + drop_branch(self, y, train)

    y = layer_norm(self.dtype, "layernorm_1")(x)
    y = Attention(self.heads, dtype=self.dtype, name="attention")(y)
    x = add(x, y, "gamma_1")
    y = layer_norm(self.dtype, "layernorm_2")(x)
    y = dense(width * _EXPANSION, 2.0, self.dtype, "up")(y)
    y = dense(width, 1.0, self.dtype, "down")(nn.gelu(y, approximate=False))
    return add(x, y, "gamma_2")


class Attention(nn.Module):
  """Multi-head self-attention (Vaswani et al. 2017) over all tokens.

  Attributes:
    heads: C is a multiple of it.
    dtype: type of the computation; the softmax is float32.
  """

  heads: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, T, C] to the same shape."""
    b, t, width = x.shape
    qkv = dense(3 * width, 1.0, self.dtype, "qkv")(x)
    qkv = qkv.reshape(b, t, 3, self.heads, width // self.heads)
    out = jax.nn.dot_product_attention(*jnp.moveaxis(qkv, 2, 0))
    return dense(width, 1.0, self.dtype, "out")(out.reshape(b, t, width))
