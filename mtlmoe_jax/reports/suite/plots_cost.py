"""What each variation reaches, beside what it costs."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from mtlmoe_jax.reports import plots
from mtlmoe_jax.reports.plots import Picture
from mtlmoe_jax.reports.suite import plots_curves, results, wording
from mtlmoe_jax.reports.suite.findings import VariationResult


def cost(rows: Sequence[VariationResult]) -> Picture | None:
  """A metric with its 95 % interval, time of a run and work of an image.

  A row a variation, under the heading of its group; a panel a number. Those
  without the metric or without any cost are left out; None if no row is left.
  """
  key = next(iter(results.metrics([row.figures for row in rows])), "")
  rows = [
    row
    for row in rows
    if key in row.figures
    and (math.isfinite(row.seconds) or math.isfinite(row.flops))
  ]
  if not rows:
    return None
  groups = results.groups(rows)
  unit, seconds = plots_curves.time_unit([row.seconds for row in rows])
  costs: list[tuple[str, Callable[[VariationResult], float]]] = [
    (f"time of a run, {unit}", lambda row: row.seconds / seconds),
    ("work of an image, MFLOPs", lambda row: row.flops / 1e6),
  ]
  costs = [c for c in costs if any(math.isfinite(c[1](row)) for row in rows)]
  metric = wording.FIGURES[key]
  title = f"{metric} against what it costs"

  def draw(figure: Figure) -> None:
    axes = figure.subplots(1, 1 + len(costs), sharey=True)
    names: list[str] = []
    headings = []
    for i, (group, members) in enumerate(groups):
      color, _ = plots_curves.line_style(i)
      headings.append(len(names))
      names.append(wording.cut(group, 48))
      places = range(len(names), len(names) + len(members))
      names += [wording.label(row, 52) for row in members]
      found = [row.figures[key] for row in members]
      reached = 100 * np.array([(m.mean, m.low, m.high) for m in found])
      plots.intervals(axes[0], places, reached, color)
      for axis, (_, cost_of) in zip(axes[1:], costs):
        widths = [cost_of(row) for row in members]
        axis.barh(places, widths, 0.6, color=color, alpha=0.6)
    plots.name_rows(axes[0], names, headings)
    for axis, (label, _) in zip(axes, [(f"{metric}, %", None), *costs]):
      axis.set_xlabel(label)
      axis.tick_params("y", length=0)
      axis.grid(False, axis="y")
    axes[0].set_title(title)

  rows_drawn = max(len(rows) + len(groups), 5)
  size = (5.5 + 2.2 * len(costs), 0.9 + 0.2 * rows_drawn)
  return Picture("cost", title, draw, size)
