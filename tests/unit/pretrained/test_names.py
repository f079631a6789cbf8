"""Names of the two PyTorch conventions, and finding weights files."""

import importlib.util

import numpy as np
import pytest

from mtlmoe_jax import errors, pretrained
from mtlmoe_jax.models.backbones.efficientnet import make_sizes
from mtlmoe_jax.pretrained import names

# Block 0 does not expand; blocks 1 and 2 are of one stage. Both conventions
# for the same layer of ours, written out by hand.
_VARIANT = make_sizes(4, ((1, 3, 1, 1, 4), (4, 3, 2, 2, 4)), 4, False)
_LAYERS = {
  "stem_conv": ("_conv_stem", "conv_stem"),
  "stem_norm": ("_bn0", "bn1"),
  "block_00/depthwise_conv": (
    "_blocks.0._depthwise_conv",
    "blocks.0.0.conv_dw",
  ),
  "block_00/depthwise_norm": ("_blocks.0._bn1", "blocks.0.0.bn1"),
  "block_00/se_reduce": ("_blocks.0._se_reduce", "blocks.0.0.se.conv_reduce"),
  "block_00/se_expand": ("_blocks.0._se_expand", "blocks.0.0.se.conv_expand"),
  "block_00/project_conv": ("_blocks.0._project_conv", "blocks.0.0.conv_pw"),
  "block_00/project_norm": ("_blocks.0._bn2", "blocks.0.0.bn2"),
  "block_01/expand_conv": ("_blocks.1._expand_conv", "blocks.1.0.conv_pw"),
  "block_01/expand_norm": ("_blocks.1._bn0", "blocks.1.0.bn1"),
  "block_01/depthwise_conv": (
    "_blocks.1._depthwise_conv",
    "blocks.1.0.conv_dw",
  ),
  "block_01/depthwise_norm": ("_blocks.1._bn1", "blocks.1.0.bn2"),
  "block_01/se_reduce": ("_blocks.1._se_reduce", "blocks.1.0.se.conv_reduce"),
  "block_01/se_expand": ("_blocks.1._se_expand", "blocks.1.0.se.conv_expand"),
  "block_01/project_conv": ("_blocks.1._project_conv", "blocks.1.0.conv_pwl"),
  "block_01/project_norm": ("_blocks.1._bn2", "blocks.1.0.bn3"),
  "block_02/expand_conv": ("_blocks.2._expand_conv", "blocks.1.1.conv_pw"),
  "block_02/project_conv": ("_blocks.2._project_conv", "blocks.1.1.conv_pwl"),
  "head_conv": ("_conv_head", "conv_head"),
  "head_norm": ("_bn1", "bn2"),
}


def _torch_and_ours(convention: int):
  """A state dict of distinct values and what it must become."""
  rng = np.random.default_rng(0)
  theirs, ours = {}, {}

  def add(name, path, shape, order=None):
    value = rng.standard_normal(shape).astype(np.float32)
    theirs[name] = value
    ours[path] = value if order is None else value.transpose(order)

  for layer, found in _LAYERS.items():
    name = found[convention]
    if layer.endswith("_norm"):
      add(f"{name}.weight", f"params/{layer}/scale", (4,))
      add(f"{name}.bias", f"params/{layer}/bias", (4,))
      add(f"{name}.running_mean", f"batch_stats/{layer}/mean", (4,))
      add(f"{name}.running_var", f"batch_stats/{layer}/var", (4,))
      theirs[f"{name}.num_batches_tracked"] = np.array(9)
    else:
      shape = (6, 1, 3, 3) if "depthwise" in layer else (5, 4, 1, 1)
      add(f"{name}.weight", f"params/{layer}/kernel", shape, (2, 3, 1, 0))
      if "/se_" in layer:
        add(f"{name}.bias", f"params/{layer}/bias", (5,))
  classifier = ("_fc", "classifier")[convention]
  theirs[f"{classifier}.weight"] = np.zeros((10, 4), np.float32)
  theirs[f"{classifier}.bias"] = np.zeros(10, np.float32)
  return theirs, ours


