"""The temperature that a run keeps beside its checkpoints.

WORKDIR/calibration.json belongs to one checkpoint seen in one choice of views;
for others it is not used.
"""

import dataclasses
import json
import pathlib
from typing import Any

import ml_collections

from mtlmoe_jax import errors

FILE = "calibration.json"


@dataclasses.dataclass(frozen=True)
class Calibration:
  """A temperature, and what it is only right for.

  Attributes:
    temperature: divides the logits before they become probabilities.
    belongs_to: as `belongs_to` gives it.
    path: the file it was read from.
  """

  temperature: float
  belongs_to: dict[str, Any]
  path: pathlib.Path

  def fits(self, config: ml_collections.ConfigDict, step: int) -> bool:
    """Whether it is right for a checkpoint seen in the views of a config."""
    return self.belongs_to == belongs_to(config, step)


def belongs_to(config: ml_collections.ConfigDict, step: int) -> dict[str, Any]:
  """What a temperature is only right for.

  Args:
    config: the whole config; `eval` is used.
    step: the checkpoint's step.
  """
  return {
    "step": step,
    "views": config.eval.views,
    "crop_share": config.eval.crop_share,
    "zoom_margin": config.eval.zoom_margin,
  }


def read(workdir: pathlib.Path) -> Calibration | None:
  """The calibration of a run; None where it has none.

  Args:
    workdir: the folder of the run.

  Raises:
    InputError: a file that is no calibration.
  """
  path = workdir / FILE
  if not path.exists():
    return None
  try:
    record = json.loads(path.read_text("utf-8"))
    return Calibration(
      temperature=float(record["temperature"]),
      belongs_to={
        name: record[name]
        for name in ("step", "views", "crop_share", "zoom_margin")
      },
      path=path,
    )
  except (KeyError, TypeError, ValueError):
    raise errors.InputError(
      f"{path} holds no temperature: delete it, or write it again with "
      "mtlmoe evaluate --calibrate"
    ) from None
