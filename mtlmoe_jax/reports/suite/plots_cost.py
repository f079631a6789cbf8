"""What each variation reaches, against what it costs."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlmoe_jax.reports.suite import plots_curves, wording
from mtlmoe_jax.reports.suite.document import Picture
from mtlmoe_jax.reports.suite.findings import VariationResult

# Inches of a panel, without its axis' names.
_ACROSS = 3.3
# Points of a number beside its point, and of a line of the list.
_NUMBER = (11.0, 9.0)
_LINE = 13.5


def cost(name: str, rows: Sequence[VariationResult]) -> Picture | None:
  """A figure against the time of a run and against the work of an image.

  Points are numbered; the list of names stands beside them. Bars are 95 %
  intervals.

  Args:
    name: of the picture.
    rows: those without the figure or without any cost are left out.

  Returns:
    None where no row is left.
  """
  held = [key for key in wording.FIGURES if any(key in r.figures for r in rows)]
  key = held[0] if held else ""
  rows = [
    row
    for row in rows
    if key in row.figures
    and (math.isfinite(row.seconds) or math.isfinite(row.flops))
  ]
  if not rows:
    return None
  unit, divisor = plots_curves.time_unit([row.seconds for row in rows])
  panels = [
    (f"time of a run, {unit}", [row.seconds / divisor for row in rows], False),
    ("work of an image, MFLOPs", [row.flops / 1e6 for row in rows], True),
  ]
  panels = [panel for panel in panels if np.isfinite(panel[1]).any()]
  groups = list(dict.fromkeys(row.group for row in rows))
  tints = [plots_curves.line_style(groups.index(row.group))[0] for row in rows]
  high = max(3.2, 0.8 + _LINE / 72 * (len(rows) + len(groups)))
  title = f"{wording.FIGURES[key]} against what it costs"

  def draw(figure: Figure) -> None:
    ratios = [*[_ACROSS] * len(panels), 3.6]
    *axes, beside = figure.subplots(1, len(panels) + 1, width_ratios=ratios)
    for axis, (what, x, is_log) in zip(axes, panels):
      x = np.asarray(x)
      _limits(axis, x, is_log)
      if is_log:
        x = _side_by_side(x, axis.get_xlim())
      y = _points(axis, x, rows, key, tints)
      _numbers(axis, x, y, tints, (_ACROSS, high - 0.8))
      axis.set_xlabel(what)
      axis.set_ylabel(f"{wording.FIGURES[key]}, %")
    axes[0].set_title(title)
    _names(beside, rows, tints, high)

  return Picture(name, title, draw, (_ACROSS * len(panels) + 4.7, high))


def _points(
  axis: Axes,
  x: np.ndarray,
  rows: Sequence[VariationResult],
  key: str,
  tints: Sequence[str],
) -> np.ndarray:
  """Draws points and intervals; f [rows] of their heights."""
  y = np.array([100 * row.figures[key].mean for row in rows])
  for place, value, row, tint in zip(x, y, rows, tints):
    found = row.figures[key]
    if not math.isfinite(place):
      continue
    ends = (100 * found.low, 100 * found.high)
    axis.plot([place] * 2, ends, color=tint, linewidth=1, alpha=0.45)
    axis.plot(place, value, "o", color=tint, markersize=4.5)
  return y


def _limits(axis: Axes, x: np.ndarray, is_log: bool) -> None:
  """Room for the numbers right of the last points; few ticks."""
  known = x[np.isfinite(x)]
  if not is_log:
    axis.set_xlim(0, 1.15 * known.max())
    return
  axis.set_xscale("log")
  # Of points that are close to each other a decade would show nothing.
  low, top = known.min() / 1.4, known.max() * 1.4
  axis.set_xlim(low, top)
  ticks = _round_numbers(low, top)
  axis.xaxis.set_major_locator(ticker.FixedLocator(ticks))
  axis.xaxis.set_major_formatter("{x:,g}")
  axis.xaxis.set_minor_locator(ticker.NullLocator())


def _side_by_side(x: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
  """Equal values a little apart, on an axis of logarithms: f [rows]."""
  apart = x.copy()
  # A point of the paper.
  step = math.log(limits[1] / limits[0]) / (72 * _ACROSS)
  for value in np.unique(x[np.isfinite(x)]):
    same = np.flatnonzero(x == value)
    places = np.arange(len(same)) - (len(same) - 1) / 2
    gap = min(6.0, 42 / len(same))
    apart[same] = value * np.exp(step * gap * places)
  return apart


def _round_numbers(low: float, high: float) -> list[float]:
  """1, 2, 5, 10 ... between two numbers; fewer where many decades lie there."""
  steps = (1,) if math.log10(high / low) > 2.5 else (1, 2, 5)
  if math.log10(high / low) < 0.7:
    steps = (1, 1.5, 2, 3, 4, 5, 6, 8)
  decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
  ticks = [step * 10.0**decade for decade in decades for step in steps]
  return [tick for tick in ticks if low <= tick <= high]


def _numbers(
  axis: Axes,
  x: np.ndarray,
  y: np.ndarray,
  tints: Sequence[str],
  size: tuple[float, float],
) -> None:
  """Numbers the points from 1 where nothing else stands.

  Args:
    axis: with its final limits.
    x: f [rows]; NaN for none.
    y: f [rows].
    tints: colour of each.
    size: inches of the panel: about, as the layout is known only later.
  """
  axis.set_ylim(*axis.get_ylim())
  known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
  at = axis.transAxes.inverted().transform(
    axis.transData.transform(np.stack([x[known], y[known]], 1))
  )
  at = at * np.array(size) * 72
  # Middles of the numbers that are drawn, in points, as those of the points.
  taken: list[np.ndarray] = []
  for index, here in zip(known, at):
    offset = next(
      (
        step
        for step in _steps()
        if 6 <= (here + step)[0] <= 72 * size[0] - 6
        and all(_apart(here + step, other, _NUMBER) for other in taken)
        and all(_apart(here + step, other, (9.0, 8.0)) for other in at)
      ),
      np.array([9.0, 0.0]),
    )
    taken.append(here + offset)
    far = np.hypot(*offset) > 14
    axis.annotate(
      str(index + 1),
      (x[index], y[index]),
      offset,
      textcoords="offset points",
      ha="center",
      va="center",
      fontsize=7,
      color=tints[index],
      arrowprops={
        "arrowstyle": "-",
        "color": tints[index],
        "linewidth": 0.5,
        "shrinkA": 4,
        "shrinkB": 1,
      }
      if far
      else None,
    )


def _steps() -> list[np.ndarray]:
  """Where a number may stand from its point, the best first."""
  turns = (0, 45, -45, 180, 135, -135, 90, -90, 22, -22, 158, -158)
  return [
    radius * np.array([math.cos(math.radians(a)), math.sin(math.radians(a))])
    for radius, a in itertools.product((10, 19, 28, 38, 50), turns)
  ]


def _apart(
  one: np.ndarray, other: np.ndarray, least: tuple[float, float]
) -> bool:
  return bool((np.abs(one - other) >= least).any())


def _names(
  axis: Axes, rows: Sequence[VariationResult], tints: Sequence[str], high: float
) -> None:
  """The list of numbers and names, by group."""
  axis.set_axis_off()
  lines: list[tuple[str, str, str]] = []
  group = None
  for i, (row, tint) in enumerate(zip(rows, tints)):
    if row.group != group:
      group = row.group
      lines.append((wording.cut(group, 48), tint, "bold"))
    lines.append((f"{i + 1}  {wording.label(row, 52)}", tint, "normal"))
  for i, (text, tint, weight) in enumerate(lines):
    axis.annotate(
      text,
      (0, 1),
      (0, -_LINE * i),
      xycoords="axes fraction",
      textcoords="offset points",
      va="top",
      fontsize=8,
      color=tint,
      weight=weight,
      # The layout would shrink all panels for one long name.
      in_layout=False,
    )
