"""What each image of the test split has in the runs of a variation.

Letters: S seeds, n images of the test split.
"""

import csv
from collections.abc import Sequence

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.experiments import cells as cells_lib

# Metric -> its value for one row of predictions.csv, given correct and IoU.
METRICS = {
  "top1": lambda correct, iou: correct,
  "miou": lambda correct, iou: iou,
  "acc_iou_50": lambda correct, iou: _reaches(iou),
  "top1_loc": lambda correct, iou: correct * _reaches(iou),
}

# Those that each image has or has not.
SHARES = ("top1", "acc_iou_50", "top1_loc")


def _reaches(iou: np.ndarray) -> np.ndarray:
  return np.where(np.isnan(iou), np.nan, iou >= 0.5)


def values_of(group: Sequence[cells_lib.Cell]) -> dict[str, np.ndarray]:
  """Metric -> f64 [S, n]; NaN where an image has none.

  Args:
    group: a variation's cells, all done.

  Raises:
    InputError: two runs tested different images.
  """
  ids, rows = None, []
  for cell in group:
    path = cell.evaluation / "predictions.csv"
    with open(path, encoding="utf-8", newline="") as file:
      table = list(csv.DictReader(file))
    if ids is not None and ids != [row["id"] for row in table]:
      raise errors.InputError(
        f"{path} is of other images than the runs beside it: use one data set"
      )
    ids = [row["id"] for row in table]
    columns = [
      np.array([float(row.get(key) or np.nan) for row in table])
      for key in ("correct", "iou")
    ]
    rows.append({name: of(*columns) for name, of in METRICS.items()})
  return {name: np.stack([row[name] for row in rows]) for name in METRICS}
