"""The backbones a config can name, and how their images are prepared."""

import dataclasses

from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models.backbones.convnext import ConvNeXtSizes
from mtlmoe_jax.models.backbones.efficientnet import (
  Variant,
  make_variant,
  scaled_variant,
)
from mtlmoe_jax.models.backbones.resnet import ResNetSizes
from mtlmoe_jax.models.backbones.units import Sizes
from mtlmoe_jax.models.backbones.vit import ViTSizes

_IMAGENET_MEAN = tuple(255.0 * v for v in (0.485, 0.456, 0.406))
_IMAGENET_STD = tuple(255.0 * v for v in (0.229, 0.224, 0.225))
# Of the ViTs of Steiner et al. 2021 ("augreg").
_HALF = (127.5,) * 3


@dataclasses.dataclass(frozen=True)
class Backbone:
  """One entry: `(image - mean) / std` goes into the network `variant`.

  Attributes:
    name: what `config.model.backbone` says.
    variant: sizes of the network.
    image_size: side of the square images it was made for, pixels.
    mean: per RGB channel, on the scale 0 ... 255.
    std: per RGB channel, on the scale 0 ... 255.
    dropout: published rate in front of the classifier.
    grid: side of the coarse grid that spatial condense keeps.
  """

  name: str
  variant: Sizes
  image_size: int
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  dropout: float
  grid: int = 7

  @property
  def features(self) -> int:
    """Channels of the last map."""
    return self.variant.features

  @property
  def lite(self) -> bool:
    """True for the Lite family (relu6, no squeeze-and-excite)."""
    return isinstance(self.variant, Variant) and self.variant.lite


def _b(name, width, depth, size, dropout):
  variant = scaled_variant(width, depth, lite=False)
  mean, std = _IMAGENET_MEAN, _IMAGENET_STD
  return Backbone(name, variant, size, mean, std, dropout)


def _lite(name, width, depth, size, dropout):
  variant = scaled_variant(width, depth, lite=True)
  mean, std = (127.0,) * 3, (128.0,) * 3
  return Backbone(name, variant, size, mean, std, dropout)


def _small(name, stem, stages, head, lite, size):
  variant = make_variant(stem, stages, head, lite)
  mean, std = (127.0,) * 3, (128.0,) * 3
  return Backbone(name, variant, size, mean, std, 0.1, grid=4)


def _resnet(name, *blocks):
  mean, std = _IMAGENET_MEAN, _IMAGENET_STD
  return Backbone(name, ResNetSizes(blocks), 224, mean, std, 0.0)


def _convnext(name, blocks, widths):
  mean, std = _IMAGENET_MEAN, _IMAGENET_STD
  return Backbone(name, ConvNeXtSizes(blocks, widths), 224, mean, std, 0.0)


def _vits(size, width, depth, heads):
  mean, std = _IMAGENET_MEAN, _IMAGENET_STD

  def dino(name, registers):
    # Made for 518 px (37 x 37 patches); 224 px is what linear probes use.
    sizes = ViTSizes(width, depth, heads, 14, 37, registers, scaled=True)
    return Backbone(f"vit_{size}_{name}", sizes, 224, mean, std, 0.0, grid=8)

  plain = ViTSizes(width, depth, heads, 16, 14)
  return (
    Backbone(f"vit_{size}_patch16_224", plain, 224, _HALF, _HALF, 0.0),
    dino("patch14_dinov2", 0),
    dino("patch14_reg4_dinov2", 4),
  )


# Ours, for a quick start and for tests; no published weights. `tiny` ends with
# 6 x 6 cells at 96 px (4 x 4 at 64), `nano` with 4 x 4 at 32 px.
_TINY = ((1, 3, 1, 1, 16), (4, 3, 2, 1, 24), (4, 3, 2, 2, 48), (4, 3, 2, 1, 80))
_NANO = ((1, 3, 1, 1, 8), (2, 3, 2, 2, 16), (2, 3, 2, 1, 16))

_ALL = (
  _b("efficientnet_b0", 1.0, 1.0, 224, 0.2),
  _b("efficientnet_b1", 1.0, 1.1, 240, 0.2),
  _b("efficientnet_b2", 1.1, 1.2, 260, 0.3),
  _b("efficientnet_b3", 1.2, 1.4, 300, 0.3),
  _b("efficientnet_b4", 1.4, 1.8, 380, 0.4),
  _b("efficientnet_b5", 1.6, 2.2, 456, 0.4),
  _b("efficientnet_b6", 1.8, 2.6, 528, 0.5),
  _b("efficientnet_b7", 2.0, 3.1, 600, 0.5),
  _lite("efficientnet_lite0", 1.0, 1.0, 224, 0.2),
  _lite("efficientnet_lite1", 1.0, 1.1, 240, 0.2),
  _lite("efficientnet_lite2", 1.1, 1.2, 260, 0.3),
  _lite("efficientnet_lite3", 1.2, 1.4, 280, 0.3),
  _lite("efficientnet_lite4", 1.4, 1.8, 300, 0.3),
  _resnet("resnet50", 3, 4, 6, 3),
  _resnet("resnet101", 3, 4, 23, 3),
  _convnext("convnext_tiny", (3, 3, 9, 3), (96, 192, 384, 768)),
  _convnext("convnext_small", (3, 3, 27, 3), (96, 192, 384, 768)),
  _convnext("convnext_base", (3, 3, 27, 3), (128, 256, 512, 1024)),
  _convnext("convnext_large", (3, 3, 27, 3), (192, 384, 768, 1536)),
  *_vits("small", 384, 12, 6),
  *_vits("base", 768, 12, 12),
  *_vits("large", 1024, 24, 16),
  _small("efficientnet_tiny", 16, _TINY, 128, True, 96),
  _small("efficientnet_nano", 8, _NANO, 32, False, 32),
)
BACKBONES: dict[str, Backbone] = {b.name: b for b in _ALL}


def backbone(name: str) -> Backbone:
  """Looks a backbone up.

  Args:
    name: such as "efficientnet_lite0".

  Raises:
    InputError: an unknown name.
  """
  if name not in BACKBONES:
    raise InputError(
      f"backbone {name!r} is unknown: use one of {', '.join(BACKBONES)}"
    )
  return BACKBONES[name]
