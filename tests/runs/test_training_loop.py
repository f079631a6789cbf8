"""Whole runs on the tiny config: results, resume, kill, SIGTERM, transfer."""

import json
import os
import signal
import time

import jax
import numpy as np
import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import restore
from mtlmoe_jax.training import loop, metric_log, workdir
from tests.support import runs, tiny

PROMISED = {
  "split",
  "n",
  "top1",
  "top5",
  "miou",
  "mciou",
  "ciou_score",
  "acc_iou_50",
  "acc_iou_70",
  "acc_iou_75",
  "acc_iou_90",
  "top1_loc",
  "class/load",
  "box/importance",
  "seed",
  "wall_seconds",
  "images_per_second",
  "parameters",
  "parameters_active",
  "device",
  "versions",
  "commit",
  "dataset_fingerprint",
}


@pytest.fixture
def finished(finished_run):
  return finished_run


def arguments(folder):
  """Of the same run, but that nobody looks at its report."""
  return [*runs.ARGUMENTS, f"--workdir={folder}", "--config.eval.report=False"]


def final_leaves(folder):
  restored = restore.restore_for_eval(folder, "latest")
  return restored.step, jax.tree_util.tree_leaves_with_path(restored.variables)


def assert_same_run(one, other):
  (step, leaves), (other_step, other_leaves) = map(final_leaves, (one, other))
  assert step == other_step
  for (path, value), (_, again) in zip(leaves, other_leaves, strict=True):
    np.testing.assert_array_equal(value, again, err_msg=str(path))


def test_result_holds_every_promised_figure(finished):
  result = json.loads((finished / "result.json").read_text())
  missing = PROMISED - result.keys()
  assert not missing
  assert result["split"] == "test" and result["n"] == 9
  # Two gates of 2 can meet all 3 experts.
  assert result["parameters_active"] == result["parameters"] > 0
  assert result["wall_seconds"] > 0
  for name in ("metrics.json", "predictions.csv", "report.html"):
    assert (finished / "eval" / "test" / name).stat().st_size > 0
  kept = finished / "exported" / str(result["step"])
  assert {p.name for p in kept.iterdir()} >= {
    "about.json",
    "weights.safetensors",
  }


def test_metrics_have_step_epoch_split_seconds(finished):
  rows = metric_log.read(finished)
  assert {r["split"] for r in rows} == {"train", "validation"}
  assert rows[-1]["step"] == 8
  for row in rows:
    assert {"step", "epoch", "split", "seconds"} <= row.keys()
  seconds = [r["seconds"] for r in rows]
  assert seconds == sorted(seconds)


@pytest.mark.default_flags
def test_kill_at_an_arbitrary_step_and_go_on_bit_equal(finished, tmp_path):
  log = tmp_path / "log"
  process = tiny.quick_start("train.py", *arguments(tmp_path / "run"), log=log)
  deadline = time.monotonic() + 300
  # Any moment after the first checkpoint has been written will do.
  while not workdir.has_checkpoint(tmp_path / "run"):
    assert process.exitcode is None, log.read_text()
    assert time.monotonic() < deadline
    time.sleep(0.02)
  os.kill(process.pid, signal.SIGKILL)
  process.join()
  assert not (tmp_path / "run" / "result.json").exists()
  got = tiny.quick_launch("train.py", *arguments(tmp_path / "run"))
  assert got.returncode == 0, got.stderr
  assert "resumed at step" in got.stderr
  assert_same_run(finished, tmp_path / "run")
  steps = [r["step"] for r in metric_log.read(tmp_path / "run")]
  assert steps == [r["step"] for r in metric_log.read(finished)]


def test_sigterm_saves_and_exits_143(finished, tmp_path):
  log, folder = tmp_path / "log", tmp_path / "run"
  process = tiny.quick_start("train.py", *arguments(folder), log=log)
  while not metric_log.read(folder):
    assert process.exitcode is None, log.read_text()
    time.sleep(0.02)
  os.kill(process.pid, signal.SIGTERM)
  process.join(300)
  if process.exitcode == 0:
    pytest.skip("the run ended before the signal arrived")
  assert process.exitcode == loop.STOPPED, log.read_text()
  assert "start again to go on" in log.read_text()
  got = tiny.quick_launch("train.py", *arguments(folder))
  assert got.returncode == 0, got.stderr
  assert_same_run(finished, folder)


def test_a_finished_run_started_again_changes_nothing(finished, tmp_path):
  finished = runs.copy(finished, tmp_path / "run")
  before = (finished / "metrics.jsonl").read_text()
  got = tiny.quick_launch("train.py", *arguments(finished))
  assert got.returncode == 0, got.stderr
  assert (finished / "metrics.jsonl").read_text() == before


def test_evaluate_gives_the_same_figures(finished, tmp_path):
  finished = runs.copy(finished, tmp_path / "run")
  got = tiny.quick_launch(
    "evaluate.py", f"--workdir={finished}", "--batch_size=9"
  )
  assert got.returncode == 0, got.stderr
  result = json.loads((finished / "result.json").read_text())
  again = json.loads((finished / "eval/test/metrics.json").read_text())
  again = again.get("metrics", again)
  for key in ("top1", "top5", "miou", "mciou", "acc_iou_50", "top1_loc"):
    np.testing.assert_allclose(again[key], result[key], atol=1e-6)


def test_transfer_takes_what_fits_and_freezes_what_is_told(finished, tmp_path):
  config = tiny.config(
    **{
      "steps": 3,
      "transfer.source": str(finished),
      "data.classes": "first:2",
      "eval.report": False,
    }
  )
  config.transfer.freeze = ("experts/",)
  config.optimizer.ema = 0.0
  assert loop.train(config, str(tmp_path)) == 0
  source = restore.restore_for_eval(finished, "best").variables["params"]
  new = restore.restore_for_eval(tmp_path, "latest").variables["params"]
  jax.tree.map(np.testing.assert_array_equal, new["experts"], source["experts"])
  moved = jax.tree.map(
    lambda a, b: bool(np.any(a != b)), new["tower_box"], source["tower_box"]
  )
  assert any(jax.tree.leaves(moved))


def test_transfer_from_another_model_is_refused(finished, tmp_path):
  config = tiny.config(
    **{
      "transfer.source": str(finished),
      "model.condense_dim": 24,
    }
  )
  with pytest.raises(errors.InputError, match="do not fit this model"):
    loop.train(config, str(tmp_path))


def test_steps_that_are_not_finite_stop_the_run(tmp_path):
  config = tiny.config(
    **{
      "steps": 6,
      "optimizer.max_bad_steps": 2,
      "optimizer.lr": 1e30,
      "optimizer.clip": 0.0,
      "optimizer.schedule": "constant",
      "optimizer.name": "sgd",
      "optimizer.warmup_epochs": 0.0,
    }
  )
  with pytest.raises(errors.InputError, match="not finite"):
    loop.train(config, str(tmp_path))


def test_frozen_norms_without_weights_are_refused(tmp_path):
  with pytest.raises(errors.InputError, match="normalises nothing"):
    loop.train(tiny.config(**{"model.norm": "frozen"}), str(tmp_path))


def test_batch_larger_than_the_data(tmp_path):
  with pytest.raises(errors.InputError, match="more than the"):
    loop.train(tiny.config(batch_size=1000), str(tmp_path))
