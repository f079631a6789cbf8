"""EfficientNet B0-B7 and EfficientNet-Lite0-4, whole or cut at a stage.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks" (ICML 2019), and the published Lite variants: no squeeze-and-excite,
relu6 for swish, and stem, head and the repeats of the first and last stage not
scaled. TensorFlow "SAME" padding, as in the published weights.

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

from mtlmoe_jax.models.layers import Conv, drop_path, relu6
from mtlmoe_jax.models.normalization import EPSILON, Norm, normalised


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


@dataclasses.dataclass(frozen=True)
class Variant:
  """Sizes of one network.

  Attributes:
    stem: channels of the stem convolution.
    stages: the blocks of each stage.
    head: channels of the head convolution.
    lite: True for relu6 and no squeeze-and-excite.
  """

  stem: int
  stages: tuple[tuple[Block, ...], ...]
  head: int
  lite: bool
  family = "efficientnet"
  epsilon = EPSILON

  @property
  def features(self) -> int:
    """Channels of the last map, after the head convolution."""
    return self.head

  def network(self, **options: Any) -> "EfficientNet":
    """The module; see its attributes."""
    return EfficientNet(self, **options)

  @property
  def last(self) -> int:
    """Number of the last unit, the head convolution."""
    return len(self.stages) + 1

  @property
  def last_stride(self) -> int:
    """Number of the last unit whose output is smaller than its input."""
    strided = [
      unit
      for unit, blocks in enumerate(self.stages, 1)
      if any(block.strides > 1 for block in blocks)
    ]
    return max(strided, default=0)


# expand, kernel, strides, repeats, features of each stage of B0.
_B0 = (
  (1, 3, 1, 1, 16),
  (6, 3, 2, 2, 24),
  (6, 5, 2, 2, 40),
  (6, 3, 2, 3, 80),
  (6, 5, 1, 3, 112),
  (6, 5, 2, 4, 192),
  (6, 3, 1, 1, 320),
)


def make_variant(
  stem: int,
  stages: tuple[tuple[int, int, int, int, int], ...],
  head: int,
  lite: bool,
) -> Variant:
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
  return Variant(stem, tuple(out), head, lite)


def scaled_variant(width: float, depth: float, lite: bool) -> Variant:
  """B0 scaled in width and depth (Tan and Le 2019, section 3.3)."""
  stages = []
  for i, (expand, kernel, strides, repeats, features) in enumerate(_B0):
    if not (lite and i in (0, len(_B0) - 1)):
      repeats = math.ceil(repeats * depth)
    features = round_channels(features * width)
    stages.append((expand, kernel, strides, repeats, features))
  end = 1.0 if lite else width
  stem, head = round_channels(32 * end), round_channels(1280 * end)
  return make_variant(stem, tuple(stages), head, lite)


def round_channels(channels: float) -> int:
  """The nearest multiple of 8, but never more than 10 % below."""
  rounded = max(8, int(channels + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * channels else rounded


class EfficientNet(nn.Module):
  """Units `first` to `last` of a network, without classifier.

  Attributes:
    variant: the sizes.
    first: number of the first unit (0: the stem, which takes the image).
    last: number of the last unit; None is the head convolution.
    norm: "frozen", "batch" or "group" (see `normalization.Norm`).
    drop_path: largest rate of stochastic depth: block i of M drops its branch
      with i / M of it. Needs the random stream "dropout" in training.
    lateral: also return the map that enters unit `variant.last_stride`.
    dtype: type of the computation.
  """

  variant: Variant
  first: int = 0
  last: int | None = None
  norm: str = "frozen"
  drop_path: float = 0.0
  lateral: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None = None,
    train: bool = False,
  ) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Maps the input of unit `first` to the output of unit `last`.

    Args:
      x: [B, H, W, C]; for unit 0 the normalised image.
      mask: [B] bool, the rows that count in batch statistics; None: all.
      train: use and update batch statistics, drop paths.

    Returns:
      [B, H', W', C'] of type `dtype`; with `lateral` a pair of it and the
      finer map [B, 2 H', 2 W', C''].
    """
    variant = self.variant
    last = variant.last if self.last is None else self.last
    act = relu6 if variant.lite else nn.swish

    def unit_conv(name, x, *sizes):
      conv = Conv(*sizes, dtype=self.dtype, name=f"{name}_conv")
      norm = Norm(self.norm, sizes[0], dtype=self.dtype, name=f"{name}_norm")
      return act(normalised(conv, norm, x, mask, train))

    finer = None
    for unit in range(self.first, last + 1):
      if unit == variant.last_stride:
        finer = x
      if unit == 0:
        x = unit_conv("stem", x, variant.stem, 3, 2)
      elif unit == variant.last:
        x = unit_conv("head", x, variant.head)
      else:
        for block in variant.stages[unit - 1]:
          x = self._block(block)(x, mask, train)
    return (x, finer) if self.lateral else x

  def _block(self, block: Block) -> nn.Module:
    total = sum(len(stage) for stage in self.variant.stages)
    return MBConv(
      block,
      lite=self.variant.lite,
      norm=self.norm,
      drop_path=self.drop_path * block.index / total,
      dtype=self.dtype,
      name=block.name,
    )


class MBConv(nn.Module):
  """Inverted residual block, with squeeze-and-excite unless `lite`.

  Sandler et al. 2018 (MobileNetV2), Hu et al. 2018; the squeeze is a quarter
  of the block's input channels.

  Attributes:
    block: the sizes.
    lite: relu6 and no squeeze-and-excite.
    norm: see `normalization.Norm`.
    drop_path: rate of stochastic depth of this block.
    dtype: type of the computation.
  """

  block: Block
  lite: bool
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
    block = self.block
    act = relu6 if self.lite else nn.swish
    conv = functools.partial(Conv, dtype=self.dtype)
    hidden = block.channels * block.expand

    def conv_norm(name, x, features, *sizes, **options):
      norm = Norm(self.norm, features, dtype=self.dtype, name=f"{name}_norm")
      own = conv(features, *sizes, name=f"{name}_conv", **options)
      return normalised(own, norm, x, mask, train)

    y = x
    if block.expand > 1:
      y = act(conv_norm("expand", y, hidden))
    y = act(
      conv_norm("depthwise", y, hidden, block.kernel, block.strides, hidden)
    )
    if not self.lite:
      squeeze = jnp.mean(y, (1, 2), keepdims=True)
      width = max(1, block.channels // 4)
      squeeze = act(conv(width, use_bias=True, name="se_reduce")(squeeze))
      squeeze = conv(hidden, use_bias=True, name="se_expand")(squeeze)
      y = y * nn.sigmoid(squeeze)
    # Nothing rectifies the projection, hence gain 1.
    y = conv_norm("project", y, block.features, gain=1.0)
    if block.strides > 1 or block.channels != block.features:
      return y
    if train and self.drop_path > 0.0:
      y = drop_path(y, self.make_rng("dropout"), self.drop_path)
    return x + y
