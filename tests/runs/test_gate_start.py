"""Runs whose gates know something before the first step."""

import json
import shutil
from unittest import mock

import jax
import numpy as np
import pytest

from mtlmoe_jax.checkpoints import restore
from mtlmoe_jax.data import feature_store
from mtlmoe_jax.training import (
  console,
  gate_start,
  initialization,
  loop,
  metric_log,
)
from mtlmoe_jax.training import run as run_lib
from mtlmoe_jax.training.finish import constant_gates
from mtlmoe_jax.utils import trees
from tests.support import tiny

INFORMED = {
  "model.shared_stages": 1,
  "model.gate_input": "stem",
  "model.tower_sees_gate": 3,
  "model.upcycle_epochs": 1.0,
  "eval.report": False,
}
N = 3


def variables(folder, step="latest"):
  restored = restore.restore_for_eval(folder, step)
  return {
    collection: trees.flatten(tree)
    for collection, tree in restored.variables.items()
  }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp("informed") / "run"
  assert loop.train(tiny.config(**INFORMED), str(folder)) == 0
  return folder


def test_the_log_has_the_gates_before_training(finished):
  first = metric_log.read(finished)[0]
  assert (first["split"], first["step"]) == ("start", 0)
  assert first["class/effective_experts"] > 1.5
  assert "box/specialisation" in first and "top1" not in first


def test_moments_are_stored_and_gates_start_from_the_images(finished):
  stats = variables(finished)["batch_stats"]
  assert (stats["gate_input/std"] > 0).all()
  assert np.any(stats["gate_input/mean"])


def test_what_gates_are_worth_is_in_the_result(finished):
  result = json.loads((finished / "result.json").read_text())
  for task in ("class", "box"):
    assert -1 <= result[f"{task}/gate_value"] <= 1
    assert 0 <= result[f"{task}/variation"] <= 1 - 1 / N


def test_experts_are_copies_of_one_until_they_are_let_go(finished, tmp_path):
  # 18 training images in batches of 6: an epoch has three steps.
  early = tmp_path / "early"
  config = tiny.config(**INFORMED, **{"steps": 3, "checkpoint.every_steps": 3})
  assert loop.train(config, str(early)) == 0

  def parts(folder):
    params = variables(folder)["params"]
    return {n: v for n, v in params.items() if n.startswith("experts/")}

  for name, leaf in parts(early).items():
    for expert in leaf[1:]:
      np.testing.assert_array_equal(expert, leaf[0], err_msg=name)
  assert any(np.any(leaf[1] != leaf[0]) for leaf in parts(finished).values())


@pytest.mark.parametrize("step", [2, 5])
def test_a_run_goes_on_bit_equal(finished, tmp_path, step):
  """Stopped while one expert stands for all, and afterwards."""
  folder = tmp_path / "resumed"
  config = tiny.config(**INFORMED, **{"checkpoint.every_steps": 1})
  config.checkpoint.keep = 20
  assert loop.train(config, str(folder)) == 0
  for later in (folder / "checkpoints").iterdir():
    if later.name.isdigit() and int(later.name) > step:
      shutil.rmtree(later)
  (folder / "result.json").unlink()
  assert loop.train(config, str(folder)) == 0
  for one, other in zip(
    jax.tree.leaves(variables(finished)), jax.tree.leaves(variables(folder))
  ):
    np.testing.assert_array_equal(one, other)
  rows = metric_log.read(folder)
  assert [r["step"] for r in rows if r["split"] == "start"] == [0]


@pytest.mark.parametrize(
  ("epochs", "said"),
  [
    (1.0, "experts: one until step 3, then copies of it"),
    (4.0, "warning: the experts never part: config.model.upcycle_epochs=4"),
  ],
)
def test_the_banner_says_when_experts_part(tmp_path, epochs, said):
  config = tiny.config(**{**INFORMED, "model.upcycle_epochs": epochs})
  opened = run_lib.set_up(config, str(tmp_path / "run"))
  assert said in console.banner(opened)


