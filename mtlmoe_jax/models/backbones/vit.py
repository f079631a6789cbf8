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
`up` and `down` or a mixture of them, `moe`, `gamma_2`), `layernorm`. The
position of the class token is part of its prefix: only their sum matters. Layer
norms see one token, so the option `norm` means nothing here.

Letters: B images, S side of an image, G side of the grid of positions, P prefix
tokens (class token first), T tokens = P + (S / patch)^2, C channels.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models.backbones.units import Sizes, TokenRoutings, Units
from mtlmoe_jax.models.layers import Conv, dense, drop_branch, layer_norm
from mtlmoe_jax.models.moe_layer import MoEMlp, TokenRouting

_EXPANSION = 4
_STAGES = 4
# Initial scale of each branch where there is one (DINOv2).
_GAMMA = 1e-5
# In the names of parameters that each token expert has, and of token gates.
TOKEN_EXPERTS = "/moe/experts/"
TOKEN_GATE = "/moe/gate/"


@dataclasses.dataclass(frozen=True)
class TokenMoE:
  """The blocks whose MLP is a mixture of experts over tokens (V-MoE).

  Attributes:
    blocks: their numbers, from 0.
    options: attributes of their `MoEMlp`.
  """

  blocks: tuple[int, ...]
  options: FrozenDict[str, Any]


class ViT(Units):
  """Units of a network.

  Unit 0 takes the normalized square image [B, S, S, 3], the others take tokens
  [B, T, C]. The last gives a map [B, S / patch, S / patch, 2 C].

  Attributes:
    token_moe: the V-MoE layers, None for none. The others are those of `Units`.
  """

  sizes: "ViTSizes"
  token_moe: TokenMoE | None = None

  def unit(
    self, number: int, x: jax.Array, mask: jax.Array | None, train: bool
  ) -> tuple[jax.Array, TokenRoutings]:
    """The patches, a quarter of the blocks, or the last norm.

    Raises:
      InputError: an image that is not square or no whole number of patches.
    """
    sizes, moe = self.sizes, self.token_moe
    if number == 0:
      return self._tokens(x), {}
    if number == sizes.last:
      x = layer_norm(self.dtype, "layernorm")(x)
      return _as_map(x, sizes.prefix), {}
    routings: TokenRoutings = {}
    for block in sizes.numbers(number):
      name = f"block_{block:02d}"
      x, routing = ViTBlock(
        sizes.heads,
        sizes.scaled,
        self.rate(block),
        moe.options if moe and block in moe.blocks else None,
        dtype=self.dtype,
        name=name,
      )(x, mask, train)
      if routing is not None:
        routings[name] = routing
    return x, routings

  def _tokens(self, x: jax.Array) -> jax.Array:
    sizes = self.sizes
    side = x.shape[1] // sizes.patch
    if x.shape[1] != x.shape[2] or x.shape[1] % sizes.patch:
      raise InputError(
        f"image of {x.shape[1]} x {x.shape[2]} pixels: a network with patches "
        f"of {sizes.patch} needs squares of a multiple of it, such as "
        f"config.data.image_size={max(1, side) * sizes.patch}"
      )
    x = Conv(
      sizes.width,
      sizes.patch,
      sizes.patch,
      padding="VALID",
      use_bias=True,
      gain=1.0,
      dtype=self.dtype,
      name="patches",
    )(x)
    init = nn.initializers.normal(0.02)
    shape = (sizes.grid, sizes.grid, sizes.width)
    position = interpolated(self.param("position", init, shape), side)
    prefix = self.param("prefix", init, (sizes.prefix, sizes.width))
    x = (x + position.astype(self.dtype)).reshape(x.shape[0], -1, sizes.width)
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
  def blocks(self) -> tuple[int, ...]:  # type: ignore[override]
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
    mixture: attributes of the `MoEMlp` in place of the MLP; None: the MLP.
    dtype: type of the computation.
  """

  heads: int
  scaled: bool = False
  drop_path: float = 0.0
  mixture: FrozenDict[str, Any] | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, TokenRouting | None]:
    """Maps tokens [B, T, C] to the same shape.

    Args:
      x: the tokens.
      mask: [B] bool, the images whose tokens count in a mixture; None: all.
      train: drop paths; noise and limited capacity of a mixture.

    Returns:
      The tokens and the routing of the mixture, None without one.
    """
    width = x.shape[-1]

    def add(x: jax.Array, y: jax.Array, name: str) -> jax.Array:
      if self.scaled:
        gamma = self.param(name, nn.initializers.constant(_GAMMA), (width,))
        y = y * gamma.astype(self.dtype)
      return x + drop_branch(self, y, train)

    y = layer_norm(self.dtype, "layernorm_1")(x)
    y = Attention(self.heads, dtype=self.dtype, name="attention")(y)
    x = add(x, y, "gamma_1")
    y = layer_norm(self.dtype, "layernorm_2")(x)
    hidden, routing = width * _EXPANSION, None
    if self.mixture is None:
      y = dense(hidden, 2.0, self.dtype, "up")(y)
      y = dense(width, 1.0, self.dtype, "down")(nn.gelu(y, approximate=False))
    else:
      y, routing = MoEMlp(
        hidden=hidden,
        approximate=False,
        dtype=self.dtype,
        name="moe",
        **self.mixture,
      )(y, train, mask)
    return add(x, y, "gamma_2"), routing


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
