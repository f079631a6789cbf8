"""Plots of a report, each drawn to SVG bytes.

Letters: n images, L classes, N experts. Plots are made without pyplot: no
global state is touched and no display is needed.
"""

import dataclasses
import importlib.resources
import io
import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colors, ticker
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mtlmoe_jax.metrics.predictions import Choices
from mtlmoe_jax.metrics.split import ECE_BINS, IOU_THRESHOLDS
from mtlmoe_jax.reports import overlay
from mtlmoe_jax.reports.names import display_name

INK = "#2b2f36"
MUTED = "#8a919c"
MAIN = "#3566a8"
ACCENT = "#d9662b"
PALE = "#c6d5ea"
SPLIT_COLORS = {"train": "#9aa5b5", "validation": MAIN, "test": ACCENT}
PANELS = (
  ("loss", "total loss"),
  ("loss_class", "class loss, nats"),
  ("loss_box", "box loss, 1 - CIoU"),
  ("top1", "top-1 accuracy"),
  ("miou", "mean IoU"),
  ("lr", "learning rate"),
)
# Up to this many classes every name and every cell is written out.
SMALL = 20
# Up to this many classes every name is written.
NAMED = 45

_STYLE = str(
  importlib.resources.files(__package__) / "templates/plots.mplstyle"
)


@dataclasses.dataclass(frozen=True)
class Picture:
  """A plot, not drawn yet.

  Attributes:
    name: part of its file's name; once on a page.
    title: what it shows, for those who do not see it.
    draw: fills the figure.
    size: inches across and down.
  """

  name: str
  title: str
  draw: Callable[[Figure], None]
  size: tuple[float, float]

  def svg(self) -> bytes:
    """The picture, drawn."""
    return render(self.draw, *self.size)


def render(
  draw: Callable[[Figure], None],
  width: float,
  height: float,
) -> bytes:
  """SVG of a plot.

  Args:
    draw: fills the figure.
    width: inches.
    height: inches.
  """
  with matplotlib.rc_context(fname=_STYLE):
    figure = Figure((width, height), layout="constrained", dpi=150)
    draw(figure)
    out = io.BytesIO()
    # Without the time: equal data, equal file.
    figure.savefig(out, format="svg", metadata={"Date": None})
  return _compact(out.getvalue().decode()).encode()


def _compact(svg: str) -> str:
  """The same picture in two thirds of the bytes."""
  # Coordinates alone: what is written between the tags has all its digits.
  svg = re.sub(
    "<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), svg
  )
  svg = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", svg)
  svg = re.sub(r"\n\s+", "\n", svg)

  def style_once(group: re.Match[str]) -> str:
    """Marks of one look: the look stands at their group."""
    styles = set(re.findall(r' style="[^"]*"', group[2]))
    if len(styles) != 1 or "style=" in group[1]:
      return group[0]
    style = styles.pop()
    return f"<g{group[1]}{style}>\n{group[2].replace(style, '')}</g>"

  svg = re.sub(r"<g([^>]*)>\n((?:<use [^>]*/>\n)+)</g>", style_once, svg)
  return _without_bare_groups(svg)


def _without_bare_groups(svg: str) -> str:
  """Without groups that are only a name, which nothing refers to."""
  svg = re.sub(r'<g id="[^"]*"', "<g", svg)
  shape = r"<(?:path|use|image)\b[^>]*/>\n"
  text = r"<text\b[^>]*>[^<]*</text>\n"
  styled = rf"<g [^>]*>\n(?:{shape})+</g>\n"
  # From the innermost outwards.
  count = 1
  while count:
    svg, count = re.subn(
      rf"<g>\n((?:{shape})*|{text}|{styled})</g>\n", r"\1", svg
    )
  return svg


