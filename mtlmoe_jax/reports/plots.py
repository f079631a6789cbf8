"""Plots of a report, each drawn to SVG bytes.

Letters: n images, L classes, N experts. Plots are made without pyplot: no
global state is touched and no display is needed.
"""

import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colors, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlmoe_jax.metrics.predictions import Choices
from mtlmoe_jax.metrics.split import ECE_BINS, IOU_THRESHOLDS
from mtlmoe_jax.reports import overlay

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

STYLE: dict[Any, Any] = {
  # Who lacks the font has another one.
  "font.family": "sans-serif",
  "font.sans-serif": ("DejaVu Sans",),
  "font.size": 9,
  "axes.titlesize": 10,
  "axes.titleweight": "bold",
  "axes.titlelocation": "left",
  "axes.labelsize": 9,
  "axes.edgecolor": "#c4c9d1",
  "axes.labelcolor": INK,
  "axes.titlecolor": INK,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.axisbelow": True,
  "axes.grid": True,
  "grid.color": "#e9ecf0",
  "grid.linewidth": 0.8,
  "xtick.color": INK,
  "ytick.color": INK,
  "xtick.labelsize": 8,
  "ytick.labelsize": 8,
  "legend.frameon": False,
  "legend.fontsize": 8,
  "lines.linewidth": 1.6,
  "figure.facecolor": "white",
  # Text stays text: it can be searched, and a file is smaller.
  "svg.fonttype": "none",
  # A name such as "a$b$" is no formula.
  "text.parse_math": False,
  # Equal data gives an equal file.
  "svg.hashsalt": "mtlmoe",
}


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
  with matplotlib.rc_context(STYLE):
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


def display_name(name: str, limit: int = 28) -> str:
  """`001.Black_footed_Albatross` -> `Black footed Albatross`, cut to fit."""
  text = re.sub(r"^\d+\.(?=\D)", "", name).replace("_", " ")
  return text if len(text) <= limit else text[: limit - 1] + "…"


def training_curves(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
  """Losses, top-1, mean IoU and learning rate over steps, a line per split.

  Args:
    rows: the lines of metrics.jsonl. Of several rows of one split and step
      (a resumed run repeats steps) the last counts.

  Returns:
    SVG, or None when no panel has a point.
  """
  panels = []
  for key, title in PANELS:
    lines: dict[str, dict[int, float]] = {}
    for row in rows:
      value = row.get(key)
      if key == "loss_box" and value is None and row.get("mciou") is not None:
        value = 1 - row["mciou"]
      if value is not None:
        lines.setdefault(row["split"], {})[row["step"]] = value
    if lines:
      panels.append((title, lines))
  if not panels:
    return None

  def draw(figure: Figure) -> None:
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
      axis.set_axis_off()
    for axis, (title, lines) in zip(axes, panels):
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

  across = min(3, len(panels))
  down = -(-len(panels) // across)
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
  """True classes down, predicted across, coloured by the share of the row.

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
    image = axis.imshow(share, "Blues", norm, interpolation="nearest")
    if size <= SMALL:
      for r, c in np.argwhere(counts > 0):
        _cell(axis, c, r, str(counts[r, c]), share[r, c] > 0.55, 8)
    _name_ticks(axis.xaxis, class_names, rotation=90)
    _name_ticks(axis.yaxis, class_names)
    scale = "" if size <= SMALL else ", square-root colour scale"
    axis.set(
      title=f"Confusion matrix, {size} classes (n={counts.sum()}){scale}",
      xlabel="predicted class",
      ylabel="true class",
    )
    axis.grid(False)
    _color_bar(figure, image, [axis], "share of the true class", 0.6)

  side = float(np.clip(0.42 * size + 2.2, 5.5, 10.0))
  return render(draw, side + 0.6, side)


def _cell(
  axis: Axes, x: int, y: int, text: str, is_dark: bool, size: float
) -> None:
  """A number on a square of a heat map."""
  axis.text(
    x,
    y,
    text,
    ha="center",
    va="center",
    color="white" if is_dark else INK,
    fontsize=size,
  )


def _color_bar(
  figure: Figure, image: Any, axes: list[Axes], label: str, shrink: float
) -> None:
  bar = figure.colorbar(image, ax=axes, shrink=shrink, pad=0.02)
  bar.set_label(label)
  bar.outline.set_visible(False)


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
  axis.set_tick_params(length=0 if every == 1 else 2)


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
    grid = np.linspace(0, 1, 201)
    share = 1 - np.searchsorted(np.sort(iou), grid, "left") / len(iou)
    right.plot(grid, share, color=MAIN)
    for threshold in IOU_THRESHOLDS:
      value = float(np.mean(iou >= threshold))
      right.plot(threshold, value, "o", color=ACCENT, ms=4)
      right.annotate(
        f"{value:.2f}",
        (threshold, value),
        (4, 2),
        textcoords="offset points",
        fontsize=8,
      )
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
    bars = {"width": width, "edgecolor": "white"}
    left.bar(centers[full], accuracy[full], color=PALE, **bars)
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
    floor = np.zeros(bins)
    for mask, color, label in (
      (correct, MAIN, "right"),
      (~correct, ACCENT, "wrong"),
    ):
      height = np.bincount(index[mask], minlength=bins)
      right.bar(centers, height, bottom=floor, color=color, label=label, **bars)
      floor += height
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
      x = np.arange(experts)
      tints = [overlay.expert_color(int(i)) for i in x]
      axis.bar(x - 0.2, load, 0.38, color=tints, alpha=0.4)
      axis.bar(x + 0.2, importance, 0.38, color=tints)
      for i in x if experts <= 12 else ():
        for dx, value in ((-0.2, load[i]), (0.2, importance[i])):
          text = f"{value:.2f}"
          axis.text(i + dx, value, text, ha="center", va="bottom", fontsize=7)
      axis.axhline(1 / experts, color=MUTED, linestyle="--", linewidth=1)
      title = f"Experts of the {task} gate (n={n})"
      axis.set(title=title, xlabel="expert", xticks=x)
      axis.grid(False, axis="x")
    axes[0].set(ylim=(0, 1.12 * highest), ylabel="share")
    figure.supxlabel(
      "light: load (share of choices) · dark: importance (share of weight) "
      "· dashed: even",
      fontsize=8,
      color=INK,
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
    image = None
    for axis, (task, mean) in zip(axes, means.items()):
      image = axis.imshow(
        mean,
        "viridis",
        vmin=0,
        vmax=highest,
        aspect="auto",
        interpolation="nearest",
      )
      axis.grid(False)
      if len(names) <= SMALL and mean.shape[1] <= 12:
        for r, c in np.argwhere(np.isfinite(mean)):
          is_dark = mean[r, c] < 0.6 * highest
          _cell(axis, c, r, f"{mean[r, c]:.2f}", is_dark, 7)
      axis.tick_params("y", length=0)
      axis.set(
        title=f"{task} gate by {label} (n={counts.sum()})",
        xlabel="expert",
        xticks=range(mean.shape[1]),
      )
    _name_ticks(axes[0].yaxis, names)
    _color_bar(figure, image, list(axes), "mean weight", 0.7)

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
