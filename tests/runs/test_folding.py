"""Constant gates of condense layers are one wide layer, to the rounding."""

import dataclasses
import pathlib

import numpy as np
import pytest

from mtlmoe_jax import data as data_lib
from mtlmoe_jax import models
from mtlmoe_jax.checkpoints import restore
from mtlmoe_jax.evaluation import folding, pruning
from mtlmoe_jax.utils import trees
from tests.support import tiny
from tests.support.models import filled

# All of the backbone is the stem: an expert is its condense layer.
ALONE = {"model.shared_stages": 2, "model.grid": 2}
N, M, F, D, H = 3, 2, 5, 4, 6


def swish(x):
  return x / (1 + np.exp(-x))


@pytest.mark.parametrize("on_grid", [False, True])
def test_one_head_is_the_weighted_sum_of_experts(on_grid):
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape)  # noqa: E731
  condense, bias = draw(N, F, D), draw(N, D)
  readers = {"class": draw(D, H), "box": draw(D, H)}
  names = {"class": "hidden", "box": "cell" if on_grid else "hidden"}
  used = np.array([0, 2])
  weights = {"class": np.array([0.7, 0.3]), "box": np.array([0.1, 0.9])}
  variables = {
    "params": {
      "experts": {"condense": {"kernel": condense, "bias": bias}},
      "gate_class": {"logits": {"kernel": draw(F, N)}},
      **{f"tower_{t}": {names[t]: {"kernel": k}} for t, k in readers.items()},
    },
    "batch_stats": {"gate_input": {"mean": draw(F)}},
  }
  out = folding.one_head(variables, weights, used, on_grid)
  assert set(out) == {"params"}
  assert set(out["params"]) == {"experts", "tower_class", "tower_box"}
  x = draw(7, F)
  one = out["params"]["experts"]["condense"]
  assert one["kernel"].shape == (1, F, M * D)
  folded = swish(x @ one["kernel"][0] + one["bias"][0])
  for task, w in weights.items():
    mixed = sum(
      w[i] * swish(x @ condense[e] + bias[e]) for i, e in enumerate(used)
    )
    got = folded @ out["params"][f"tower_{task}"][names[task]]["kernel"]
    np.testing.assert_allclose(got, mixed @ readers[task], rtol=1e-12)


@pytest.fixture(scope="module")
def mixture():
  """Three condense layers, gates that look at nothing; and four images."""
  config = tiny.config(**ALONE)
  model = models.build_model(config, 3)
  images = np.zeros((1, 32, 32, 3), np.uint8)
  variables = filled(model, images)
  flat = trees.flatten(variables)
  biases = {"gate_class": [1.0, 0.5, -3.0], "gate_box": [0.2, 0.9, -3.0]}
  for name, bias in biases.items():
    kernel = f"params/{name}/logits/kernel"
    flat[kernel] = np.zeros_like(flat[kernel])
    flat[f"params/{name}/logits/bias"] = np.array(bias, np.float32)
  source = data_lib.Subset(data_lib.open_data(config).test, range(4))
  return restore.Restored(
    variables=trees.unflatten(flat),
    config=config,
    class_names=("a", "b", "c"),
    step=0,
    meta={},
    workdir=pathlib.Path(),
  ), source


def test_constant_gates_are_folded_and_outputs_stay(mixture):
  restored, source = mixture
  found = folding.fold(restored, source)
  assert found.difference <= pruning.TOLERANCE
  assert found.images == 4
  model = found.restored.config.model
  assert (model.experts, model.gate) == (1, "uniform")
  # Neither gate chooses the last, of the others each has weights of its own.
  assert found.dropped == (2,)
  assert model.condense_dim == 2 * restored.config.model.condense_dim
  names = trees.flatten(found.restored.variables)
  assert not any("gate" in name for name in names)


def test_what_cannot_be_exact_is_left(mixture):
  restored, source = mixture
  flat = trees.flatten(restored.variables)
  kernel = "params/gate_box/logits/kernel"
  rng = np.random.default_rng(1)
  flat[kernel] = rng.normal(size=flat[kernel].shape).astype(np.float32)
  whole = pruning.evaluated(
    dataclasses.replace(restored, variables=trees.unflatten(flat)),
    source,
  )
  assert folding._constant(whole) is None
  for changes in (
    {"model.shared_stages": 1},
    {"model.expert_dim": 2},
    {"model.tower_sees_gate": 3},
    {"model.shared_experts": 1},
    {"model.experts": 1, "model.k": "1"},
  ):
    assert not folding._can_fold(tiny.config(**{**ALONE, **changes}), 3)
