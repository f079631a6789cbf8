"""ResNet-50 and -101, whole or cut at a stage.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (CVPR
2016), with the stride in the 3x3 convolution and PyTorch's padding, as in
torchvision and timm (`resnet50`, `resnet101`).

Unit 0 is the stem (convolution and max pooling), units 1 ... 4 are the stages.
Parameters: `stem_conv`, `stem_norm`, `stage_1_block_00` ...; in a block
`first_conv`, `first_norm`, `second_...`, `third_...` and, where the shape
changes, `shortcut_conv`, `shortcut_norm`.

Letters: B images, H W map size, C channels.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtlmoe_jax.models.backbones.units import (
  Sizes,
  TokenRoutings,
  Units,
  convolutions,
)
from mtlmoe_jax.models.layers import drop_branch

_STEM = 64
# A block gives this many times the channels of its 3x3 convolution.
_EXPANSION = 4


class ResNet(Units):
  """Units of a network; its attributes are those of `Units`."""

  sizes: "ResNetSizes"

  def unit(
    self, number: int, x: jax.Array, mask: jax.Array | None, train: bool
  ) -> tuple[jax.Array, TokenRoutings]:
    """The stem, or a stage of blocks."""
    if number == 0:
      x = convolutions(self, mask, train)("stem", x, _STEM, 7, 2)
      return nn.max_pool(nn.relu(x), (3, 3), (2, 2), ((1, 1), (1, 1))), {}
    for i, block in enumerate(self.sizes.numbers(number)):
      x = Bottleneck(
        _STEM * 2 ** (number - 1),
        2 if number > 1 and i == 0 else 1,
        self.sizes,
        norm=self.norm,
        drop_path=self.rate(block),
        dtype=self.dtype,
        name=f"stage_{number}_block_{i:02d}",
      )(x, mask, train)
    return x, {}


@dataclasses.dataclass(frozen=True)
class ResNetSizes(Sizes):
  """Sizes of one network.

  Attributes:
    blocks: of each stage.
  """

  blocks: tuple[int, ...]
  family = "resnet"
  module = ResNet
  ends = 0
  # As in torchvision.
  padding = "TORCH"
  epsilon = 1e-5

  @property
  def features(self) -> int:
    """Channels of the last map."""
    return _STEM * 2 ** (len(self.blocks) - 1) * _EXPANSION


class Bottleneck(nn.Module):
  """Residual block of 1x1, 3x3 and 1x1 convolutions.

  Attributes:
    width: channels of the 3x3 convolution; the block gives four times as many.
    strides: of the 3x3 convolution.
    sizes: of the network.
    norm: see `normalization.Norm`.
    drop_path: rate of stochastic depth of this block.
    dtype: type of the computation.
  """

  width: int
  strides: int
  sizes: ResNetSizes
  norm: str
  drop_path: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None = None,
    train: bool = False,
  ) -> jax.Array:
    """Maps [B, H, W, C] to [B, H / strides, W / strides, 4 width]."""
    conv = convolutions(self, mask, train)
    features = self.width * _EXPANSION
    y = nn.relu(conv("first", x, self.width))
    y = nn.relu(conv("second", y, self.width, 3, self.strides))
    # Nothing rectifies the branch before it is added, hence gain 1.
    y = conv("third", y, features, gain=1.0)
    if x.shape[-1] != features or self.strides > 1:
      x = conv("shortcut", x, features, 1, self.strides, gain=1.0)
    return nn.relu(x + drop_branch(self, y, train))