def test_features_alone_are_enough(tmp_path):
  frozen = {
    "optimizer.frozen": ("stem/",),
    "features.views": 1,
    "features.cache": str(tmp_path / "cache"),
    "eval.watch_test": True,
  }
  config = tiny.config(**INFORMED, **frozen)
  assert loop.train(config, str(tmp_path / "run")) == 0
  for place in (tmp_path / "cache").iterdir():
    images = np.load(place / "image.npy")
    assert images.size == 0  # No image is kept.
    assert {p.stem for p in place.iterdir()} == set(feature_store.COLUMNS)


def test_what_is_stored_is_not_read_again(tmp_path):
  """Gates before training are looked at on features, held out or not."""
  for share in (0.0, 0.25):
    config = tiny.config(
      **INFORMED,
      **{
        "optimizer.frozen": ("stem/",),
        "features.views": 1,
        "data.validation_fraction": share,
      },
    )
    with mock.patch.object(gate_start, "_batches", side_effect=OSError):
      run_lib.set_up(config, str(tmp_path / f"run_{share}"))
    (first,) = metric_log.read(tmp_path / f"run_{share}")
    assert first["split"] == "start"
    assert 0 <= first["class/specialisation"] <= 1


def test_of_many_images_some_are_shown():
  assert gate_start.shown(3) == range(3)
  for count in (2000, 2001, 9000):
    some = gate_start.shown(count)
    assert 1000 <= len(some) <= 2000
    assert some[0] == 0 and some[-1] < count


def test_gates_may_see_the_whole_backbone(finished_run, tmp_path):
  """Of a file; its features behind the stem are kept as well."""
  weights = tmp_path / "expert.safetensors"
  got = tiny.quick_launch(
    "export.py", f"--workdir={finished_run}", f"--out={weights}", "--expert=0"
  )
  assert got.returncode == 0, got.stderr
  options = {
    **INFORMED,
    "model.gate_input": "all",
    "model.pretrained": str(weights),
    "optimizer.frozen": ("stem/",),
    "features.views": 1,
    "features.cache": str(tmp_path / "cache"),
  }
  assert loop.train(tiny.config(**options), str(tmp_path / "run")) == 0
  after = variables(tmp_path / "run")
  stores = list((tmp_path / "cache").iterdir())
  width = after["batch_stats"]["gate_input/mean"].shape[0]
  for store in stores:
    kept = np.load(store / f"{feature_store.GATE_FEATURES}.npy")
    assert kept.shape[1] == width
  # It never learns, though weight decay would change it if it did.
  source = trees.flatten(
    restore.restore_for_eval(finished_run, "best").variables["params"]
  )
  own = {
    n.removeprefix("gate_backbone/"): v
    for n, v in after["params"].items()
    if n.startswith("gate_backbone/")
  }
  assert own
  for name, value in own.items():
    theirs = source[f"experts/backbone/{name}"][0]
    np.testing.assert_array_equal(value, theirs, err_msg=name)


def test_gates_of_another_run_stay_as_they_are(finished, tmp_path):
  options = {**INFORMED, "model.upcycle_epochs": 0.0}
  config = tiny.config(**options, **{"transfer.source": str(finished)})
  opened = run_lib.set_up(config, str(tmp_path / "run"))
  assert "starts from" not in opened.start_note
  theirs = variables(finished, "best")
  for name in ("gate_class/logits/kernel", "gate_box/logits/bias"):
    np.testing.assert_array_equal(
      opened.assembly.state.params[name], theirs["params"][name]
    )
  moments = opened.assembly.state.batch_stats["gate_input"]
  np.testing.assert_array_equal(
    moments["mean"], theirs["batch_stats"]["gate_input/mean"]
  )


