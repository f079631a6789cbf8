"""Small networks of every family against values that timm computed.

`golden/timm_families.json.xz` holds, for a small network of each family, timm's
names and shapes and some of its features, with weights drawn from the names.
The test marked `parity` computes them again; run as a script, this file writes
them.
"""

import dataclasses
import functools
import json
import lzma
import pathlib
import zlib

import jax
import numpy as np
import pytest
from flax import traverse_util

from mtlmoe_jax import errors
from mtlmoe_jax.models.backbones.convnext import ConvNeXtSizes
from mtlmoe_jax.models.backbones.efficientnet import make_sizes
from mtlmoe_jax.models.backbones.resnet import ResNetSizes
from mtlmoe_jax.models.backbones.vit import ViTSizes
from mtlmoe_jax.pretrained import names
from tests.support.models import shapes_of

_FILE = (
  pathlib.Path(__file__).parents[2]
  / "support"
  / "golden"
  / "timm_families.json.xz"
)
SIZE = 64
TF = make_sizes(16, ((1, 3, 1, 1, 16), (4, 5, 2, 2, 24)), 32, lite=False)
SIZES = {
  "tf_efficientnet": TF,
  "efficientnet": dataclasses.replace(TF, padding="TORCH", epsilon=1e-5),
  "resnet": ResNetSizes((1, 1, 1, 1)),
  "convnext": ConvNeXtSizes((1, 1, 1, 1), (8, 16, 24, 32)),
  # Another grid of positions than the image's 4 x 4.
  "vit": ViTSizes(32, 4, 2, 16, 3),
  "registers": ViTSizes(32, 4, 2, 16, 3, registers=4, scaled=True),
}

CLASSIFIERS = {
  "tf_efficientnet": "classifier",
  "efficientnet": "classifier",
  "resnet": "fc",
  "convnext": "head.fc",
  "vit": "head",
  "registers": "head",
}


def stored():
  """What the file holds, by family."""
  return json.loads(lzma.decompress(_FILE.read_bytes()))


def draw(shapes):
  """Weights by name: the same numbers wherever they are drawn."""
  out = {}
  for name, shape in shapes.items():
    random = np.random.default_rng(zlib.crc32(name.encode()))
    value = random.standard_normal(shape).astype(np.float32)
    if len(shape) == 4 or (len(shape) == 2 and name.endswith("weight")):
      value *= np.sqrt(1 / np.prod(shape[1:]))
    elif name.endswith(("running_var", "gamma")) or name.endswith("weight"):
      value = np.exp(0.2 * value) * (0.3 if name.endswith("gamma") else 1)
    else:
      value *= 0.1
    out[name] = value.astype(np.float32)
  return out


def images():
  random = np.random.default_rng(0)
  return random.standard_normal((1, SIZE, SIZE, 3)).astype(np.float32)


def ours(family, shapes):
  """Our features [1, H, W, C], of weights under timm's names."""
  sizes = SIZES[family]
  tree = names.rename(draw(shapes), "drawn", sizes).arrays
  variables = traverse_util.unflatten_dict(tree, sep="/")
  # timm norms ConvNeXt's average, we its map.
  last = 4 if family == "convnext" else None
  return np.asarray(
    jax.jit(sizes.network(last=last).apply)(variables, images())
  )


def timms(family):
  """Names, shapes and features of timm's network."""
  from tests.support.torch_side import parity

  torch, timm = parity.libraries()

  def efficientnet(padding, epsilon):
    blocks = [["ds_r1_k3_s1_e1_c16_se0.25"], ["ir_r2_k5_s2_e4_c24_se0.25"]]
    return timm.models.efficientnet.EfficientNet(
      timm.models._efficientnet_builder.decode_arch_def(blocks),
      num_classes=3,
      num_features=32,
      stem_size=16,
      pad_type=padding,
      act_layer=torch.nn.SiLU,
      norm_layer=functools.partial(torch.nn.BatchNorm2d, eps=epsilon),
    )

  vit = {
    "img_size": 48,
    "patch_size": 16,
    "embed_dim": 32,
    "depth": 4,
    "num_heads": 2,
    "num_classes": 3,
    "dynamic_img_size": True,
  }
  network = {
    "tf_efficientnet": lambda: efficientnet("same", 1e-3),
    "efficientnet": lambda: efficientnet("", 1e-5),
    "resnet": lambda: timm.models.resnet.ResNet(
      timm.models.resnet.Bottleneck, (1, 1, 1, 1), num_classes=3
    ),
    "convnext": lambda: timm.models.convnext.ConvNeXt(
      depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_classes=3
    ),
    "vit": lambda: timm.models.vision_transformer.VisionTransformer(**vit),
    "registers": lambda: timm.models.vision_transformer.VisionTransformer(
      **vit, init_values=1e-5, reg_tokens=4, no_embed_class=True
    ),
  }[family]()
  network.eval()
  state = network.state_dict()
  shapes = {
    name: list(value.shape)
    for name, value in state.items()
    if not name.endswith("num_batches_tracked")
  }
  drawn = {name: torch.from_numpy(v) for name, v in draw(shapes).items()}
  network.load_state_dict(drawn, strict=False)
  with torch.no_grad():
    found = network.forward_features(
      torch.from_numpy(images()).permute(0, 3, 1, 2)
    )
  if found.ndim == 4:
    return shapes, found.permute(0, 2, 3, 1).numpy()
  prefix = network.num_prefix_tokens
  side = SIZE // 16
  patches = found[:, prefix:].reshape(1, side, side, -1).numpy()
  token = np.broadcast_to(found[:, None, None, 0].numpy(), patches.shape)
  return shapes, np.concatenate([patches, token], -1)


