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
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtlmoe_jax.models.layers import Conv, drop_path
from mtlmoe_jax.models.normalization import Norm, normalised

# As in torchvision.
EPSILON = 1e-5
_STEM = 64
# A block gives this many times the channels of its 3x3 convolution.
_EXPANSION = 4


@dataclasses.dataclass(frozen=True)
class ResNetSizes:
  """Sizes of one network.

  Attributes:
    blocks: of each stage.
  """

  blocks: tuple[int, ...]
  family = "resnet"
  epsilon = EPSILON

  @property
  def last(self) -> int:
    """Number of the last unit."""
    return len(self.blocks)

  @property
  def last_stride(self) -> int:
    """Number of the last unit whose output is smaller than its input."""
    return len(self.blocks)

  @property
  def features(self) -> int:
    """Channels of the last map."""
    return _STEM * 2 ** (len(self.blocks) - 1) * _EXPANSION

  def network(self, **options: Any) -> "ResNet":
    """The module; see its attributes."""
    return ResNet(self, **options)


class ResNet(nn.Module):
  """Units `first` to `last` of a network, without classifier.

  Attributes:
    variant: the sizes.
    first: number of the first unit (0: the stem, which takes the image).
    last: number of the last unit; None is the last stage.
    norm: "frozen", "batch" or "group" (see `normalization.Norm`).
    drop_path: largest rate of stochastic depth: block i of M drops its branch
      with i / M of it. Needs the random stream "dropout" in training.
    lateral: also return the map that enters unit `variant.last_stride`.
    dtype: type of the computation.
  """

  variant: ResNetSizes
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
    total = sum(variant.blocks)
    finer = None
    for unit in range(self.first, last + 1):
      if unit == variant.last_stride:
        finer = x
      if unit == 0:
        conv = functools.partial(conv_norm, self.norm, self.dtype, mask, train)
        x = nn.relu(conv("stem", x, _STEM, 7, 2))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        continue
      for i in range(variant.blocks[unit - 1]):
        x = Bottleneck(
          _STEM * 2 ** (unit - 1),
          strides=2 if unit > 1 and i == 0 else 1,
          norm=self.norm,
          drop_path=self.drop_path
          * (sum(variant.blocks[: unit - 1]) + i)
          / total,
          dtype=self.dtype,
          name=f"stage_{unit}_block_{i:02d}",
        )(x, mask, train)
    return (x, finer) if self.lateral else x


class Bottleneck(nn.Module):
  """Residual block of 1x1, 3x3 and 1x1 convolutions.

  Attributes:
    width: channels of the 3x3 convolution; the block gives four times as many.
    strides: of the 3x3 convolution.
    norm: see `normalization.Norm`.
    drop_path: rate of stochastic depth of this block.
    dtype: type of the computation.
  """

  width: int
  strides: int
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
    conv = functools.partial(conv_norm, self.norm, self.dtype, mask, train)
    features = self.width * _EXPANSION
    y = nn.relu(conv("first", x, self.width, 1, 1))
    y = nn.relu(conv("second", y, self.width, 3, self.strides))
    # Nothing rectifies the branch before it is added, hence gain 1.
    y = conv("third", y, features, 1, 1, gain=1.0)
    if x.shape[-1] != features or self.strides > 1:
      x = conv("shortcut", x, features, 1, self.strides, gain=1.0)
    if train and self.drop_path > 0.0:
      y = drop_path(y, self.make_rng("dropout"), self.drop_path)
    return nn.relu(x + y)


def conv_norm(
  norm: str,
  dtype: Any,
  mask: jax.Array | None,
  train: bool,
  name: str,
  x: jax.Array,
  features: int,
  kernel: int,
  strides: int,
  gain: float = 2.0,
) -> jax.Array:
  """A convolution with PyTorch's padding, and its norm."""
  conv = Conv(
    features,
    kernel,
    strides,
    padding="TORCH",
    gain=gain,
    dtype=dtype,
    name=f"{name}_conv",
  )
  after = Norm(norm, features, EPSILON, dtype=dtype, name=f"{name}_norm")
  return normalised(conv, after, x, mask, train)