def test_gates_of_other_classes_start_anew(finished, tmp_path):
  options = {**INFORMED, "model.upcycle_epochs": 0.0}
  source = {"transfer.source": str(finished), "data.classes": "first:2"}
  opened = run_lib.set_up(tiny.config(**options, **source), str(tmp_path))
  assert "gate_class: starts from" in opened.start_note
  theirs, state = variables(finished, "best"), opened.assembly.state
  kernel = "gate_class/logits/kernel"
  assert np.any(state.params[kernel] != theirs["params"][kernel])
  # Moments are of the images here; what is behind the gates is taken.
  mean = state.batch_stats["gate_input"]["mean"]
  assert np.any(mean != theirs["batch_stats"]["gate_input/mean"])
  condense = "experts/condense/kernel"
  np.testing.assert_array_equal(
    state.params[condense], theirs["params"][condense]
  )


@pytest.mark.parametrize(
  ("changes", "others", "new"),
  [
    ({}, True, True),
    ({}, False, False),
    ({"transfer.gates": "keep"}, True, False),
    ({"transfer.gates": "new"}, False, True),
    ({"model.gate_input": "pixels"}, True, False),
    ({"model.gate_input": "pixels", "transfer.gates": "new"}, True, True),
    ({"transfer.freeze": ("gate.*",)}, True, False),
    ({"transfer.freeze": ("experts/",)}, True, True),
  ],
)
def test_whether_gates_of_another_run_are_taken(changes, others, new):
  config = tiny.config(**{**INFORMED, **changes})
  ours = ("a", "c") if others else ("a", "b")
  assert initialization.has_new_gates(config, ("a", "b"), ours) == new


Z = np.random.default_rng(0).normal(size=(40, 6))
LABELS = np.repeat(np.arange(4), 10)


@pytest.mark.parametrize(
  ("rows", "labels", "kind", "said"),
  [
    (40, LABELS, "discriminant", "a discriminant of 4 classes of 40 images"),
    (40, LABELS * 0, "discriminant", "clusters of 40 images (a discriminant"),
    (40, LABELS * 0 - 1, "discriminant", "clusters of 40 images (a discrim"),
    (40, LABELS, "kmeans", "starts from clusters of 40 images"),
    (40, LABELS, "zeros", "starts near 0"),
    (5, LABELS[:5], "kmeans", "starts near 0: 5 images are too few"),
    (5, LABELS[:5], "discriminant", "5 images are too few (a discriminant"),
  ],
)
def test_with_too_little_a_start_is_simpler(rows, labels, kind, said):
  arrays, line = gate_start.router(Z[:rows], labels, N, kind, "linear", 0)
  assert said in line
  assert bool(arrays) == ("starts from" in line)


def test_one_expert_needs_no_start():
  assert gate_start.router(Z, LABELS, 1, "kmeans", "linear", 0)[0] == {}


@pytest.mark.parametrize("form", ["linear", "mlp", "cosine"])
def test_every_router_has_a_start_of_its_parameters(form):
  from mtlmoe_jax.models import gates

  options = gates.GateOptions("noisy_top_k", N, 4, sees="stem", router=form)
  head = gates.Head(options)
  z = Z.astype(np.float32)
  params = trees.flatten(head.init(jax.random.key(0), z)["params"])
  arrays, _ = gate_start.router(Z, LABELS, N, "discriminant", form, 0)
  assert set(arrays) <= set(params)
  for name, value in arrays.items():
    assert np.shape(value) == params[name].shape, name
    params[name] = np.asarray(value, np.float32)
  logits = head.apply({"params": trees.unflatten(params)}, z).logits
  probs = jax.nn.softmax(logits)
  assert np.max(probs, 1).mean() > 0.6


def test_a_constant_gate_is_told():
  metrics = {
    "class/variation": 0.01,
    "class/importance": [0.0, 0.8, 0.2],
    "box/variation": 0.3,
    "box/importance": [0.3, 0.3, 0.4],
  }
  (line,) = constant_gates(metrics, "noisy_top_k")
  assert "the class gate" in line and "experts 1 (0.80), 2 (0.20)" in line
  assert constant_gates(metrics, "uniform") == []
  assert (
    constant_gates({"class/variation": 0.0, "class/importance": [1.0]}, "top_k")
    == []
  )
