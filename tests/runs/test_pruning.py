"""Experts that no gate chooses are dropped, and nothing else changes."""

import copy
import dataclasses

import numpy as np
import pytest

from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import restore
from mtlmoe_jax.evaluation import evaluate, pruning
from mtlmoe_jax.experiments import removal
from mtlmoe_jax.utils import trees
from tests.support import tiny


@pytest.fixture(scope="module")
def restored(finished_run):
  return restore.restore_for_eval(finished_run, "latest")


@pytest.fixture(scope="module")
def images(restored):
  data = data_lib.open_data(restored.config)
  return data_lib.Subset(data.test, range(4))


def without(restored, expert):
  """The same run, whose gates never choose an expert."""
  variables = removal.without_expert(restored.variables, expert)
  return dataclasses.replace(restored, variables=variables)


def test_an_unused_expert_goes_and_outputs_stay(restored, images):
  found = pruning.prune(without(restored, 1), images)
  assert found.dropped == (1,)
  assert found.difference <= pruning.TOLERANCE
  assert found.images == 4
  before, after = found.parameters
  assert after < before
  assert found.restored.config.model.experts == 2
  for name, leaf in trees.flatten(found.restored.variables["params"]).items():
    old = trees.flatten(restored.variables["params"])[name]
    if name.startswith("experts/"):
      np.testing.assert_array_equal(leaf, np.asarray(old)[[0, 2]])


def test_experts_that_are_used_stay(restored):
  whole = data_lib.open_data(restored.config).test
  answers = evaluate.evaluate_restored(restored, None, progress=False)
  chosen = [c.experts for c in answers.predictions.routing.values()]
  unused = set(range(3)) - set(np.unique(np.concatenate(chosen, axis=1)))
  assert set(pruning.prune(restored, whole).dropped) == unused


def test_what_a_tower_is_told_is_not_dropped(restored, images):
  config = copy.deepcopy(restored.config)
  config.model.tower_sees_gate = 3
  told = dataclasses.replace(without(restored, 1), config=config)
  plain = pruning.evaluated(without(restored, 1), images)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(pruning, "evaluated", lambda *_: plain)
    with pytest.raises(errors.InputError, match="towers are told"):
      pruning.prune(told, images)


def test_a_model_whose_outputs_would_change_is_refused(restored, images):
  """Weights that are shares of all experts, the unused one's among them."""
  plain = pruning.evaluated(without(restored, 1), images)
  other = dataclasses.replace(plain, logits=plain.logits + 1)
  answers = iter([plain, other])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(pruning, "evaluated", lambda *_: next(answers))
    with pytest.raises(errors.InputError, match="outputs change by up to 1:"):
      pruning.prune(without(restored, 1), images)


def test_export_says_what_it_dropped(finished_run, tmp_path):
  out = tmp_path / "pruned.safetensors"
  got = tiny.quick_launch(
    "export.py", f"--workdir={finished_run}", f"--out={out}", "--prune"
  )
  assert got.returncode == 0, got.stderr
  assert "dropped experts" in got.stdout or "none dropped" in got.stdout
  assert out.is_file()