@pytest.mark.parametrize("convention", [0, 1], ids=["efficientnet", "timm"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_both_conventions_become_ours(convention, prefix):
  theirs, ours = _torch_and_ours(convention)
  # Files list layers in any order.
  found = names.rename(
    {prefix + k: theirs[k] for k in sorted(theirs, reverse=True)},
    "f",
    _VARIANT,
  )
  assert found.arrays.keys() == ours.keys()
  for path, value in ours.items():
    assert found.arrays[path].shape == value.shape, path
    assert (found.arrays[path] == value).all(), path
  assert len(found.ignored) == 2 + sum(
    layer.endswith("_norm") for layer in _LAYERS
  )
  assert not found.unknown


def test_blocks_are_counted_over_stages():
  sizes = make_sizes(4, ((4, 3, 1, 11, 4),) * 11, 4, False)
  theirs = {
    f"blocks.{s}.{r}.conv_pwl.weight": np.full((1, 1, 1, 1), 11 * s + r)
    for s in range(11)
    for r in range(11)
  }
  found = names.rename(theirs, "f", sizes).arrays
  assert len(found) == 121
  for i in range(121):
    assert found[f"params/block_{i:02d}/project_conv/kernel"].item() == i


def test_unknown_names_are_told_and_strangers_refused():
  theirs, ours = _torch_and_ours(0)
  wrong = (
    "layer1.0.conv1.weight",
    "_blocks.0._depthwise_conv.gamma",
    "_blocks.0._bn7.weight",
    "blocks.0.0.conv_x.weight",
    "blocks.1.2.conv_pw.weight",
    "scale",
  )
  more = theirs | {n: np.zeros(1) for n in wrong}
  found = names.rename(more, "some.pth", _VARIANT)
  assert found.unknown == wrong
  assert found.arrays.keys() == ours.keys()
  for strange in ({"_fc.weight": np.zeros((2, 2))}, {wrong[0]: np.zeros(1)}):
    with pytest.raises(errors.InputError, match=r"some\.pth: not the names"):
      names.rename(strange, "some.pth", _VARIANT)


def test_as_timm_is_the_inverse():
  theirs, ours = _torch_and_ours(1)
  found = names.as_timm(ours, _VARIANT)
  left_out = {n for n in theirs if n.startswith("classifier")}
  left_out |= {n for n in theirs if n.endswith("num_batches_tracked")}
  assert found.keys() == theirs.keys() - left_out
  for name, value in found.items():
    np.testing.assert_array_equal(value, theirs[name], name)
  with pytest.raises(errors.InputError, match="params/moe/kernel"):
    names.as_timm({**ours, "params/moe/kernel": np.zeros(1)}, _VARIANT)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad):
  theirs, _ = _torch_and_ours(0)
  theirs["_blocks.1._bn2.running_var"][2] = bad
  with pytest.raises(errors.InputError, match=r"_blocks\.1\._bn2\.running_var"):
    names.rename(theirs, "f", _VARIANT)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_load_reads_our_own_names_from_a_path(tmp_path, ending):
  arrays = {
    "params/stem_conv/kernel": np.ones((3, 3, 3, 8), np.float16),
    "batch_stats/stem_norm/mean": np.arange(8.0),
  }
  path = tmp_path / f"w.{ending}"
  if ending == "npz":
    np.savez(path, **arrays)
  else:
    pretrained.save_safetensors(path, arrays)
  weights = pretrained.load(str(path), "efficientnet_nano")
  kernel = weights.params["stem_conv"]["kernel"]
  assert kernel.dtype == np.float32 and kernel.shape == (3, 3, 3, 8)
  assert (weights.batch_stats["stem_norm"]["mean"] == np.arange(8)).all()
  assert f"w.{ending}" in weights.source and "2 arrays" in weights.report


def test_lite_without_weights_says_which_have_them():
  with pytest.raises(
    errors.InputError, match="tf_efficientnet_lite2"
  ) as caught:
    pretrained.load("lite", "efficientnet_lite0")
  assert "'efficientnet_lite0'" in str(caught.value)
  assert "set config.model.backbone to one of them" in str(caught.value)


def test_lite_without_its_package_says_what_to_install(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(errors.InputError, match=r"mtlmoe_jax\[lite\]"):
    pretrained.load("lite", "tf_efficientnet_lite1")


def test_a_missing_path_is_named():
  with pytest.raises(errors.InputError, match=r"none/w\.pth"):
    pretrained.load("none/w.pth", "tf_efficientnet_lite0")
