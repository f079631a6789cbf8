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

from mtlmoe_jax.models.layers import Conv, dense, drop_path, layer_norm

_EXPANSION = 4
# Each block starts as almost nothing beside its input (Touvron et al. 2021).
_GAMMA = 1e-6


@dataclasses.dataclass(frozen=True)
class ConvNeXtSizes:
  """Sizes of one network.

  Attributes:
    blocks: of each stage.
    widths: channels of each stage.
  """

  blocks: tuple[int, ...]
  widths: tuple[int, ...]
  family = "convnext"
  epsilon = None  # no batch norms

  @property
  def last(self) -> int:
    """Number of the last unit, the norm."""
    return len(self.blocks) + 1

  @property
  def last_stride(self) -> int:
    """Number of the last unit whose output is smaller than its input."""
    return len(self.blocks)

  @property
  def features(self) -> int:
    """Channels of the last map."""
    return self.widths[-1]

  def network(self, **options: Any) -> "ConvNeXt":
    """The module; see its attributes."""
    return ConvNeXt(self, **options)


class ConvNeXt(nn.Module):
  """Units `first` to `last` of a network, without classifier.

  Attributes:
    variant: the sizes.
    first: number of the first unit (0: the stem, which takes the image).
    last: number of the last unit; None is the norm.
    norm: not used, see the head of the file.
    drop_path: largest rate of stochastic depth: block i of M drops its branch
      with i / M of it. Needs the random stream "dropout" in training.
    lateral: also return the map that enters unit `variant.last_stride`.
    dtype: type of the computation.
  """

  variant: ConvNeXtSizes
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
      mask: not used.
      train: drop paths.

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
        x = self._patches("stem", x, variant.widths[0], 4)
        x = layer_norm(self.dtype, "stem_layernorm")(x)
        continue
      if unit == variant.last:
        x = layer_norm(self.dtype, "head_layernorm")(x)
        continue
      width = variant.widths[unit - 1]
      if unit > 1:
        x = layer_norm(self.dtype, f"stage_{unit}_layernorm")(x)
        x = self._patches(f"stage_{unit}_shrink", x, width, 2)
      for i in range(variant.blocks[unit - 1]):
        x = ConvNeXtBlock(
          self.drop_path * (sum(variant.blocks[: unit - 1]) + i) / total,
          dtype=self.dtype,
          name=f"stage_{unit}_block_{i:02d}",
        )(x, train)
    return (x, finer) if self.lateral else x

  def _patches(self, name, x, features, size):
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
    y = y * gamma.astype(self.dtype)
    if train and self.drop_path > 0.0:
      y = drop_path(y, self.make_rng("dropout"), self.drop_path)
    return x + y
