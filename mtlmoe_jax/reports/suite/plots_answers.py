"""Answers as a picture: each difference with its interval and verdict."""

import textwrap
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtlmoe_jax.reports import plots
from mtlmoe_jax.reports.plots import Picture
from mtlmoe_jax.reports.suite import wording
from mtlmoe_jax.reports.suite.findings import (
  CONFIRMED,
  MARGIN,
  OPEN,
  REFUTED,
  Answer,
)

VERDICTS = {CONFIRMED: plots.MAIN, REFUTED: plots.ACCENT, OPEN: plots.MUTED}
# Heading and its answers.
Groups = Sequence[tuple[str, Sequence[Answer]]]
# Inches of a row of the picture.
_ROW = 0.34


def answers(name: str, title: str, groups: Groups) -> Picture | None:
  """A row an answer, a panel a unit; None without any difference."""
  units = dict.fromkeys(a.unit for _, of in groups for a in of if a.is_known)
  panels = {unit: list(_rows(groups, unit)) for unit in units}
  if not panels:
    return None

  def draw(figure: Figure) -> None:
    heights = [len(rows) + 1 for rows in panels.values()]
    axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)
    axes = axes[:, 0]
    for axis, (unit, rows) in zip(axes, panels.items()):
      _panel(axis, rows, unit)
    axes[0].set_title(title)
    marks = [
      Line2D([], [], marker="o", markersize=4, color=color, label=verdict)
      for verdict, color in VERDICTS.items()
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3)

  count = sum(map(len, panels.values()))
  high = 0.7 + _ROW * count + 0.5 * len(panels)
  return Picture(name, title, draw, (9, high))


def _rows(groups: Groups, unit: str) -> Iterator[tuple[str, Answer | None]]:
  """Headings, which are no answers, and the questions below them."""
  for heading, found in groups:
    of_unit = [a for a in found if a.is_known and a.unit == unit]
    if heading and of_unit:
      yield heading, None
    yield from ((wording.question(answer), answer) for answer in of_unit)


def by_metric(
  name: str, title: str, answers: Sequence[Answer]
) -> Picture | None:
  """A row a question, a panel a metric; None without any difference.

  Args:
    name: of the picture.
    title: of the picture.
    answers: differences of shares.
  """
  answers = [answer for answer in answers if answer.is_known]
  questions = list(dict.fromkeys(answer.question for answer in answers))
  metrics = [k for k in wording.FIGURES if any(a.figure == k for a in answers)]
  if not answers:
    return None

  def draw(figure: Figure) -> None:
    axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axis, metric in zip(axes, metrics):
      rows = [(questions.index(a.question), a) for a in answers]
      _differences(
        axis,
        [(row, answer) for row, answer in rows if answer.figure == metric],
        lambda a: plots.ACCENT if a.is_clear else plots.MAIN,
      )
      axis.set(title=wording.FIGURES[metric], xlabel="difference, points")
      axis.locator_params(axis="x", nbins=4)
    plots.name_rows(axes[0], questions)

  height = 1 + 0.22 * max(len(questions), 3)
  return Picture(name, title, draw, (3 + 2 * len(metrics), height))


def _panel(
  axis: Axes, rows: Sequence[tuple[str, Answer | None]], unit: str
) -> None:
  if not unit:
    margin = 100 * MARGIN
    axis.axvspan(-margin, margin, color="#f1f3f6", linewidth=0)
  _differences(
    axis,
    [(row, answer) for row, (_, answer) in enumerate(rows) if answer],
    lambda answer: VERDICTS.get(answer.verdict, plots.INK),
  )
  labels = [
    textwrap.fill(wording.cut(text, 105), 54, break_on_hyphens=False)
    for text, _ in rows
  ]
  headings = [row for row, (_, answer) in enumerate(rows) if answer is None]
  plots.name_rows(axis, labels, headings)
  axis.grid(False, axis="y")
  axis.set_xlabel(
    f"difference, {unit}"
    if unit
    else "difference, percentage points (shaded: less than one point)"
  )


def _differences(
  axis: Axes,
  rows: Sequence[tuple[int, Answer]],
  color_of: Callable[[Answer], str],
) -> None:
  """Answers with their intervals around zero, each in its row."""
  axis.axvline(0, color=plots.MUTED, linewidth=1)
  for color in dict.fromkeys(color_of(answer) for _, answer in rows):
    group = [(row, a) for row, a in rows if color_of(a) == color]
    values = [
      wording.scale(a)[0] * np.array([a.difference, a.low, a.high])
      for _, a in group
    ]
    plots.intervals(axis, [row for row, _ in group], np.stack(values), color)
