"""How the pages of a suite write numbers and names.

Shares and IoU are per cent, their differences percentage points; what is not
known is a dash.
"""

import math
from collections.abc import Sequence
from typing import Any

from mtlmoe_jax.reports.suite.findings import Answer, Measured, VariationResult
from mtlmoe_jax.utils import progress

# Metrics of a row in the order of the tables, and what they are called.
FIGURES = {
  "top1": "top-1",
  "miou": "mean IoU",
  "acc_iou_50": "IoU ≥ 0.5",
  "top1_loc": "top-1 and IoU ≥ 0.5",
  "ciou_score": "CIoU score",
}
UNKNOWN = "-"


def number(value: Any) -> float:
  """A number; NaN for None, which JSON has in its place."""
  return math.nan if value is None else float(value)


def decimal(value: float | None, digits: int = 2, sign: str = "") -> str:
  """`value` with its digits; `sign` "+" also shows that of positive ones."""
  value = number(value)
  if not math.isfinite(value):
    return UNKNOWN
  text = f"{value:{sign}.{digits}f}"
  # A difference too small to be seen has no direction either.
  return text.replace("-", "") if float(text) == 0 and not sign else text


def percent(value: float | None) -> str:
  """`0.844` -> `84.4`."""
  return decimal(100 * number(value), 1)


def millions(value: float) -> str:
  """Three digits or so, whatever the size."""
  value /= 1e6
  return decimal(value, 0 if value >= 100 else 2, ",")


def spread(metric: Measured | None) -> str:
  """Mean and standard deviation over seeds, per cent."""
  if metric is None or not math.isfinite(metric.mean):
    return UNKNOWN
  text = percent(metric.mean)
  if math.isfinite(metric.deviation):
    text += f" ± {percent(metric.deviation)}"
  return text


def interval(low: float, high: float, digits: int = 1, sign: str = "") -> str:
  """`[low, high]`; nothing where a side is unknown."""
  if not (math.isfinite(low) and math.isfinite(high)):
    return ""
  return f"[{decimal(low, digits, sign)}, {decimal(high, digits, sign)}]"


def scale(answer: Answer) -> tuple[float, str]:
  """What a difference is multiplied by to be shown, and its unit then."""
  return (1.0, answer.unit) if answer.unit else (100.0, "points")


def effect(answer: Answer) -> str:
  """Difference, interval and unit."""
  if not answer.is_known:
    return UNKNOWN
  by, unit = scale(answer)
  parts = [
    decimal(by * answer.difference, 1, "+"),
    interval(by * answer.low, by * answer.high, 1, "+"),
    unit,
  ]
  return " ".join(part for part in parts if part)


def p_value(value: float | None) -> str:
  """Small ones by their bound alone."""
  value = number(value)
  return "<0.001" if value < 0.001 else decimal(value, 3)


def question(answer: Answer) -> str:
  """The question and the metric that decides it."""
  return f"{answer.question}: {FIGURES.get(answer.figure, answer.figure)}"


def duration(seconds: float) -> str:
  """Of a run."""
  return progress.duration(seconds) if math.isfinite(seconds) else UNKNOWN


def label(row: VariationResult, limit: int = 60) -> str:
  """A row in a picture: of a long one the name is kept."""
  return f"{cut(row.what, max(limit - len(row.name) - 3, 8))} ({row.name})"


def cut(text: str, limit: int) -> str:
  """The text, or its beginning and an ellipsis."""
  return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def cell(row: VariationResult) -> str:
  """A row in a table."""
  return f"{row.what} (`{row.name}`)"


def mean(values: Sequence[float]) -> float:
  """Of the known values; NaN without any."""
  known = [value for value in values if math.isfinite(value)]
  return sum(known) / len(known) if known else math.nan
