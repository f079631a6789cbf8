"""Several models together: against a loop, and two tiny runs end to end."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import restore_for_eval
from mtlmoe_jax.evaluation import ensemble, evaluate
from mtlmoe_jax.metrics.predictions import Predictions, softmax
from mtlmoe_jax.training import loop
from tests.support import tiny

N, CLASSES = 5, 3


def said(seed, **changes):
  rng = np.random.default_rng(seed)
  corners = np.sort(rng.random((N, 2, 2)), axis=1).reshape(N, 4)
  return Predictions(
    **{
      "ids": [f"image {i}" for i in range(N)],
      "labels": np.array([0, 1, 2, -1, 1]),
      "has_label": np.array([True, True, True, False, True]),
      "logits": rng.normal(0, 3, (N, CLASSES)).astype(np.float32),
      "boxes": corners.astype(np.float32),
      "true_boxes": np.zeros((N, 4), np.float32),
      "has_box": np.ones(N, bool),
      "routing": {},
      **changes,
    }
  )


def test_means_are_those_of_a_loop():
  members = [said(0), said(1, temperature=2.0), said(2, temperature=0.5)]
  found = ensemble.combine(members)
  for i in range(N):
    probabilities, corners = np.zeros(CLASSES), np.zeros(4)
    for m in members:
      probabilities += softmax(m.logits[i], m.temperature or 1.0) / 3
      corners += m.boxes[i] / 3
    np.testing.assert_allclose(
      found.probabilities[i], probabilities, rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(found.boxes[i], corners, rtol=1e-6)
  assert found.temperature is None and found.routing == {}
  for name in ("ids", "labels", "has_label", "true_boxes", "has_box"):
    np.testing.assert_array_equal(getattr(found, name), getattr(said(0), name))


def test_a_model_agrees_with_itself():
  one = said(3)
  found = ensemble.combine([one, one, one])
  np.testing.assert_allclose(found.probabilities, one.probabilities, rtol=1e-6)
  np.testing.assert_allclose(found.boxes, one.boxes, rtol=1e-6)


@pytest.mark.parametrize("missing", ["logits", "boxes"])
def test_runs_of_one_task_have_that_one(missing):
  members = [said(0, **{missing: None}), said(1, **{missing: None})]
  found = ensemble.combine(members)
  assert getattr(found, missing) is None
  assert {"logits", "boxes"} - {missing} == {
    name for name in ("logits", "boxes") if getattr(found, name) is not None
  }


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"ids": ["other"] * N}, "images or labels"),
    ({"labels": np.array([0, 1, 2, -1, 2])}, "images or labels"),
    ({"logits": None}, "task 'class'"),
    ({"boxes": None}, "task 'box'"),
    ({"logits": np.zeros((N, 4), np.float32)}, "3 and 4 classes"),
  ],
)
def test_runs_that_do_not_go_together_are_refused(changes, message):
  with pytest.raises(errors.InputError, match=message):
    ensemble.combine([said(0), said(1, **changes)])


@pytest.fixture(scope="module")
def runs(finished_run, tmp_path_factory):
  """Two tiny runs that differ in seed and number of experts."""
  other = tmp_path_factory.mktemp("runs") / "seed_1"
  options = {
    "steps": 2,
    "seed": 1,
    "model.experts": 2,
    "optimizer.name": "sgd",
    "optimizer.ema": 0.0,
    "eval.report": False,
  }
  loop.train(tiny.config(**options), str(other))
  return [str(finished_run), str(other)]


def restored(runs):
  return (restore_for_eval(run) for run in runs)


def contents(run):
  return {p: p.stat().st_mtime_ns for p in sorted(pathlib.Path(run).rglob("*"))}


def test_two_runs_together(runs, tmp_path):
  before = [contents(run) for run in runs]
  members, together = ensemble.evaluate_together(
    restored(runs), tmp_path, progress=False
  )
  assert [contents(run) for run in runs] == before
  assert [m.workdir for m in members] == runs
  for run, member in zip(runs, members):
    alone = json.loads((pathlib.Path(run) / "result.json").read_text())
    assert member.evaluation.metrics["miou"] == pytest.approx(alone["miou"])
    assert member.evaluation.metrics["top1"] == alone["top1"]
  want = ensemble.combine([m.evaluation.predictions for m in members])
  assert together.metrics == evaluate.compute_metrics(want)
  written = json.loads((tmp_path / "metrics.json").read_text())
  assert written["miou"] == together.metrics["miou"]
  assert [m["workdir"] for m in written["meta"]["members"]] == runs
  assert list(written["meta"]["config"]) == runs
  rows = (tmp_path / "predictions.csv").read_text().splitlines()
  assert len(rows) == 1 + written["n"]
  page = (tmp_path / "report.html").read_text()
  assert "models together" in page and runs[1] in page

  text = ensemble.table(members, together).splitlines()
  assert [line.split()[0] for line in text[1:3]] == runs
  mean = np.mean([m.evaluation.metrics["miou"] for m in members])
  assert f"{mean:.4f}" in text[3]
  assert f"{together.metrics['miou']:.4f}" in text[4]


def test_mistakes_are_named(runs, tmp_path):
  one, two = restored(runs)
  other = dataclasses.replace(two, class_names=("a", "b", "c"))
  for given, message in [
    ([], "two or more"),
    ([one], "two or more"),
    ([one, one], "named twice"),
    ([one, other], "classes"),
  ]:
    with pytest.raises(errors.InputError, match=message):
      ensemble.evaluate_together(given, tmp_path / "out", progress=False)
  assert not (tmp_path / "out").exists()