def chosen(features):
  """Some values of each place."""
  return features[0, :, :, :: max(1, features.shape[-1] // 5)].tolist()


@pytest.mark.parametrize("family", SIZES)
def test_features_equal_stored_values_of_timm(family):
  golden = stored()[family]
  found = np.array(chosen(ours(family, golden["shapes"])))
  want = np.array(golden["features"])
  assert found.shape == want.shape
  assert np.abs(found - want).max() < 1e-4 * np.abs(want).max()


@pytest.mark.parity
@pytest.mark.parametrize("family", SIZES)
def test_stored_values_are_timms(family):
  golden = stored()[family]
  shapes, features = timms(family)
  assert shapes == golden["shapes"]
  np.testing.assert_allclose(
    chosen(features), golden["features"], rtol=1e-4, atol=1e-4
  )


@pytest.mark.parametrize("family", SIZES)
def test_every_array_of_the_network_is_named(family):
  golden = stored()[family]
  sizes = SIZES[family]
  renamed = names.rename(draw(golden["shapes"]), "drawn", sizes)
  shapes = shapes_of(sizes.network().init, jax.random.key(0), images())
  flat = traverse_util.flatten_dict(dict(shapes), sep="/")
  assert {n: v.shape for n, v in renamed.arrays.items()} == {
    n: v.shape for n, v in flat.items()
  }
  assert {n.rpartition(".")[0] for n in renamed.ignored} == {
    CLASSIFIERS[family]
  }
  assert not renamed.unknown


@pytest.mark.parametrize("family", SIZES)
def test_as_timm_gives_the_arrays_of_timm(family):
  golden = stored()[family]
  theirs = draw(golden["shapes"])
  if family == "vit":
    # Only the sum of the class token and its position matters.
    theirs["cls_token"] += theirs["pos_embed"][:, :1]
    theirs["pos_embed"][:, 0] = 0
  renamed = names.rename(theirs, "drawn", SIZES[family])
  found = names.as_timm(renamed.arrays, SIZES[family])
  assert found.keys() == theirs.keys() - set(renamed.ignored)
  for name, value in found.items():
    np.testing.assert_array_equal(value, theirs[name], name)


def test_dinov2_as_published_has_the_same_arrays():
  timm = draw(stored()["registers"]["shapes"])
  theirs = {n: v for n, v in timm.items() if not n.startswith("head")}
  ours = names.rename(theirs, "timm", SIZES["registers"]).arrays
  # A position of the class token, that timm has added to it.
  own = np.full_like(theirs["cls_token"], 0.25)
  theirs["cls_token"] = theirs["cls_token"] - own
  theirs["pos_embed"] = np.concatenate([own, theirs["pos_embed"]], 1)
  theirs["register_tokens"] = theirs.pop("reg_token")
  theirs["mask_token"] = np.zeros((1, 32), np.float32)
  found = names.rename(theirs, "published", SIZES["registers"])
  assert found.ignored == ("mask_token",) and not found.unknown
  assert found.arrays.keys() == ours.keys()
  for name, value in ours.items():
    np.testing.assert_allclose(found.arrays[name], value, rtol=0, atol=1e-7)


@pytest.mark.parametrize("family", ["resnet", "convnext", "vit"])
def test_weights_of_another_family_are_refused(family):
  golden = stored()
  for other in {"resnet", "convnext", "vit"} - {family}:
    with pytest.raises(errors.InputError, match="unexpected"):
      names.rename(draw(golden[other]["shapes"]), "w.pth", SIZES[family])


if __name__ == "__main__":
  entries = {}
  for key in SIZES:
    made, maps = timms(key)
    entries[key] = {"shapes": made, "features": chosen(maps)}
  _FILE.write_bytes(lzma.compress(json.dumps(entries).encode()))
