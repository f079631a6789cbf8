"""Numbers and words of one row."""

import math
from typing import Any

from mtlmoe_jax.predicting.formats.about import Row
from mtlmoe_jax.predicting.formats.naming import clean

Corners = tuple[float, float, float, float]
# What a detector finds that no class of ours is about.
_NOT_CLASSIFIED = frozenset(("person", "human", "vehicle", "group"))
WHOLE: Corners = (0.0, 0.0, 1.0, 1.0)


def box_of(row: Row, prefer: str = "box") -> Corners | None:
  """xyxy in [0, 1] of a row: the model's box, else that of the detector.

  Args:
    row: the row.
    prefer: "detection" turns the order round.
  """
  order = ("box", "detection") if prefer == "box" else ("detection", "box")
  for name in order:
    found = row.get(name)
    if found:
      corners = found["normalised"]
      if all(math.isfinite(value) for value in corners):
        x1, y1, x2, y2 = (min(max(float(v), 0.0), 1.0) for v in corners)
        return x1, y1, max(x1, x2), max(y1, y2)
  return None


def with_sides(corners: Corners) -> list[float]:
  """[x_min, y_min, width, height] of xyxy, rounded to 6 digits."""
  x1, y1, x2, y2 = corners
  return [round(v, 6) for v in (x1, y1, x2 - x1, y2 - y1)]


def category_of(row: Row) -> str:
  """What the detector calls an object: animal, person ...; "" if nothing."""
  return clean(str((row.get("detection") or {}).get("category") or ""))


def confidence_of(row: Row) -> float | None:
  """Confidence of the detector in [0, 1], if it told one."""
  return finite((row.get("detection") or {}).get("confidence"))


def is_classified(row: Row) -> bool:
  """Whether the class is about what was found: a person is no bird."""
  if row.get("class") is None:
    return False
  return category_of(row).lower() not in _NOT_CLASSIFIED


def is_frame(row: Row) -> bool:
  """Whether a row is a frame of a video."""
  return row.get("frame") is not None


def finite(value: Any) -> float | None:
  """A number, or None for NaN, infinity and nothing."""
  if value is None or not math.isfinite(value):
    return None
  return float(value)