def grid(count: int, across: int = 3) -> tuple[int, int]:
  """Rows and columns for so many panels."""
  return -(-count // across), min(across, count)


def panels(figure: Figure, count: int, **options: Any) -> list[Axes]:
  """Axes in a `grid`, row by row; what is left of the last row stays empty."""
  axes = figure.subplots(*grid(count), squeeze=False, **options).ravel()
  for axis in axes[count:]:
    axis.set_axis_off()
  return list(axes[:count])


def note(figure: Figure, text: str) -> None:
  """How to read the marks, below all panels."""
  figure.supxlabel(text, fontsize=8, color=INK)


def name_rows(
  axis: Axes, names: Sequence[str], headings: Collection[int] = ()
) -> None:
  """Names the rows 0, 1 ... of a plot from the top; `headings` are bold."""
  axis.set_yticks(range(len(names)), names)
  for i in headings:
    axis.get_yticklabels()[i].set_fontweight("bold")
  axis.set_ylim(len(names) - 0.5, -0.5)
  axis.tick_params("y", length=0)


def intervals(
  axis: Axes, rows: Sequence[int], values: np.ndarray, color: str
) -> None:
  """Dots with their intervals; without both ends there is a dot alone.

  Args:
    axis: whose rows have a height of 1.
    rows: row of each.
    values: f [n, 3]: middle, low, high.
    color: of all.
  """
  low_high = values[:, 1:]
  known = np.isfinite(low_high).all(1, keepdims=True)
  # One line with gaps: a file much smaller than of a line each.
  ends = np.pad(np.where(known, low_high, np.nan), ((0, 0), (0, 1)))
  ends[:, 2] = np.nan
  axis.plot(ends.ravel(), np.repeat(rows, 3), color=color)
  axis.plot(values[:, 0], rows, "o", color=color, markersize=4)


def heat_map(
  axis: Axes,
  values: np.ndarray,
  texts: np.ndarray | None = None,
  **options: Any,
) -> AxesImage:
  """Values as colors and, if given, as texts.

  Args:
    axis: to draw on.
    values: f [rows, columns]; NaN stays white and without a text.
    texts: str [rows, columns]; "" for none.
    **options: of `Axes.imshow`.
  """
  image = axis.imshow(values, interpolation="nearest", **options)
  axis.grid(False)
  axis.tick_params(length=0)
  if texts is None:
    return image
  for r, c in np.argwhere(np.isfinite(values)):
    is_dark = np.dot(image.to_rgba(values[r, c])[:3], (0.3, 0.6, 0.1)) < 0.55
    axis.text(
      c,
      r,
      texts[r, c],
      ha="center",
      va="center",
      color="white" if is_dark else INK,
      fontsize=7,
    )
  return image


def color_bar(image: AxesImage, axes: Sequence[Axes], label: str) -> None:
  """What the colors of heat maps mean, right of them."""
  bar = axes[0].figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02)
  bar.set_label(label)
  bar.outline.set_visible(False)


def use_bars(
  axis: Axes, load: np.ndarray, importance: np.ndarray, color: Any
) -> list[BarContainer]:
  """Shares of N experts: light bars of load, dark ones of importance.

  Args:
    axis: to draw on.
    load: f [N].
    importance: f [N].
    color: of all experts, or one each.
  """
  x = np.arange(len(load))
  axis.axhline(1 / len(x), color=MUTED, linestyle="--", linewidth=1)
  axis.grid(False, axis="x")
  return [
    axis.bar(x + shift, values, 0.38, color=color, alpha=alpha)
    for shift, values, alpha in ((-0.2, load, 0.4), (0.2, importance, 1.0))
  ]


