"""The temperature: its fit, and the file that keeps it."""

import json
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.checkpoints import calibration as calibration_file
from mtlmoe_jax.evaluation import calibrate
from mtlmoe_jax.metrics import calibration, split
from mtlmoe_jax.metrics.predictions import Predictions, softmax


def drawn(seed, n=40, classes=4, temperature=2.0):
  """Logits, and labels that are true to them at a temperature."""
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 3, (n, classes))
  probs = softmax(logits, temperature)
  labels = np.asarray([rng.choice(classes, p=p) for p in probs])
  return logits, labels


def loss(logits, labels, temperature):
  log_probs = split.log_softmax(logits / temperature)
  return -np.mean(log_probs[np.arange(len(labels)), labels])


def test_two_classes_by_hand():
  # Three of four are right: sigmoid(3 / T) = 3 / 4.
  logits = np.array([[3.0, 0], [0, 3], [3, 0], [3, 0]])
  found = calibration.fit_temperature(logits, np.array([0, 1, 0, 1]))
  assert found == pytest.approx(3 / np.log(3), rel=1e-12)


def test_shares_that_are_probabilities_at_two_give_two():
  logits = 2 * np.log(np.tile([0.5, 0.3, 0.2], (10, 1)))
  labels = np.repeat([0, 1, 2], [5, 3, 2])
  found = calibration.fit_temperature(logits, labels)
  assert found == pytest.approx(2, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 10))
def test_no_temperature_has_a_smaller_loss(seed, other):
  logits, labels = drawn(seed)
  found = calibration.fit_temperature(logits, labels)
  assert 0.1 <= found <= 10
  best = loss(logits, labels, found)
  assert best <= loss(logits, labels, other) + 1e-12
  near = [loss(logits, labels, found * f) for f in (0.99, 1.01)]
  assert 0.1 < found < 10
  assert best < min(near)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.5, 2))
def test_it_scales_with_the_logits(seed, scale):
  logits, labels = drawn(seed)
  once = calibration.fit_temperature(logits, labels)
  again = calibration.fit_temperature(scale * logits, labels)
  if 0.2 < once < 5:
    assert again == pytest.approx(scale * once, rel=1e-9)


def test_what_does_not_tell_the_temperature():
  logits, _ = drawn(0)
  first, last = logits.argmax(1), logits.argmin(1)
  assert calibration.fit_temperature(logits, first) == calibration.T_MIN
  assert calibration.fit_temperature(logits, last) == calibration.T_MAX
  one_class = np.ones((3, 1)), np.zeros(3, int)
  assert calibration.fit_temperature(*one_class) == 1
  assert calibration.fit_temperature(np.full((3, 5), 2.0), first[:3]) == 1
  assert calibration.fit_temperature(np.zeros((0, 5)), first[:0]) == 1


def test_huge_logits_are_no_trouble():
  logits, labels = drawn(1)
  found = calibration.fit_temperature(1e4 * logits, labels)
  assert found == calibration.T_MAX


# --- its file ----------------------------------------------------------------


def predictions(logits, labels, has_label=None):
  n = len(labels)
  return Predictions(
    ids=[str(i) for i in range(n)],
    labels=labels,
    has_label=np.ones(n, bool) if has_label is None else has_label,
    logits=logits,
    boxes=None,
    true_boxes=np.zeros((n, 4)),
    has_box=np.zeros(n, bool),
    routing={},
  )


def kept(workdir, config, step):
  """The temperature that a checkpoint of this step would be used with."""
  record = calibration_file.read(workdir)
  restored = Restored({}, config, (), step, {}, workdir, record)
  return calibrate.temperature(restored, config)


def test_the_file_tells_what_it_was_fitted_on(tmp_path):
  config = config_lib.default_config()
  config.eval.views = "flip"
  logits, labels = drawn(3)
  known = np.arange(40) % 4 > 0
  found = calibrate.fit(
    tmp_path, predictions(logits, labels, known), config, 12, "abc"
  )
  assert found == calibration.fit_temperature(logits[known], labels[known])
  record = json.loads((tmp_path / "calibration.json").read_text())
  assert record["loss_class_calibrated"] < record["loss_class"]
  assert record["loss_class_calibrated"] == pytest.approx(
    loss(logits[known], labels[known], found)
  )
  told = {k: v for k, v in record.items() if isinstance(v, str | int)}
  assert told == {
    "split": "validation",
    "n": 30,
    "dataset_fingerprint": "abc",
    "step": 12,
    "views": "flip",
  }
  assert record["temperature"] == found
  assert kept(tmp_path, config, 12) == found


def test_a_temperature_of_something_else_is_not_used(tmp_path, capsys):
  config = config_lib.default_config()
  assert kept(tmp_path, config, 12) is None
  calibrate.fit(tmp_path, predictions(*drawn(3)), config, 12, "abc")
  assert capsys.readouterr().err == ""
  assert kept(tmp_path, config, 13) is None
  (note,) = capsys.readouterr().err.splitlines()
  assert "step 12" in note and "step 13" in note and "--calibrate" in note
  config.eval.views = "flip"
  assert kept(tmp_path, config, 12) is None
  assert "views whole" in capsys.readouterr().err


def test_a_bound_is_told_and_not_used(tmp_path, capsys):
  config = config_lib.default_config()
  logits, _ = drawn(0)
  sure = predictions(logits, logits.argmax(1))
  assert calibrate.fit(tmp_path, sure, config, 1, "") == 1
  assert "40 validation images do not tell" in capsys.readouterr().err
  assert kept(tmp_path, config, 1) == 1


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"temperature": "warm"}'])
def test_a_file_that_is_no_calibration(tmp_path, text):
  (tmp_path / "calibration.json").write_text(text)
  with pytest.raises(errors.InputError, match=r"calibration\.json"):
    calibration_file.read(tmp_path)


def test_what_cannot_be_calibrated():
  config = config_lib.default_config()
  labels = np.where(np.arange(40) < 19, 0, -1)
  for source, match in (
    (None, "has 0: train with"),
    (types.SimpleNamespace(labels=labels), "this run has 19"),
  ):
    with pytest.raises(errors.InputError, match=match):
      calibrate.check(config, source)
  labels[-1] = 1
  calibrate.check(config, types.SimpleNamespace(labels=labels))
  config.model.tasks = "box"
  with pytest.raises(errors.InputError, match="class task"):
    calibrate.check(config, types.SimpleNamespace(labels=labels))
