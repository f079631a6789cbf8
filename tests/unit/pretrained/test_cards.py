"""Cards of weights: what they are for, and how they normalise."""

import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors, models, pretrained
from mtlmoe_jax.ops import pixels
from mtlmoe_jax.pretrained import card_page, cards, hub
from tests.support import tiny

IMAGENET, HALF, CLIP = (
  {"mean": list(mean), "std": list(std)}
  for mean, std in (
    pixels.NORMALIZATIONS[n] for n in ("imagenet", "half", "clip")
  )
)


def configured(backbone, pretrained_, **model):
  config = config_lib.default_config()
  config.model.update(
    {"backbone": backbone, "pretrained": pretrained_, **model}
  )
  before = config.to_dict()
  settled = pretrained.settle(config)
  assert config.to_dict() == before and settled.is_locked
  return settled


def test_every_card_is_of_a_backbone_and_complete():
  keys = [(card.source, card.backbone) for card in cards.CARDS]
  assert len(set(keys)) == len(keys)
  for card in cards.CARDS:
    assert card.backbone in models.BACKBONES
    assert card.trained and card.licence
    assert 0.8 < card.crop <= 1
    patch = 14 if "patch14" in card.backbone else 1
    assert card.image_size % patch == 0


def test_every_published_backbone_has_weights():
  # timm has no weights with this padding; the small ones are ours.
  none = {f"efficientnet_{n}" for n in ("b6", "b7", "tiny")}
  none |= {f"efficientnet_lite{i}" for i in range(1, 5)}
  ours = ("_nano", "_pico")
  none |= {name for name in models.BACKBONES if name.endswith(ours)}
  assert models.BACKBONES.keys() - {c.backbone for c in cards.CARDS} == none


def test_the_page_is_up_to_date():
  text = (tiny.ROOT / "docs" / "weights.md").read_text()
  assert card_page.page() == text
  for card in cards.CARDS:
    assert f"| `{card.source}` |" in text


def test_a_page_of_one_backbone():
  page = card_page.page("resnet101")
  assert "hf:timm/resnet101.a1_in1k" in page and "resnet50" not in page
  with pytest.raises(errors.InputError, match="--backbone='resnet18'"):
    card_page.page("resnet18")


def test_a_card_is_found_with_and_without_revision():
  card = cards.find("hf:timm/resnet50.tv_in1k", "resnet50")
  assert card.licence == "bsd-3-clause" and card.interpolation == "bilinear"
  assert cards.find("hf:timm/resnet50.tv_in1k@main", "resnet50") is card
  for spec in ("", "w.pth", "hf:timm/resnet50.unknown", "hf:me/resnet101"):
    assert cards.find(spec, "resnet50") is None


@pytest.mark.parametrize(
  ("spec", "backbone"),
  [
    ("hf:timm/resnet101.a1_in1k", "resnet50"),
    ("hf:timm/efficientnet_b1.ft_in1k", "tf_efficientnet_b1"),
    ("hf:timm/tf_efficientnet_b1.aa_in1k@main", "efficientnet_b1"),
    ("hf:timm/vit_base_patch14_dinov2.lvd142m", "vit_base_patch16_224"),
    ("hf:timm/convnext_tiny", "convnext_small"),
  ],
)
def test_weights_of_another_architecture_are_refused(spec, backbone):
  with pytest.raises(errors.InputError) as caught:
    pretrained.load(spec, backbone)
  text = str(caught.value)
  architecture = spec.partition("/")[2].partition(".")[0]
  assert f"config.model.backbone={architecture!r}" in text
  assert f"not {backbone!r}" in text and "\n" not in text


@pytest.mark.parametrize(
  ("backbone", "spec", "name", "pixels_"),
  [
    ("vit_base_patch16_224", "", "", HALF),
    ("vit_base_patch16_224", "hf:timm/{}.augreg_in21k", "", HALF),
    ("vit_base_patch16_224", "hf:timm/{}.mae", "imagenet", IMAGENET),
    ("convnext_base", "hf:timm/{}.fb_in22k", "", IMAGENET),
    ("convnext_base", "hf:timm/{}.clip_laion2b_augreg_ft_in1k", "clip", CLIP),
    ("efficientnet_b0", "hf:timm/{}.ra4_e3600_r224_in1k", "half", HALF),
    ("efficientnet_nano", "some.pth", "", None),
  ],
)
def test_a_config_normalises_as_the_card_says(backbone, spec, name, pixels_):
  config = configured(backbone, spec.format(backbone))
  assert config.model.normalization == name
  if pixels_ is None:
    entry = models.get_backbone(backbone)
    pixels_ = {"mean": list(entry.mean), "std": list(entry.std)}
  found = models.preprocessing(config)
  assert {key: found[key] for key in ("mean", "std")} == pixels_
  entry = models.build_model(config, 3).backbone
  assert [list(entry.mean), list(entry.std)] == list(pixels_.values())


def test_what_the_config_says_stays_and_is_checked():
  spec = "hf:timm/vit_base_patch16_224.mae"
  config = configured("vit_base_patch16_224", spec, normalization="half")
  assert config.model.normalization == "half"
  config.model.normalization = "halves"
  with pytest.raises(errors.InputError, match=r"normalization='halves'"):
    config_lib.check_config(config)


def test_the_report_tells_the_card(tmp_path, monkeypatch):
  path = tmp_path / "model.safetensors"
  kernel = np.ones((64, 3, 7, 7), np.float32)
  pretrained.save_safetensors(path, {"conv1.weight": kernel})
  monkeypatch.setattr(hub, "fetch", lambda spec: path)
  found = pretrained.load("hf:timm/resnet50.tv_in1k", "resnet50")
  assert "bsd-3-clause, pixels as imagenet" in found.report
  assert found.preprocessing == IMAGENET
  found = pretrained.load("hf:timm/resnet50.mine", "resnet50")
  assert "no card: pixels as resnet50 has them" in found.report
  assert found.preprocessing is None


@pytest.mark.parity
def test_cards_say_what_timm_says():
  from tests.support.torch_side import parity

  _, timm = parity.libraries()
  checked = 0
  for card in cards.CARDS:
    if not card.source.startswith("hf:timm/"):
      continue
    name = card.source.removeprefix("hf:timm/")
    theirs = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    mean, std = pixels.NORMALIZATIONS[card.normalization]
    assert theirs.architecture == card.backbone
    assert theirs.hf_hub_id == f"timm/{name}"
    assert theirs.input_size[1:] == (card.image_size,) * 2, name
    assert theirs.crop_pct == card.crop, name
    assert theirs.interpolation == card.interpolation, name
    assert theirs.license == card.licence, name
    assert [255 * v for v in theirs.mean] == pytest.approx(mean), name
    assert [255 * v for v in theirs.std] == pytest.approx(std), name
    checked += 1
  assert checked == len(cards.CARDS) - 3
