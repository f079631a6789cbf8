"""What is known of well-known weights before they are read: a card each.

The facts are timm's (`default_cfgs` of version 1.0.31), compared with it in the
tests marked `parity`. `python launch/weights.py` prints the cards;
docs/weights.md is what it prints.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.models import backbones
from mtlmoe_jax.ops import pixels

_TIMM = "hf:timm/"
# Part of a timm tag -> what it says of the training data, oldest first.
_DATA = {
  "lvd142m": "LVD-142M (self-supervised)",
  "dino": "ImageNet-1k (self-supervised)",
  "mae": "ImageNet-1k (self-supervised)",
  "laion2b": "LAION-2B (CLIP)",
  "ns_jft": "JFT-300M (noisy student)",
  "swsl_ig1b": "Instagram-1B (weak labels)",
  "ssl_yfcc100m": "YFCC-100M (semi-supervised)",
  "in22k": "ImageNet-22k",
  "in21k": "ImageNet-21k",
  "in12k": "ImageNet-12k",
  "in1k": "ImageNet-1k",
}


@dataclasses.dataclass(frozen=True)
class Card:
  """One file of weights.

  Attributes:
    source: what `config.model.pretrained` says.
    backbone: what `config.model.backbone` must say: timm's name of the
      architecture, padding and epsilon included.
    trained: the data, in order of training.
    image_size: side of the images it was last trained on, pixels.
    crop: share of the side that its published evaluation keeps, from 0 to 1.
    interpolation: of its published resizing.
    normalization: of its pixels, a key of `pixels.NORMALIZATIONS`.
    licence: of the weights, as their publisher states it.
  """

  source: str
  backbone: str
  trained: str
  image_size: int
  crop: float
  interpolation: str
  normalization: str
  licence: str

  @property
  def preprocessing(self) -> dict[str, list[float]]:
    """`mean` and `std` per RGB channel, on the scale 0 ... 255."""
    mean, std = pixels.NORMALIZATIONS[self.normalization]
    return {"mean": list(mean), "std": list(std)}


def _timm(
  name: str,
  image_size: int = 224,
  crop: float = 0.875,
  normalization: str = "imagenet",
  interpolation: str = "bicubic",
  licence: str = "apache-2.0",
) -> Card:
  backbone, _, tag = name.partition(".")
  return Card(
    _TIMM + name,
    backbone,
    ", ".join(words for part, words in _DATA.items() if part in tag),
    image_size,
    crop,
    interpolation,
    normalization,
    licence,
  )


# Image size and crop of TensorFlow's B0 ... B7 and Lite0 ... Lite4.
_B = (
  (224, 0.875),
  (240, 0.882),
  (260, 0.890),
  (300, 0.904),
  (380, 0.922),
  (456, 0.934),
  (528, 0.942),
  (600, 0.949),
)
_LITE = (*_B[:4], (380, 0.920))


def _efficientnets() -> Iterator[Card]:
  for i, (size, crop) in enumerate(_B):
    name = f"tf_efficientnet_b{i}"
    yield _timm(f"{name}.ns_jft_in1k", size, crop)
    yield _timm(f"{name}.ap_in1k", size, crop, "half")
    yield _timm(f"{name}.aa_in1k", size, crop)
    if i < 6:
      yield _timm(f"{name}.in1k", size, crop)
  for i, (size, crop) in enumerate(_LITE):
    name = f"tf_efficientnet_lite{i}"
    if i < 3:
      yield Card(
        "lite", name, "ImageNet-1k", size, crop, "bicubic", "lite", "apache-2.0"
      )
    how = "bicubic" if i < 3 else "bilinear"
    yield _timm(f"{name}.in1k", size, crop, "half", how)
  # With PyTorch's padding; there are none of B6, B7 and Lite1 ... Lite4.
  yield _timm("efficientnet_b0.ra_in1k")
  yield _timm("efficientnet_b0.ra4_e3600_r224_in1k", 224, 0.9, "half")
  yield _timm("efficientnet_b1.ft_in1k")
  yield _timm("efficientnet_b1.ra4_e3600_r240_in1k", 240, 0.9, "half")
  yield _timm("efficientnet_b2.ra_in1k", 256)
  yield _timm("efficientnet_b3.ra2_in1k", 288)
  yield _timm("efficientnet_b4.ra2_in1k", 320)
  yield _timm("efficientnet_b5.sw_in12k", 416, 0.95)
  yield _timm("efficientnet_b5.sw_in12k_ft_in1k", 448, 1.0)
  yield _timm("efficientnet_lite0.ra_in1k")


def _resnets() -> Iterator[Card]:
  plain: dict[str, Any] = {"interpolation": "bilinear"}
  torchvision = {**plain, "licence": "bsd-3-clause"}
  for name in ("resnet50", "resnet101"):
    yield _timm(f"{name}.a1_in1k", crop=0.95)
    yield _timm(f"{name}.a2_in1k", crop=0.95)
    yield _timm(f"{name}.gluon_in1k")
    yield _timm(f"{name}.tv_in1k", **torchvision)
    yield _timm(f"{name}.tv2_in1k", 176, **torchvision)
  yield _timm("resnet50.a1h_in1k", 176, 0.9)
  yield _timm("resnet101.a1h_in1k", crop=0.95)
  yield _timm("resnet50.ram_in1k")
  for tag in ("fb_ssl_yfcc100m_ft_in1k", "fb_swsl_ig1b_ft_in1k"):
    yield _timm(f"resnet50.{tag}", **plain, licence="cc-by-nc-4.0")


def _convnexts() -> Iterator[Card]:
  for size in ("tiny", "small", "base", "large"):
    name = f"convnext_{size}"
    yield _timm(f"{name}.fb_in1k")
    yield _timm(f"{name}.fb_in22k")
    yield _timm(f"{name}.fb_in22k_ft_in1k")
    yield _timm(f"{name}.fb_in22k_ft_in1k_384", 384, 1.0)
    if size in ("tiny", "small"):
      yield _timm(f"{name}.in12k", crop=0.95)
      yield _timm(f"{name}.in12k_ft_in1k", crop=0.95)
      yield _timm(f"{name}.in12k_ft_in1k_384", 384, 1.0)
  for tag in ("laion2b_augreg_ft_in1k", "laion2b_augreg_ft_in12k_in1k"):
    yield _timm(f"convnext_base.clip_{tag}", 256, 1.0, "clip")


def _vits() -> Iterator[Card]:
  for size in ("small", "base", "large"):
    name = f"vit_{size}_patch16_224"
    yield _timm(f"{name}.augreg_in21k", 224, 0.9, "half")
    yield _timm(f"{name}.augreg_in21k_ft_in1k", 224, 0.9, "half")
    if size != "large":
      yield _timm(f"{name}.augreg_in1k", 224, 0.9, "half")
      yield _timm(f"{name}.dino", 224, 0.9)
    if size == "base":
      yield _timm(f"{name}.augreg2_in21k_ft_in1k", 224, 0.9, "half")
    if size != "small":
      yield _timm(f"{name}.mae", 224, 0.9, licence="cc-by-nc-4.0")
    for kind in ("dinov2", "reg4_dinov2"):
      yield _timm(f"vit_{size}_patch14_{kind}.lvd142m", 518, 1.0)


CARDS = (*_efficientnets(), *_resnets(), *_convnexts(), *_vits())


def find(spec: str, backbone: str) -> Card | None:
  """The card of weights, where there is one.

  Args:
    spec: what `config.model.pretrained` says.
    backbone: what `config.model.backbone` says.

  Raises:
    InputError: weights of timm for another architecture. Others' padding and
      epsilon differ where the names and shapes of the arrays do not.
  """
  name = spec.partition("@")[0]
  architecture = name.removeprefix(_TIMM).partition(".")[0]
  if name.startswith(_TIMM) and architecture != backbone:
    raise errors.InputError(
      f"config.model.pretrained={spec!r} is for config.model.backbone="
      f"{architecture!r}, not {backbone!r}; name that backbone, or weights of "
      f"{_TIMM}{backbone}.* (docs/weights.md lists them)"
    )
  wanted = (name, backbone)
  matching = [card for card in CARDS if (card.source, card.backbone) == wanted]
  return matching[0] if matching else None


def settle(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """A checked copy of a config, with what its weights decide written in.

  As a run uses and saves it: `model.normalization` is as the card of the
  weights says, where the config says nothing itself and the backbone does
  otherwise.

  Raises:
    InputError: a value that is refused, weights for another backbone, or an
      unknown one.
  """
  config_lib.check_config(config)
  config = config.copy_and_resolve_references()
  model = config.model
  card = find(model.pretrained, model.backbone)
  own = backbones.get_backbone(model.backbone).normalization
  if card and not model.normalization and card.normalization != own:
    model.normalization = card.normalization
  return config
