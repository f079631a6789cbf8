"""The differences of a suite as a picture: one row a variation."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from mtlmoe_jax.experiments.comparison import FIGURES, Line
from mtlmoe_jax.reports import plots


def draw(lines: Sequence[Line]) -> bytes:
  """SVG of all differences with their 95 % intervals, a panel a figure.

  Args:
    lines: the base first.
  """
  rows = lines[1:]

  def fill(figure: Figure) -> None:
    axes = figure.subplots(1, len(FIGURES), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, FIGURES):
      axis.axvline(0, color=plots.MUTED, linewidth=1)
      for place, line in enumerate(rows):
        found = line.figures.get(name)
        if found is None or math.isnan(found.difference):
          continue
        color = plots.ACCENT if found.clear else plots.MAIN
        axis.plot([found.low, found.high], [place] * 2, color=color)
        axis.plot(found.difference, place, "o", color=color, markersize=4)
      axis.set_title(name)
      axis.set_xlabel("difference to the base")
      axis.locator_params(axis="x", nbins=4)
    axes[0].set_yticks(range(len(rows)), [row.variation.what for row in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)

  return plots.render(fill, 11, 1 + 0.22 * max(len(rows), 3))