def training_curves(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
  """Losses, top-1, mean IoU and learning rate over steps, a line per split.

  Args:
    rows: the lines of metrics.jsonl. Of several rows of one split and step
      (a resumed run repeats steps) the last counts.

  Returns:
    SVG, or None when no panel has a point.
  """
  shown = []
  for key, title in PANELS:
    lines: dict[str, dict[int, float]] = {}
    for row in rows:
      value = row.get(key)
      if key == "loss_box" and value is None and row.get("mciou") is not None:
        value = 1 - row["mciou"]
      if value is not None:
        lines.setdefault(row["split"], {})[row["step"]] = value
    if lines:
      shown.append((title, lines))
  if not shown:
    return None

  def draw(figure: Figure) -> None:
    axes = panels(figure, len(shown))
    for axis, (title, lines) in zip(axes, shown):
      for split, points in lines.items():
        steps = np.asarray(sorted(points))
        values = np.asarray([points[s] for s in steps], float)
        color = SPLIT_COLORS.get(split, INK)
        if title == "learning rate":  # no noise to smooth
          axis.plot(steps, values, color=color, label=split)
        else:
          _curve(axis, steps, values, color, split)
      axis.set_title(title)
      axis.set_xlabel("step")
      axis.xaxis.set_major_locator(ticker.MaxNLocator(4, integer=True))
      if len(lines) > 1:
        axis.legend()

  down, across = grid(len(shown))
  return render(draw, 3.2 * across, 2.5 * down)


def _curve(
  axis: Axes, steps: np.ndarray, values: np.ndarray, color: str, label: str
) -> None:
  """A line; a long noisy one is thin, with its running mean over it."""
  if len(steps) <= 60:
    marker = "o" if len(steps) <= 30 else None
    axis.plot(steps, values, color=color, label=label, marker=marker, ms=3)
    return
  window = max(3, len(steps) // 30)
  kernel = np.ones(window)
  # Divided by the count inside the window, so the ends are not pulled to 0.
  known = np.isfinite(values)
  total = np.convolve(np.where(known, values, 0.0), kernel, "same")
  count = np.convolve(known.astype(float), kernel, "same")
  axis.plot(steps, values, color=color, alpha=0.3, linewidth=0.7)
  smooth = np.where(count > 0, total / np.maximum(count, 1), np.nan)
  axis.plot(steps, smooth, color=color, label=label)


def confusion_matrix(counts: np.ndarray, class_names: Sequence[str]) -> bytes:
  """True classes down, predicted across, colored by the share of the row.

  Args:
    counts: i [L, L], images of true class r predicted as c.
    class_names: L names.
  """
  counts = np.asarray(counts)
  size = len(counts)
  share = counts / np.maximum(counts.sum(1, keepdims=True), 1)

  def draw(figure: Figure) -> None:
    axis = figure.subplots()
    # Rare confusions among many classes would vanish on a linear scale.
    norm = colors.PowerNorm(1.0 if size <= SMALL else 0.5, 0, 1)
    texts = np.where(counts > 0, counts.astype(str), "")
    image = heat_map(
      axis, share, texts if size <= SMALL else None, cmap="Blues", norm=norm
    )
    _name_ticks(axis.xaxis, class_names, rotation=90)
    _name_ticks(axis.yaxis, class_names)
    scale = "" if size <= SMALL else ", square-root color scale"
    axis.set(
      title=f"Confusion matrix, {size} classes (n={counts.sum()}){scale}",
      xlabel="predicted class",
      ylabel="true class",
    )
    color_bar(image, [axis], "share of the true class")

  side = float(np.clip(0.42 * size + 2.2, 5.5, 10.0))
  return render(draw, side + 0.6, side)


def _name_ticks(axis: Any, names: Sequence[str], rotation: float = 0) -> None:
  """Class names as ticks: all of them, or every so many of a long list."""
  every = 1 if len(names) <= NAMED else -(-len(names) // 25)
  ticks = range(0, len(names), every)
  axis.set_ticks(
    ticks,
    labels=[display_name(names[i], 32) for i in ticks],
    rotation=rotation,
    fontsize=8 if len(names) <= SMALL else 6.5,
  )


def iou_distribution(iou: np.ndarray) -> bytes:
  """Histogram of IoU beside the share of boxes at or above each threshold.

  Args:
    iou: f [n], without NaN.
  """

  def draw(figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    left.hist(iou, np.linspace(0, 1, 21), color=MAIN, edgecolor="white")
    for name, value, color, line in (
      ("mean", float(np.mean(iou)), ACCENT, "-"),
      ("median", float(np.median(iou)), INK, ":"),
    ):
      label = f"{name} {value:.3f}"
      left.axvline(value, color=color, linestyle=line, label=label)
    title = f"IoU of predicted and true box (n={len(iou)})"
    left.set(title=title, xlabel="IoU", ylabel="images", xlim=(0, 1))
    left.legend(loc="best")
    thresholds = np.linspace(0, 1, 201)
    share = 1 - np.searchsorted(np.sort(iou), thresholds, "left") / len(iou)
    right.plot(thresholds, share, color=MAIN)
    for threshold in IOU_THRESHOLDS:
      value = float(np.mean(iou >= threshold))
      right.plot(threshold, value, "o", color=ACCENT, ms=4)
      right.text(threshold + 0.01, value + 0.01, f"{value:.2f}", fontsize=8)
    right.set(
      title="Share of boxes with IoU ≥ threshold",
      xlabel="threshold",
      ylabel="share of images",
      xlim=(0, 1),
      ylim=(0, 1.03),
    )

  return render(draw, 8.4, 3.0)


def reliability(
  confidence: np.ndarray,
  correct: np.ndarray,
  ece: float,
  title: str = "Reliability",
  bins: int = ECE_BINS,
) -> bytes:
  """Accuracy against confidence in equal bins, and how full the bins are.

  Args:
    confidence: f [n], probability of the predicted class.
    correct: bool [n].
    ece: expected calibration error, as measured by `metrics`.
    title: what the confidence is.
    bins: number of equal bins of (0, 1].
  """
  edges = np.linspace(0, 1, bins + 1)
  index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
  count = np.bincount(index, minlength=bins)
  full = count > 0
  divisor = np.maximum(count, 1)
  accuracy = np.bincount(index, correct, bins) / divisor
  mean = np.bincount(index, confidence, bins) / divisor

  def draw(figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    centers, width = (edges[:-1] + edges[1:]) / 2, 1 / bins
    left.bar(
      centers[full], accuracy[full], width, color=PALE, edgecolor="white"
    )
    left.plot((0, 1), (0, 1), color=MUTED, linestyle="--", linewidth=1)
    label = "mean confidence and accuracy of a bin"
    left.plot(mean[full], accuracy[full], "o-", color=MAIN, ms=4, label=label)
    left.legend(loc="upper left")
    left.set(
      title=f"{title}, ECE {ece:.3f} (n={len(confidence)})",
      xlabel="confidence",
      ylabel="accuracy",
      xlim=(0, 1),
      ylim=(0, 1.1),
    )
    right.hist(
      [centers[index[mask]] for mask in (correct, ~correct)],
      edges,
      stacked=True,
      color=(MAIN, ACCENT),
      label=("right", "wrong"),
      edgecolor="white",
    )
    right.legend(loc="best")
    right.set(
      title="Confidence of right and wrong answers",
      xlabel="confidence",
      ylabel="images",
      xlim=(0, 1),
    )

  return render(draw, 8.4, 3.2)


def expert_use(gates: dict[str, Choices]) -> bytes:
  """Load and importance of each expert, a panel per task gate.

  Args:
    gates: task -> its gate's choices.
  """

  def draw(figure: Figure) -> None:
    axes = figure.subplots(1, len(gates), squeeze=False, sharey=True)[0]
    highest = 0.0
    for axis, (task, gate) in zip(axes, gates.items()):
      n, experts = gate.probs.shape
      load = gate.load / gate.load.sum()
      importance = gate.dense.sum(0) / gate.dense.sum()
      highest = max(highest, load.max(), importance.max())
      tints = [overlay.expert_color(i) for i in range(experts)]
      for bars in use_bars(axis, load, importance, tints):
        if experts <= 12:
          axis.bar_label(bars, fmt="%.2f", fontsize=7)
      title = f"Experts of the {task} gate (n={n})"
      axis.set(title=title, xlabel="expert", xticks=range(experts))
    axes[0].set(ylim=(0, 1.12 * highest), ylabel="share")
    note(
      figure,
      "light: load (share of choices) · dark: importance (share of weight) "
      "· dashed: even",
    )

  width = max(4.2, 1.2 + 0.5 * _experts(gates))
  return render(draw, width * len(gates), 3.1)


def expert_by_group(
  gates: dict[str, Choices],
  groups: np.ndarray,
  names: Sequence[str],
  label: str,
) -> bytes:
  """Mean weight of each expert in each group of images, a panel per gate.

  Args:
    gates: task -> its gate's choices for n images.
    groups: i [n], group of each image; images at -1 are left out.
    names: name of each group.
    label: of the groups: "class", "pose".
  """
  counts = np.bincount(groups[groups >= 0], minlength=len(names))
  means = {}
  for task, gate in gates.items():
    total = np.zeros((len(names), gate.probs.shape[1]))
    np.add.at(total, groups[groups >= 0], gate.dense[groups >= 0])
    # A group without an image is left white, unlike weight 0.
    means[task] = np.where(
      counts[:, None] > 0, total / np.maximum(counts, 1)[:, None], np.nan
    )
  highest = max(np.nanmax(mean) for mean in means.values())

  def draw(figure: Figure) -> None:
    axes = figure.subplots(1, len(gates), squeeze=False, sharey=True)[0]
    for axis, (task, mean) in zip(axes, means.items()):
      few = len(names) <= SMALL and mean.shape[1] <= 12
      image = heat_map(
        axis,
        mean,
        np.char.mod("%.2f", mean) if few else None,
        vmin=0,
        vmax=highest,
        aspect="auto",
      )
      axis.set(
        title=f"{task} gate by {label} (n={counts.sum()})",
        xlabel="expert",
        xticks=range(mean.shape[1]),
      )
    _name_ticks(axes[0].yaxis, names)
    color_bar(image, list(axes), "mean weight")

  width = max(2.8, 0.42 * _experts(gates))
  height = float(np.clip(0.24 * len(names) + 1.1, 2.4, 8.5))
  return render(draw, width * len(gates) + 2.4, height)


def _experts(gates: dict[str, Choices]) -> int:
  return max(gate.probs.shape[1] for gate in gates.values())


def group_values(
  values: np.ndarray, bins: int = 8
) -> tuple[np.ndarray, list[str]]:
  """Groups numbers for `expert_by_group`: by value where few, else by range.

  Args:
    values: f [n].
    bins: most ranges; also the most different values that stand alone.

  Returns:
    i [n] group of each value, and the groups' names.
  """
  unique = np.unique(values)
  if len(unique) <= bins:
    return np.searchsorted(unique, values), [f"{v:g}" for v in unique]
  edges = np.linspace(values.min(), values.max(), bins + 1)
  group = np.clip(np.digitize(values, edges) - 1, 0, bins - 1)
  return group, [f"{a:.3g} to {b:.3g}" for a, b in itertools.pairwise(edges)]
