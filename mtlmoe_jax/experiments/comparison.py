"""A suite's figures: each variation beside the base, paired.

Letters: S seeds, n images of the test split.
"""

import csv
import dataclasses
from collections.abc import Sequence

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.experiments import cells as cells_lib
from mtlmoe_jax.metrics import intervals

# Figure -> its value for one row of predictions.csv, given correct and IoU.
FIGURES = {
  "top1": lambda correct, iou: correct,
  "miou": lambda correct, iou: iou,
  "acc_iou_50": lambda correct, iou: _reaches(iou),
  "top1_loc": lambda correct, iou: correct * _reaches(iou),
}

# Those that each image has or has not.
SHARES = ("top1", "acc_iou_50", "top1_loc")


def _reaches(iou: np.ndarray) -> np.ndarray:
  return np.where(np.isnan(iou), np.nan, iou >= 0.5)


@dataclasses.dataclass(frozen=True)
class Figure:
  """One figure of one variation.

  Attributes:
    mean: over seeds and images.
    deviation: of the seeds' means; NaN with one seed.
    difference: to the base; NaN where one of them has no such figure.
    low: of the 95 % interval of the difference.
    high: the same.
  """

  mean: float
  deviation: float
  difference: float = np.nan
  low: float = np.nan
  high: float = np.nan

  @property
  def clear(self) -> bool:
    """Whether the interval leaves zero out."""
    return self.low > 0 or self.high < 0


@dataclasses.dataclass(frozen=True)
class Line:
  """One variation.

  Attributes:
    variation: what was changed.
    figures: by name, those that it has.
    seconds: wall time of a run, mean over seeds; NaN where nothing is trained.
    seeds: S.
  """

  variation: cells_lib.Variation
  figures: dict[str, Figure]
  seconds: float
  seeds: int


def compare(cells: Sequence[cells_lib.Cell]) -> list[Line]:
  """The variations all of whose cells are done, the base first.

  Args:
    cells: of a suite.

  Raises:
    InputError: the base is not done, or two runs tested different images.
  """
  of: dict[str, list[cells_lib.Cell]] = {}
  for cell in cells:
    of.setdefault(cell.variation.name, []).append(cell)
  done = {k: v for k, v in of.items() if all(map(cells_lib.is_done, v))}
  if cells_lib.BASE not in done:
    raise errors.InputError(
      "the suite's base has not run with all seeds: nothing to compare with"
    )
  base = values_of(done[cells_lib.BASE])
  lines = []
  for name, group in done.items():
    values = base if name == cells_lib.BASE else values_of(group)
    figures = {
      figure: _figure(values[figure], None if values is base else base[figure])
      for figure in FIGURES
      if not np.isnan(values[figure]).all()
    }
    seconds = [
      cells_lib.read_result(cell)["meta"].get("wall_seconds", np.nan)
      if cell.variation.trains
      else np.nan
      for cell in group
    ]
    lines.append(
      Line(group[0].variation, figures, float(np.mean(seconds)), len(group))
    )
  return lines


def _figure(values: np.ndarray, base: np.ndarray | None) -> Figure:
  known = values[:, ~np.isnan(values).any(axis=0)]
  mean, spread = known.mean(), intervals.deviation(known.mean(axis=1))
  if base is None or np.isnan(base).all():
    return Figure(float(mean), spread)
  found = intervals.crossed_interval(values - base)
  return Figure(float(mean), spread, *found)


def values_of(group: Sequence[cells_lib.Cell]) -> dict[str, np.ndarray]:
  """Figure -> f64 [S, n]."""
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
    rows.append({name: of(*columns) for name, of in FIGURES.items()})
  return {name: np.stack([row[name] for row in rows]) for name in FIGURES}
