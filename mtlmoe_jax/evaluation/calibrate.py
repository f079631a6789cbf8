"""The temperature of a run: fitted on its validation split, kept beside it.

WORKDIR/calibration.json belongs to one checkpoint seen in one choice of views;
for others it is not used. Letters: n images, L classes.
"""

import json
import pathlib
import sys
from typing import Any

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.data import Source
from mtlmoe_jax.metrics import calibration, split
from mtlmoe_jax.metrics.predictions import Predictions
from mtlmoe_jax.utils import files

FILE = "calibration.json"
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
  logits, labels = predictions.logits[known], predictions.labels[known]
  temperature = calibration.fit_temperature(logits, labels)
  if temperature in (calibration.T_MIN, calibration.T_MAX):
    _note(
      f"{len(labels)} validation images do not tell the temperature (it would "
      f"be at its bound, {temperature:g}): it stays 1"
    )
    temperature = 1.0
  figures, _ = split.class_metrics(logits, labels, temperature)
  record = {
    **figures,
    "split": "validation",
    "n": len(labels),
    "dataset_fingerprint": fingerprint,
    **_belongs_to(config, step),
  }
  files.write_json(pathlib.Path(workdir) / FILE, record)
  return temperature


def read(
  workdir: str | pathlib.Path, config: ml_collections.ConfigDict, step: int
) -> float | None:
  """The temperature kept for a checkpoint seen in the views of a config.

  Args:
    workdir: the folder of the run.
    config: the whole config; `eval` is used.
    step: the checkpoint's step.

  Returns:
    The temperature. None where there is no file, and, with a note on stderr,
    where it belongs to another step or to other views.

  Raises:
    InputError: a file that is no calibration.
  """
  path = pathlib.Path(workdir) / FILE
  if not path.exists():
    return None
  wanted = _belongs_to(config, step)
  try:
    record = json.loads(path.read_text("utf-8"))
    temperature = float(record["temperature"])
    found = {name: record[name] for name in wanted}
  except (KeyError, TypeError, ValueError):
    raise errors.InputError(
      f"{path} holds no temperature: delete it, or write it again with "
      "launch/evaluate.py --calibrate"
    ) from None
  if found != wanted:
    _note(
      f"{path} is not used: it was fitted for {_told(found)}, this is "
      f"{_told(wanted)}; fit it again with launch/evaluate.py --calibrate"
    )
    return None
  return temperature


def _belongs_to(config: ml_collections.ConfigDict, step: int) -> dict[str, Any]:
  """What a temperature is only right for."""
  return {
    "step": step,
    "views": config.eval.views,
    "crop_share": config.eval.crop_share,
    "zoom_margin": config.eval.zoom_margin,
  }


def _told(facts: dict[str, Any]) -> str:
  return ", ".join(f"{name} {value}" for name, value in facts.items())


def _note(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
