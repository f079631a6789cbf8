"""ConvNeXt, whole or cut at a stage.

Liu, Mao, Wu, Feichtenhofer, Darrell and Xie, "A ConvNet for the 2020s" (CVPR
2022), as in timm (`convnext_tiny` ... `convnext_large`).

Unit 0 is the stem, units 1 ... 4 are the stages, unit 5 the norm in front of
the classifier, taken in each place of the map (timm takes it of the average).
Parameters: `stem`, `stem_layernorm`, `stage_2_shrink`, `stage_2_layernorm`,
`stage_1_block_00` ... (`depthwise`, `layernorm`, `up`, `down`, `gamma`),
`head_layernorm`. Layer norms see one place of one image, so the option `norm`
means nothing here.

Letters: B images, H W map size, C channels.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtlmoe_jax.models.backbones.units import Sizes, TokenRoutings, Units
from mtlmoe_jax.models.layers import Conv, dense, drop_branch, layer_norm

_EXPANSION = 4
# Each block starts as almost nothing beside its input (Touvron et al. 2021).
_GAMMA = 1e-6


class ConvNeXt(Units):
  """Units of a network; its attributes are those of `Units`."""

  sizes: "ConvNeXtSizes"

  def unit(
    self, number: int, x: jax.Array, mask: jax.Array | None, train: bool
  ) -> tuple[jax.Array, TokenRoutings]:
    """The stem, a stage of blocks, or the last norm."""
    sizes = self.sizes
    if number == 0:
      x = self._patches("stem", x, sizes.widths[0], 4)
      return layer_norm(self.dtype, "stem_layernorm")(x), {}
    if number == sizes.last:
      return layer_norm(self.dtype, "head_layernorm")(x), {}
    if number > 1:
      x = layer_norm(self.dtype, f"stage_{number}_layernorm")(x)
      width = sizes.widths[number - 1]
      x = self._patches(f"stage_{number}_shrink", x, width, 2)
    for i, block in enumerate(sizes.numbers(number)):
      x = ConvNeXtBlock(
        self.rate(block),
        dtype=self.dtype,
        name=f"stage_{number}_block_{i:02d}",
      )(x, train)
    return x, {}

  def _patches(
    self, name: str, x: jax.Array, features: int, size: int
  ) -> jax.Array:
    return Conv(
      features,
      size,
      size,
      padding="VALID",
      use_bias=True,
      gain=1.0,
      dtype=self.dtype,
      name=name,
    )(x)


@dataclasses.dataclass(frozen=True)
class ConvNeXtSizes(Sizes):
  """Sizes of one network.

  Attributes:
    blocks: of each stage.
    widths: channels of each stage.
  """

  blocks: tuple[int, ...]
  widths: tuple[int, ...]
  family = "convnext"
  module = ConvNeXt

  @property
  def features(self) -> int:
    """Channels of the last map."""
    return self.widths[-1]


class ConvNeXtBlock(nn.Module):
  """Depthwise 7x7 convolution and an MLP over channels, as a residual.

  Attributes:
    drop_path: rate of stochastic depth of this block.
    dtype: type of the computation.
  """

  drop_path: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps [B, H, W, C] to the same shape."""
    width = x.shape[-1]
    y = Conv(
      width,
      7,
      groups=width,
      padding="TORCH",
      use_bias=True,
      gain=1.0,
      dtype=self.dtype,
      name="depthwise",
    )(x)
    y = layer_norm(self.dtype, "layernorm")(y)
    y = dense(width * _EXPANSION, 2.0, self.dtype, "up")(y)
    y = dense(width, 1.0, self.dtype, "down")(nn.gelu(y, approximate=False))
    gamma = self.param("gamma", nn.initializers.constant(_GAMMA), (width,))
    return x + drop_branch(self, y * gamma.astype(self.dtype), train)
