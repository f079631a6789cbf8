"""predictions.csv: a row an image, object or frame."""

import math
import pathlib
from typing import Any

from mtlmoe_jax.predicting.formats.about import About, Row, Rows
from mtlmoe_jax.predicting.formats.naming import clean
from mtlmoe_jax.predicting.formats.writing import Table, open_text

NAME = "predictions.csv"
_SIDES = ("x1", "y1", "x2", "y2")


def write(rows: Rows, about: About, folder: pathlib.Path) -> list[str]:
  """Writes predictions.csv, with the columns that `columns` names.

  Lists are text: top5 is `name=p;...`, experts_<task> `expert=weight;...`.
  Boxes are normalised, pixel_* in pixels. A cell is empty where there is
  nothing.

  Args:
    rows: read once.
    about: tells the columns.
    folder: of the file.

  Returns:
    Names of the files written.
  """
  names = columns(about)
  with open_text(folder / NAME) as file:
    table = Table(file, names)
    for row in rows():
      cells = _cells(row)
      table.add({name: _text(cells.get(name)) for name in names})
  return [NAME]


def columns(about: About) -> list[str]:
  """Names of the columns; those of a part that the run lacks are left out."""
  names = ["id", "width", "height", "class", "probability", "top5"]
  names += [f"{box}_{side}" for box in ("box", "pixel") for side in _SIDES]
  if about.has_detections:
    names += [f"detection_{side}" for side in _SIDES]
    names += ["detection_confidence", "detection_category"]
  names += [f"experts_{task}" for task in about.tasks]
  if about.has_frames:
    names += ["frame", "seconds"]
  return [*names, *about.pictures, "error", "passport"]


def _cells(row: Row) -> dict[str, Any]:
  cells = dict(row)
  cells["top5"] = ";".join(
    f"{top['class']}={top['probability']:.4f}" for top in row.get("top5") or ()
  )
  box, found = row.get("box") or {}, row.get("detection") or {}
  for name, corners in (
    ("box", box.get("normalised")),
    ("pixel", box.get("pixels")),
    ("detection", found.get("normalised")),
  ):
    cells |= {f"{name}_{s}": float(v) for s, v in zip(_SIDES, corners or ())}
  cells["detection_confidence"] = found.get("confidence")
  cells["detection_category"] = found.get("category")
  for task, experts in row["experts"].items():
    cells[f"experts_{task}"] = ";".join(
      f"{e['expert']}={e['weight']:.4f}" for e in experts
    )
  return cells


def _text(value: Any) -> Any:
  if isinstance(value, float):
    return f"{value:.6f}" if math.isfinite(value) else ""
  return clean(value) if isinstance(value, str) else value
