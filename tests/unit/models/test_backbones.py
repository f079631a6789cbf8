"""Sizes, names, cuts and the registry of the backbones."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models.backbones import (
  BACKBONES,
  EfficientNet,
  get_backbone,
  vit,
)
from mtlmoe_jax.models.backbones.convnext import ConvNeXtSizes
from mtlmoe_jax.models.backbones.efficientnet import round_channels
from mtlmoe_jax.models.backbones.resnet import ResNetSizes
from mtlmoe_jax.models.backbones.vit import ViTSizes
from tests.support.models import filled, jit, shapes_of

# With ImageNet's classifier of 1000 classes: the published networks.
PUBLISHED = {
  "tf_efficientnet_b0": 5_288_548,
  "tf_efficientnet_b1": 7_794_184,
  "tf_efficientnet_b2": 9_109_994,
  "tf_efficientnet_b3": 12_233_232,
  "tf_efficientnet_b4": 19_341_616,
  "tf_efficientnet_b5": 30_389_784,
  "tf_efficientnet_b6": 43_040_704,
  "tf_efficientnet_b7": 66_347_960,
  "tf_efficientnet_lite0": 4_652_008,
  "tf_efficientnet_lite1": 5_416_680,
  "tf_efficientnet_lite2": 6_092_072,
  "tf_efficientnet_lite3": 8_197_096,
  "tf_efficientnet_lite4": 13_006_568,
  "resnet50": 25_557_032,
  "resnet101": 44_549_160,
  "convnext_tiny": 28_589_128,
  "convnext_small": 50_223_688,
  "convnext_base": 88_591_464,
  "convnext_large": 197_767_336,
  "vit_small_patch16_224": 22_050_664,
  "vit_base_patch16_224": 86_567_656,
  "vit_large_patch16_224": 304_326_632,
}


# Pairs of names that differ by padding and epsilon.
PADDED = {n.removeprefix("tf_"): n for n in BACKBONES if n.startswith("tf_")}


@functools.cache
def shapes(name, size=64):
  """Output and variables of a whole backbone, as shapes."""
  entry = get_backbone(name)
  net = entry.sizes.network()
  if entry.sizes.family == "vit":
    size = 2 * entry.sizes.patch
  image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
  return shapes_of(net.init_with_output, jax.random.key(0), image)


def size_of(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_count_is_the_published_one(name):
  _, variables = shapes(name)
  sizes = get_backbone(name).sizes
  # Of a ViT the class token alone is classified; its position is not ours.
  vit = sizes.family == "vit"
  features = sizes.width if vit else sizes.features
  rest = (features + 1) * 1000 + (features if vit else 0)
  assert size_of(variables["params"]) + rest == PUBLISHED[name]


@pytest.mark.parametrize("name", [n for n in BACKBONES if n not in PADDED])
def test_map_has_the_features_and_cells_of_the_registry(name):
  out, _ = shapes(name)
  small = {"tiny": 4, "nano": 8, "pico": 16}
  cells = small.get(name.removeprefix("efficientnet_"), 2)
  assert out.shape == (2, cells, cells, get_backbone(name).features)


def test_both_paddings_are_one_network_otherwise():
  assert len(PADDED) == 13
  for torch, tf in PADDED.items():
    theirs, ours = get_backbone(torch).sizes, get_backbone(tf).sizes
    assert (theirs.padding, ours.padding) == ("TORCH", "SAME")
    assert (theirs.epsilon, ours.epsilon) == (1e-5, 1e-3)
    same = dataclasses.replace(theirs, padding="SAME", epsilon=1e-3)
    assert same == ours


@pytest.mark.parametrize(
  ("name", "blocks"),
  [("tf_efficientnet_b0", 16), ("tf_efficientnet_lite4", 30)],
)
def test_names_are_flat(name, blocks):
  _, variables = shapes(name)
  expected = {f"block_{i:02d}" for i in range(blocks)}
  expected |= {"stem_conv", "stem_norm", "head_conv", "head_norm"}
  assert set(variables["params"]) == expected
  assert set(variables["batch_stats"]) == expected - {"stem_conv", "head_conv"}
  block = {
    f"{layer}_{part}"
    for layer in ("expand", "depthwise", "project")
    for part in ("conv", "norm")
  }
  squeeze = set() if get_backbone(name).lite else {"se_reduce", "se_expand"}
  assert set(variables["params"]["block_01"]) == block | squeeze
  first = {n for n in block if not n.startswith("expand")} | squeeze
  assert set(variables["params"]["block_00"]) == first
  kernel = variables["params"]["block_01"]["depthwise_conv"]["kernel"]
  assert kernel.shape == (3, 3, 1, 96 if name.endswith("b0") else 144)


def test_lite_keeps_its_ends_unscaled():
  sizes = get_backbone("tf_efficientnet_lite4").sizes
  assert (sizes.stem, sizes.head) == (32, 1280)
  assert [len(stage) for stage in sizes.stages] == [1, 4, 4, 6, 6, 8, 1]


@pytest.mark.parametrize(
  ("channels", "rounded"),
  [(1, 8), (32, 32), (35.2, 32), (44, 48), (11, 16), (12, 16), (115.2, 112)],
)
def test_round_channels(channels, rounded):
  assert round_channels(channels) == rounded


@pytest.fixture(scope="module")
def nano_image():
  return np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype("float32")


@pytest.mark.parametrize("cut", [0, 2, 4])
def test_two_parts_are_the_whole(cut, nano_image):
  sizes = get_backbone("efficientnet_nano").sizes
  whole = EfficientNet(sizes)
  variables = filled(whole, nano_image)
  parts = (
    EfficientNet(sizes, last=cut),
    EfficientNet(sizes, first=cut + 1),
  )
  y, names = nano_image, []
  for part in parts:
    of_part = jax.eval_shape(part.init, jax.random.key(0), y)
    names += list(of_part.get("params", {}))
    own = {
      collection: {k: variables[collection][k] for k in tree}
      for collection, tree in of_part.items()
    }
    y = jit(part.apply)(own, y)
  assert sorted(names) == sorted(variables["params"])
  expected = jit(whole.apply)(variables, nano_image)
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_drop_path_drops_whole_branches(nano_image):
  sizes = get_backbone("efficientnet_nano").sizes
  block = sizes.stages[1][1]
  assert (block.name, block.channels, block.features) == ("block_02", 16, 16)
  # Block 2 of 4: rate 0.8 * 2 / 4. A network of unit 2 alone: its first block
  # has no residual and its second is the one to drop.
  net = EfficientNet(sizes, 2, 2, norm="group", drop_path=0.8)
  x = np.tile(nano_image[..., :1], 8)
  variables = filled(net, x)
  run = jit(net.apply, static_argnames="train")
  plain = run(variables, x)
  norm = variables["params"]["block_02"]["project_norm"]
  norm["scale"], norm["bias"] = norm["scale"] * 0, norm["bias"] * 0
  skip = run(variables, x)
  variables = filled(net, x)
  seen = []
  for seed in range(8):
    key = {"dropout": jax.random.key(seed)}
    for y, a, b in zip(run(variables, x, train=True, rngs=key), plain, skip):
      is_kept = np.allclose(y, b + (a - b) / 0.6, atol=1e-4)
      assert is_kept or np.allclose(y, b, atol=1e-4)
      seen.append(is_kept)
  assert 8 < sum(seen) < 30  # 32 draws at 0.6


def test_tensorflows_lite_takes_images_of_minus_one_to_one():
  lite = get_backbone("tf_efficientnet_lite0")
  assert (lite.mean, lite.std) == ((127.0,) * 3, (128.0,) * 3)
  for name in ("tf_efficientnet_b0", "efficientnet_b0", "efficientnet_lite0"):
    entry = get_backbone(name)
    assert lite.image_size == entry.image_size == 224
    np.testing.assert_allclose(entry.mean, [123.675, 116.28, 103.53])
    np.testing.assert_allclose(entry.std, [58.395, 57.12, 57.375])


def test_unknown_backbone_is_one_clear_line():
  with pytest.raises(
    InputError, match=r"resnet.*tf_efficientnet_lite0"
  ) as error:
    get_backbone("resnet")
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("name", "first_units", "side"),
  [
    ("resnet50", {1: 16, 4: 2}, 64),
    ("convnext_tiny", {0: 16, 4: 2, 5: 2}, 64),
  ],
)
def test_maps_of_units(name, first_units, side):
  sizes = get_backbone(name).sizes
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  for unit, cells in first_units.items():
    net = sizes.network(last=unit)
    out, _ = shapes_of(net.init_with_output, jax.random.key(0), image)
    assert out.shape[1:3] == (cells, cells)


def micro(family):
  """The smallest network of a family, and the side of its images."""
  if family == "resnet":
    return ResNetSizes((1, 1)), 32
  if family == "convnext":
    return ConvNeXtSizes((1, 1), (8, 16)), 32
  return ViTSizes(16, 4, 2, 8, 3, registers=2, scaled=True), 32


@pytest.mark.parametrize("family", ["resnet", "convnext", "vit"])
def test_a_cut_network_is_the_whole_one(family):
  sizes, side = micro(family)
  x = jax.random.normal(jax.random.key(1), (2, side, side, 3))
  variables = filled(sizes.network(), x)
  whole = jit(sizes.network().apply)(variables, x)
  assert whole.shape[-1] == sizes.features
  for cut in range(sizes.last):
    front = sizes.network(last=cut)
    back = sizes.network(first=cut + 1)
    y = jit(back.apply)(variables, jit(front.apply)(variables, x))
    np.testing.assert_allclose(y, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["resnet", "convnext", "vit"])
def test_drop_path_drops_branches_in_training_alone(family):
  sizes, side = micro(family)
  x = jax.random.normal(jax.random.key(1), (4, side, side, 3))
  net = sizes.network(drop_path=0.9)
  variables = filled(net, x)
  plain = jit(net.apply)(variables, x)
  run = jax.jit(
    lambda key: net.apply(variables, x, train=True, rngs={"dropout": key})
  )
  assert np.abs(run(jax.random.key(0)) - plain).max() > 1e-3


def test_positions_are_interpolated_and_their_own_grid_is_exact():
  position = jax.random.normal(jax.random.key(0), (3, 3, 5))
  assert vit.interpolated(position, 3) is position
  flat = vit.interpolated(jnp.ones((3, 3, 5)), 7)
  np.testing.assert_allclose(flat, 1, rtol=1e-6)
  # A ramp stays one where the kernel does not reach beyond its ends.
  ramp = jnp.broadcast_to(jnp.arange(8.0)[:, None, None], (8, 8, 1))
  finer = vit.interpolated(ramp, 16)[4:12, 0, 0]
  np.testing.assert_allclose(np.diff(finer), 0.5, atol=1e-5)


@pytest.mark.parametrize("shape", [(30, 30), (32, 40)])
def test_vit_refuses_images_that_are_no_square_of_patches(shape):
  sizes, _ = micro("vit")
  image = jnp.zeros((1, *shape, 3))
  with pytest.raises(InputError, match="multiple"):
    sizes.network().init(jax.random.key(0), image)
