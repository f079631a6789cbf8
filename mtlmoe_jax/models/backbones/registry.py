"""The backbones a config can name, and how their images are prepared."""

import dataclasses

from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models.backbones.convnext import ConvNeXtSizes
from mtlmoe_jax.models.backbones.efficientnet import (
  EfficientNetSizes,
  Stages,
  make_sizes,
  scaled_sizes,
)
from mtlmoe_jax.models.backbones.resnet import ResNetSizes
from mtlmoe_jax.models.backbones.units import Sizes
from mtlmoe_jax.models.backbones.vit import ViTSizes
from mtlmoe_jax.ops import pixels


@dataclasses.dataclass(frozen=True)
class Backbone:
  """One entry: `(image - mean) / std` goes into the network `sizes`.

  Attributes:
    name: what `config.model.backbone` says.
    sizes: sizes of the network.
    image_size: side of the square images it was made for, pixels.
    normalization: of its pixels, a key of `pixels.NORMALIZATIONS`.
    dropout: published rate in front of the classifier.
    grid: side of the coarse grid that spatial condense keeps.
  """

  name: str
  sizes: Sizes
  image_size: int
  normalization: str
  dropout: float
  grid: int = 7

  @property
  def mean(self) -> pixels.Channels:
    """Per RGB channel, on the scale 0 ... 255."""
    return pixels.NORMALIZATIONS[self.normalization][0]

  @property
  def std(self) -> pixels.Channels:
    """Per RGB channel, on the scale 0 ... 255."""
    return pixels.NORMALIZATIONS[self.normalization][1]

  @property
  def features(self) -> int:
    """Channels of the last map."""
    return self.sizes.features

  @property
  def lite(self) -> bool:
    """True for the Lite family (relu6, no squeeze-and-excite)."""
    return isinstance(self.sizes, EfficientNetSizes) and self.sizes.lite


def _efficientnets(
  name: str,
  width: float,
  depth: float,
  dropout: float,
  size: int,
  torch_size: int,
) -> tuple[Backbone, Backbone]:
  """Both paddings: TensorFlow's, with its epsilon, and PyTorch's."""
  lite = name.startswith("lite")
  sizes = scaled_sizes(width, depth, lite)
  torch = dataclasses.replace(sizes, padding="TORCH", epsilon=1e-5)
  tf_range = "lite" if lite else "imagenet"
  name = f"efficientnet_{name}"
  return (
    Backbone(f"tf_{name}", sizes, size, tf_range, dropout),
    Backbone(name, torch, torch_size, "imagenet", dropout),
  )


def _small(
  name: str, stem: int, stages: Stages, head: int, lite: bool, size: int
) -> Backbone:
  sizes = make_sizes(stem, stages, head, lite)
  return Backbone(name, sizes, size, "lite", 0.1, grid=4)


def _resnet(name: str, *blocks: int) -> Backbone:
  return Backbone(name, ResNetSizes(blocks), 224, "imagenet", 0.0)


def _convnext(
  name: str, blocks: tuple[int, ...], widths: tuple[int, ...]
) -> Backbone:
  sizes = ConvNeXtSizes(blocks, widths)
  return Backbone(name, sizes, 224, "imagenet", 0.0)


def _vits(
  size: str, width: int, depth: int, heads: int
) -> tuple[Backbone, ...]:
  def dino(name: str, registers: int) -> Backbone:
    # Made for 518 px (37 x 37 patches); 224 px is what linear probes use.
    sizes = ViTSizes(width, depth, heads, 14, 37, registers, scaled=True)
    return Backbone(f"vit_{size}_{name}", sizes, 224, "imagenet", 0.0, grid=8)

  plain = ViTSizes(width, depth, heads, 16, 14)
  return (
    Backbone(f"vit_{size}_patch16_224", plain, 224, "half", 0.0),
    dino("patch14_dinov2", 0),
    dino("patch14_reg4_dinov2", 4),
  )


# Ours, for a quick start and for tests; no published weights. `tiny` ends with
# 6 x 6 cells at 96 px (4 x 4 at 64), `nano` with 4 x 4 at 32 px and `pico` with
# 8 x 8: it has one block alone, as tests compile far more than they compute.
_TINY = ((1, 3, 1, 1, 16), (4, 3, 2, 1, 24), (4, 3, 2, 2, 48), (4, 3, 2, 1, 80))
_NANO = ((1, 3, 1, 1, 8), (2, 3, 2, 2, 16), (2, 3, 2, 1, 16))
_PICO = ((2, 3, 2, 1, 16),)

# As timm names and prepares them by default, but for TensorFlow's Lite: theirs
# are the published sizes and range, where timm has 300 and 380 pixels for 3 and
# 4 and 127.5 for mean and std. Some weights of the same networks were trained
# in the range "half": timm's `ap_in1k` and `ra4_e3600_*` (its default for
# `efficientnet_b1`, here that of `ft_in1k`).
_ALL = (
  *_efficientnets("b0", 1.0, 1.0, 0.2, 224, 224),
  *_efficientnets("b1", 1.0, 1.1, 0.2, 240, 240),
  *_efficientnets("b2", 1.1, 1.2, 0.3, 260, 256),
  *_efficientnets("b3", 1.2, 1.4, 0.3, 300, 288),
  *_efficientnets("b4", 1.4, 1.8, 0.4, 380, 320),
  *_efficientnets("b5", 1.6, 2.2, 0.4, 456, 448),
  *_efficientnets("b6", 1.8, 2.6, 0.5, 528, 528),
  *_efficientnets("b7", 2.0, 3.1, 0.5, 600, 600),
  *_efficientnets("lite0", 1.0, 1.0, 0.2, 224, 224),
  *_efficientnets("lite1", 1.0, 1.1, 0.2, 240, 240),
  *_efficientnets("lite2", 1.1, 1.2, 0.3, 260, 260),
  *_efficientnets("lite3", 1.2, 1.4, 0.3, 280, 300),
  *_efficientnets("lite4", 1.4, 1.8, 0.3, 300, 380),
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
  _small("efficientnet_pico", 8, _PICO, 16, True, 32),
  Backbone("vit_nano", ViTSizes(16, 4, 2, 8, 4), 32, "half", 0.0, 4),
)
BACKBONES: dict[str, Backbone] = {b.name: b for b in _ALL}


def get_backbone(name: str) -> Backbone:
  """Looks a backbone up.

  Args:
    name: such as "tf_efficientnet_lite0".

  Raises:
    InputError: an unknown name.
  """
  if name not in BACKBONES:
    raise InputError(
      f"backbone {name!r} is unknown: use one of {', '.join(BACKBONES)}"
    )
  return BACKBONES[name]
