"""EfficientNet B0-B7 and EfficientNet-Lite0-4, whole or cut at a stage.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks" (ICML 2019), and the published Lite variants: no squeeze-and-excite,
relu6 for swish, and stem, head and the repeats of the first and last stage not
scaled. With TensorFlow's padding and epsilon, as in the published weights and
in timm's `tf_efficientnet_*`, or with PyTorch's (`efficientnet_*`).

A network is a row of units: unit 0 the stem, units 1 ... M the stages of
blocks (M = 7 but for the small ones), unit M + 1 the head convolution.
Parameters have the same flat names in whatever part they are: `stem_conv`,
`stem_norm`, `block_00` ... (counted over the whole network), `head_conv`,
`head_norm`; in a block `expand_conv`, `expand_norm`, `depthwise_conv`,
`depthwise_norm`, `se_reduce`, `se_expand`, `project_conv`, `project_norm`.

Letters: B images, H W map size, C channels.
"""

import dataclasses
import functools
import math
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
from mtlmoe_jax.models.layers import Conv, drop_branch, relu6
from mtlmoe_jax.models.normalization import EPSILON


@dataclasses.dataclass(frozen=True)
class Block:
  """One inverted residual block: its index and sizes.

  Attributes:
    index: place in the whole network, from 0.
    channels: input channels.
    features: output channels.
    expand: factor of the hidden width.
    kernel: size of the depthwise kernel.
    strides: of the depthwise convolution.
  """

  index: int
  channels: int
  features: int
  expand: int
  kernel: int
  strides: int

  @property
  def name(self) -> str:
    """Parameter name, such as block_03."""
    return f"block_{self.index:02d}"


class EfficientNet(Units):
  """Units of a network; its attributes are those of `Units`."""

  sizes: "EfficientNetSizes"

  def unit(
    self, number: int, x: jax.Array, mask: jax.Array | None, train: bool
  ) -> tuple[jax.Array, TokenRoutings]:
    """The stem, a stage of blocks, or the head."""
    sizes = self.sizes
    conv = convolutions(self, mask, train)
    if number == 0:
      return sizes.act(conv("stem", x, sizes.stem, 3, 2)), {}
    if number == sizes.last:
      return sizes.act(conv("head", x, sizes.head)), {}
    for block in sizes.stages[number - 1]:
      x = MBConv(
        block,
        sizes,
        norm=self.norm,
        drop_path=self.rate(block.index),
        dtype=self.dtype,
        name=block.name,
      )(x, mask, train)
    return x, {}


@dataclasses.dataclass(frozen=True)
class EfficientNetSizes(Sizes):
  """Sizes of one network.

  Attributes:
    stem: channels of the stem convolution.
    stages: the blocks of each stage.
    head: channels of the head convolution.
    lite: True for relu6 and no squeeze-and-excite.
    padding: "SAME" (TensorFlow's) or "TORCH", see `conv2d`.
    epsilon: of the batch norms.
  """

  stem: int
  stages: tuple[tuple[Block, ...], ...]
  head: int
  lite: bool
  padding: str = "SAME"
  epsilon: float = EPSILON
  family = "efficientnet"
  module = EfficientNet

  @property
  def blocks(self) -> tuple[int, ...]:  # type: ignore[override]
    """Number of blocks of each stage."""
    return tuple(len(stage) for stage in self.stages)

  @property
  def last_stride(self) -> int:
    """Number of the last unit whose output is smaller than its input."""
    strided = [
      unit
      for unit, blocks in enumerate(self.stages, 1)
      if any(block.strides > 1 for block in blocks)
    ]
    return max(strided, default=0)

  @property
  def features(self) -> int:
    """Channels of the last map, after the head convolution."""
    return self.head

  def act(self, x: jax.Array) -> jax.Array:
    """The activation function."""
    return relu6(x) if self.lite else nn.swish(x)


# expand, kernel, strides, repeats, features of each stage.
Stages = tuple[tuple[int, int, int, int, int], ...]

# Those of B0.
_B0 = (
  (1, 3, 1, 1, 16),
  (6, 3, 2, 2, 24),
  (6, 5, 2, 2, 40),
  (6, 3, 2, 3, 80),
  (6, 5, 1, 3, 112),
  (6, 5, 2, 4, 192),
  (6, 3, 1, 1, 320),
)


def make_sizes(
  stem: int,
  stages: Stages,
  head: int,
  lite: bool,
) -> EfficientNetSizes:
  """Writes out the blocks of a network.

  Args:
    stem: channels of the stem.
    stages: (expand, kernel, strides, repeats, features) of each stage.
    head: channels of the head convolution.
    lite: relu6 and no squeeze-and-excite.
  """
  out, channels, index = [], stem, 0
  for expand, kernel, strides, repeats, features in stages:
    blocks = []
    for repeat in range(repeats):
      step = strides if repeat == 0 else 1
      blocks.append(Block(index, channels, features, expand, kernel, step))
      channels, index = features, index + 1
    out.append(tuple(blocks))
  return EfficientNetSizes(stem, tuple(out), head, lite)


def scaled_sizes(width: float, depth: float, lite: bool) -> EfficientNetSizes:
  """B0 scaled in width and depth (Tan and Le 2019, section 3.3)."""
  stages = []
  for i, (expand, kernel, strides, repeats, features) in enumerate(_B0):
    if not (lite and i in (0, len(_B0) - 1)):
      repeats = math.ceil(repeats * depth)
    features = round_channels(features * width)
    stages.append((expand, kernel, strides, repeats, features))
  end = 1.0 if lite else width
  stem, head = round_channels(32 * end), round_channels(1280 * end)
  return make_sizes(stem, tuple(stages), head, lite)


def round_channels(channels: float) -> int:
  """The nearest multiple of 8, but never more than 10 % below."""
  rounded = max(8, int(channels + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * channels else rounded


class MBConv(nn.Module):
  """Inverted residual block, with squeeze-and-excite unless `lite`.

  Sandler et al. 2018 (MobileNetV2), Hu et al. 2018; the squeeze is a quarter
  of the block's input channels.

  Attributes:
    block: the sizes.
    sizes: of the network.
    norm: see `normalization.Norm`.
    drop_path: rate of stochastic depth of this block.
    dtype: type of the computation.
  """

  block: Block
  sizes: EfficientNetSizes
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
    """Maps [B, H, W, C] to [B, H / strides, W / strides, features]."""
    block, act = self.block, self.sizes.act
    hidden = block.channels * block.expand
    conv = convolutions(self, mask, train)
    y = x
    if block.expand > 1:
      y = act(conv("expand", y, hidden))
    y = act(conv("depthwise", y, hidden, block.kernel, block.strides, hidden))
    if not self.sizes.lite:
      plain = functools.partial(Conv, use_bias=True, dtype=self.dtype)
      squeeze = jnp.mean(y, (1, 2), keepdims=True)
      width = max(1, block.channels // 4)
      squeeze = act(plain(width, name="se_reduce")(squeeze))
      y = y * nn.sigmoid(plain(hidden, name="se_expand")(squeeze))
    # Nothing rectifies the projection, hence gain 1.
    y = conv("project", y, block.features, gain=1.0)
    if block.strides > 1 or block.channels != block.features:
      return y
    return x + drop_branch(self, y, train)
