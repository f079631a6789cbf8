"""The temperature of a run: fitted on its validation split, kept beside it.

What is kept, and for what it is right, is told in `checkpoints/calibration.py`.
Letters: n images, L classes.
"""

import pathlib
from typing import Any

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.checkpoints import calibration as calibration_lib
from mtlmoe_jax.data.source import Source
from mtlmoe_jax.devices import processes
from mtlmoe_jax.metrics import calibration, split
from mtlmoe_jax.metrics.predictions import Predictions
from mtlmoe_jax.utils import files

# Fewer images tell next to nothing about one number.
MIN_IMAGES = 20


def check(config: ml_collections.ConfigDict, validation: Source | None) -> None:
  """Checks that a run can be calibrated.

  Only images that were neither trained on nor are reported can tell how sure a
  model may be, so there is no other choice than the validation split.

  Args:
    config: the whole config.
    validation: its validation split, or None.

  Raises:
    InputError: no class task, or fewer than MIN_IMAGES labelled images.
  """
  if not config_lib.resolve(config).has_class:
    raise errors.InputError(
      f"config.model.tasks={config.model.tasks!r}: without the class task "
      "there are no probabilities to calibrate"
    )
  count = 0 if validation is None else int((validation.labels >= 0).sum())
  if count < MIN_IMAGES:
    raise errors.InputError(
      f"calibration needs {MIN_IMAGES} labelled validation images, this run "
      f"has {count}: train with a larger config.data.validation_fraction (it "
      f"is {config.data.validation_fraction:g})"
    )


def fit(
  workdir: str | pathlib.Path,
  predictions: Predictions,
  config: ml_collections.ConfigDict,
  step: int,
  fingerprint: str,
) -> float:
  """Fits the temperature and writes WORKDIR/calibration.json.

  Args:
    workdir: the folder of the run.
    predictions: of the n images of the validation split.
    config: the config they were made with.
    step: the checkpoint they were made by.
    fingerprint: of the data.

  Returns:
    The temperature; 1, with a note on stderr, where the images do not tell it.
  """
  known = predictions.has_label
  assert predictions.logits is not None, "checked by `check`"
  logits, labels = predictions.logits[known], predictions.labels[known]
  fitted = calibration.fit_temperature(logits, labels)
  if fitted in (calibration.T_MIN, calibration.T_MAX):
    processes.say(
      f"{len(labels)} validation images do not tell the temperature (it would "
      f"be at its bound, {fitted:g}): it stays 1"
    )
    fitted = 1.0
  metrics, _ = split.class_metrics(logits, labels, fitted)
  record = {
    **metrics,
    "split": "validation",
    "n": len(labels),
    "dataset_fingerprint": fingerprint,
    **calibration_lib.belongs_to(config, step),
  }
  files.write_json(pathlib.Path(workdir) / calibration_lib.FILE, record)
  return fitted


def temperature(
  restored: Restored, config: ml_collections.ConfigDict
) -> float | None:
  """The temperature kept for a checkpoint seen in the views of a config.

  Args:
    restored: the checkpoint.
    config: the whole config; `eval` is used.

  Returns:
    The temperature. None where none is kept, and, with a note on stderr,
    where it belongs to another step or to other views.
  """
  kept = restored.calibration
  if kept is None:
    return None
  if not kept.fits(config, restored.step):
    wanted = calibration_lib.belongs_to(config, restored.step)
    processes.say(
      f"{kept.path} is not used: it was fitted for "
      f"{_described(kept.belongs_to)}, this is {_described(wanted)}; fit it "
      "again with mtlmoe evaluate --calibrate"
    )
    return None
  return kept.temperature


def _described(facts: dict[str, Any]) -> str:
  return ", ".join(f"{name} {value}" for name, value in facts.items())
