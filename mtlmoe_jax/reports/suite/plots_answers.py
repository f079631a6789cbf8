"""Answers as a picture: each difference with its interval and verdict."""

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtlmoe_jax.experiments import claims
from mtlmoe_jax.reports import plots
from mtlmoe_jax.reports.suite import wording
from mtlmoe_jax.reports.suite.document import Picture
from mtlmoe_jax.reports.suite.findings import Answer

VERDICTS = {
  claims.CONFIRMED: plots.MAIN,
  claims.REFUTED: plots.ACCENT,
  claims.OPEN: plots.MUTED,
}
# Inches of a row of the picture.
_ROW = 0.34


def answers(
  name: str, title: str, groups: Sequence[tuple[str, Sequence[Answer]]]
) -> Picture | None:
  """A row an answer, a panel a unit.

  Args:
    name: of the picture.
    title: of the picture.
    groups: heading and its answers; those without a difference are left out.

  Returns:
    None where no answer is left.
  """
  panels: dict[str, list[tuple[str, Answer | None]]] = {}
  for heading, found in groups:
    opened = set()
    for answer in found:
      if not math.isfinite(answer.difference):
        continue
      rows = panels.setdefault(answer.unit, [])
      if heading and answer.unit not in opened:
        rows.append((heading, None))
        opened.add(answer.unit)
      rows.append((wording.question(answer), answer))
  if not panels:
    return None

  def draw(figure: Figure) -> None:
    axes = figure.subplots(
      len(panels),
      1,
      squeeze=False,
      height_ratios=[len(rows) + 1 for rows in panels.values()],
    )[:, 0]
    for axis, (unit, rows) in zip(axes, panels.items()):
      _panel(axis, rows, unit)
    axes[0].set_title(title)
    marks = [
      Line2D([], [], marker="o", markersize=4, color=color, label=verdict)
      for verdict, color in VERDICTS.items()
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3)

  rows = sum(map(len, panels.values()))
  return Picture(name, title, draw, (9, 0.7 + _ROW * rows + 0.5 * len(panels)))


def _panel(
  axis: Axes, rows: Sequence[tuple[str, Answer | None]], unit: str
) -> None:
  if not unit:
    margin = 100 * claims.MARGIN
    axis.axvspan(-margin, margin, color="#f1f3f6", linewidth=0)
  axis.axvline(0, color=plots.MUTED, linewidth=1)
  for place, (_, answer) in enumerate(rows):
    if answer is None:
      continue
    by, _ = wording.scale(answer)
    color = VERDICTS.get(answer.verdict, plots.INK)
    ends = (by * answer.low, by * answer.high)
    # A single run has no interval over runs.
    if all(map(math.isfinite, ends)):
      axis.plot(ends, [place] * 2, color=color)
    axis.plot(by * answer.difference, place, "o", color=color, markersize=4.5)
  labels = [
    textwrap.fill(wording.cut(text, 105), 54, break_on_hyphens=False)
    for text, _ in rows
  ]
  axis.set_yticks(range(len(rows)), labels)
  for tick, (_, answer) in zip(axis.get_yticklabels(), rows):
    if answer is None:
      tick.set_weight("bold")
  axis.tick_params("y", length=0)
  axis.grid(False, axis="y")
  axis.set_ylim(len(rows) - 0.4, -0.6)
  axis.set_xlabel(
    f"difference, {unit}"
    if unit
    else "difference, percentage points (shaded: less than one point)"
  )
