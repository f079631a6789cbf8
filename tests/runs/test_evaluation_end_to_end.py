"""A tiny run in several views and with a temperature, from end to end."""

import json

import numpy as np
import pytest
from PIL import Image

from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import restore_for_eval
from mtlmoe_jax.evaluation import evaluate
from mtlmoe_jax.training import loop
from tests.support import tiny, written


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  options = {
    "steps": 2,
    "data.synthetic.train_per_class": 20,
    "data.validation_fraction": 0.4,
    "model.experts": 2,
    "model.k": "1",
    "eval.views": "flip",
    "eval.calibrate": True,
    "eval.report": False,
    "optimizer.name": "sgd",
    "optimizer.ema": 0.0,
  }
  loop.train(tiny.config(**options), str(folder))
  return folder


def load(path):
  return json.loads(path.read_text())


def test_training_uses_and_records_views_and_temperature(workdir):
  result = load(workdir / "result.json")
  meta = load(workdir / "eval" / "test" / "metrics.json")["meta"]
  assert result["views"] == meta["views"] == "flip"
  record = load(workdir / "calibration.json")
  assert (record["n"], record["step"], record["views"]) == (24, 2, "flip")
  assert result["temperature"] == record["temperature"]


def test_a_temperature_is_used_by_evaluation_and_prediction(workdir, tmp_path):
  path = workdir / "calibration.json"
  path.write_text(json.dumps({**load(path), "temperature": 0.25}))
  restored = restore_for_eval(workdir)
  found = evaluate.evaluate_restored(restored, workdir / "eval", progress=False)
  result = load(workdir / "result.json")
  for name in ("miou", "loss_class", "ece", "brier"):
    assert found.metrics[name] == pytest.approx(result[name], abs=1e-6)
  p = found.predictions
  sharper = np.exp(4 * p.logits.astype(float))
  sharper /= sharper.sum(1, keepdims=True)
  np.testing.assert_allclose(p.probabilities, sharper, rtol=1e-9)
  page = (workdir / "eval" / "test" / "report.html").read_text()
  assert 'aria-label="accuracy against confidence, calibrated"' in page

  source = evaluate.data_lib.open_data(restored.config).test
  Image.fromarray(source[4]["image"]).save(tmp_path / "a.png")
  (entry,) = written.rows(
    restored,
    [tmp_path / "a.png"],
    tmp_path / "out",
  )
  assert entry["probability"] == pytest.approx(sharper[4].max(), rel=1e-4)
  np.testing.assert_allclose(entry["box"]["normalised"], p.boxes[4], atol=1e-5)


def test_the_script_calibrates_for_other_views(workdir):
  got = tiny.quick_launch(
    "evaluate.py", f"--workdir={workdir}", "--views=crops+flip", "--calibrate"
  )
  assert got.returncode == 0, got.stderr
  record = load(workdir / "calibration.json")
  assert record["views"] == "crops+flip"
  assert "loss_class_calibrated" in got.stdout
  metrics = load(workdir / "eval" / "test" / "metrics.json")
  assert metrics["temperature"] == record["temperature"]
  assert metrics["meta"]["views"] == "crops+flip"


def test_training_refuses_what_it_could_not_calibrate(tmp_path):
  options = {"eval.calibrate": True, "data.validation_fraction": 0.0}
  with pytest.raises(errors.InputError, match="labelled validation images"):
    loop.train(tiny.config(**options), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()
