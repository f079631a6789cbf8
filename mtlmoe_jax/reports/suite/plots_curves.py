"""A suite's figures while training, a line a variation."""

from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from mtlmoe_jax.reports import overlay, plots
from mtlmoe_jax.reports.plots import Picture
from mtlmoe_jax.reports.suite.findings import Curve

COLORS = (plots.MAIN, plots.ACCENT, *overlay.EXPERT_COLORS[2:])
STYLES = ("-", "--", ":")


def line_style(i: int) -> tuple[str, str]:
  """Color and line style of line i; all differ up to 24."""
  return COLORS[i % len(COLORS)], STYLES[i // len(COLORS) % len(STYLES)]


def time_unit(seconds: Sequence[float]) -> tuple[str, float]:
  """The unit to show times in, and its seconds."""
  longest = max((s for s in seconds if np.isfinite(s)), default=0.0)
  return ("hours", 3600.0) if longest >= 7200 else ("minutes", 60.0)


def learning(
  name: str, title: str, lines: Sequence[tuple[str, Curve]]
) -> Picture | None:
  """Test accuracy over epochs and over training time, a line a variation.

  Args:
    name: of the picture.
    title: of the picture.
    lines: label and curve; mean of the seeds, the band from the lowest to the
      highest.

  Returns:
    None where no curve has a point.
  """
  lines = [(label, curve) for label, curve in lines if len(curve.epochs)]
  if not lines:
    return None
  unit, divisor = time_unit([s for _, curve in lines for s in curve.seconds])

  def draw(figure: Figure) -> None:
    axes = figure.subplots(1, 2, sharey=True)
    for i, (label, curve) in enumerate(lines):
      color, style = line_style(i)
      values = np.ma.masked_invalid(100 * np.asarray(curve.values, float))
      seconds = np.asarray(curve.seconds, float)
      for axis, x in zip(axes, (curve.epochs, seconds / divisor)):
        if len(values) > 1:
          low, high = values.min(0), values.max(0)
          axis.fill_between(x, low, high, color=color, alpha=0.13, linewidth=0)
        axis.plot(
          x,
          values.mean(0),
          style,
          color=color,
          label=label,
          marker="o" if len(x) <= 30 else None,
          markersize=2.5,
        )
    axes[0].set(title=title, xlabel="epochs", ylabel="test accuracy, %")
    axes[0].xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
    axes[1].set_xlabel(f"training time, {unit}")
    for axis in axes:
      axis.set_xlim(left=0)
    marks = axes[0].get_legend_handles_labels()
    figure.legend(*marks, loc="outside lower center", ncols=2)

  return Picture(name, title, draw, (9, 3.3 + 0.19 * -(-len(lines) // 2)))
