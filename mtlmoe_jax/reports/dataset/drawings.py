"""Plots of a data set: sizes of its images, sizes and places of its boxes.

Each is small enough to be read on a phone. Letters: n images or boxes.
"""

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from mtlmoe_jax.reports import plots

# Cells of the map of places, along a side.
CELLS = 24
_SIZE = (4.2, 2.8)


def sizes(heights: np.ndarray, widths: np.ndarray) -> plots.Picture:
  """Histogram of the longer sides, i [n] pixels."""
  longer = np.maximum(heights, widths)

  def draw(figure: Figure) -> None:
    axis = figure.subplots()
    _histogram(axis, longer, _log_edges(longer))
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(ticker.FormatStrFormatter("%d"))
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())
    axis.set_xticks(_ticks(longer))
    axis.set(title="Longer side", xlabel="pixels", ylabel="images")

  return plots.Picture("sizes", "histogram of the longer sides", draw, _SIZE)


def shapes(heights: np.ndarray, widths: np.ndarray) -> plots.Picture:
  """Histogram of width over height, of images i [n]."""
  ratio = widths / heights

  def draw(figure: Figure) -> None:
    axis = figure.subplots()
    top = max(2.0, ratio.max(), 1 / ratio.min())
    _histogram(axis, ratio, np.geomspace(1 / top, top, 26))
    axis.set_xscale("log")
    ticks = [t for t in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8) if t <= top >= 1 / t]
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())
    axis.set(title="Shape", xlabel="width / height", ylabel="images")

  return plots.Picture("shapes", "histogram of width / height", draw, _SIZE)


def areas(boxes: np.ndarray) -> plots.Picture:
  """Histogram of the share of the image that a box covers; boxes f [n, 4]."""
  area = (boxes[:, 2:] - boxes[:, :2]).prod(1)

  def draw(figure: Figure) -> None:
    axis = figure.subplots()
    _histogram(axis, area, np.linspace(0, 1, 26))
    axis.set(
      title="Size of boxes",
      xlabel="share of the image",
      ylabel="boxes",
      xlim=(0, 1),
    )

  return plots.Picture("areas", "histogram of the areas of boxes", draw, _SIZE)


def places(boxes: np.ndarray) -> plots.Picture:
  """Where boxes f [n, 4] lie: the share of them that covers each place."""
  share = coverage(boxes)

  def draw(figure: Figure) -> None:
    axis = figure.subplots()
    image = plots.heat_map(
      axis, share, cmap="Blues", vmin=0, vmax=1, extent=(0, 1, 1, 0)
    )
    axis.set(title="Place of boxes", xlabel="x", ylabel="y")
    plots.color_bar(image, [axis], "share of boxes")

  return plots.Picture("places", "where boxes lie in images", draw, _SIZE)


def coverage(boxes: np.ndarray, cells: int = CELLS) -> np.ndarray:
  """Share of boxes that cover the centre of each cell of a grid.

  Args:
    boxes: f [n, 4] xyxy in [0, 1]; at least one.
    cells: along a side.

  Returns:
    f64 [cells, cells], y down.
  """
  centres = (np.arange(cells) + 0.5) / cells
  inside = [
    (boxes[:, [axis]] <= centres) & (centres <= boxes[:, [axis + 2]])
    for axis in (0, 1)
  ]
  x, y = (part.astype(np.float64) for part in inside)
  return y.T @ x / len(boxes)


def _histogram(axis: plots.Axes, values: np.ndarray, edges: np.ndarray) -> None:
  axis.hist(
    values, edges.tolist(), color=plots.MAIN, edgecolor="white", linewidth=0.5
  )
  axis.yaxis.set_major_locator(ticker.MaxNLocator(4, integer=True))


def _log_edges(values: np.ndarray) -> np.ndarray:
  low, high = float(values.min()), float(values.max())
  return np.geomspace(low / 1.1, high * 1.1, 26)


def _ticks(values: np.ndarray) -> list[int]:
  """Up to four numbers of two digits that span the values."""
  ends = np.geomspace(values.min(), values.max(), 4)
  return sorted({int(float(f"{end:.1e}")) for end in ends})
