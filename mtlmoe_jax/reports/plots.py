"""Figures of a report, each drawn to SVG bytes.

Letters: n images, L classes, N experts. Figures are made without pyplot: no
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

from mtlmoe_jax.metrics.predictions import Gate
from mtlmoe_jax.reports import overlay

INK = "#2b2f36"
MUTED = "#8a919c"
MAIN = "#3566a8"
ACCENT = "#d9662b"
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

STYLE = {
  "font.family": "DejaVu Sans",
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
  # Equal data gives an equal file.
  "svg.hashsalt": "mtlmoe",
}


def render(
  draw: Callable[[Figure], None],
  width: float,
  height: float,
  kind: str = "svg",
) -> bytes:
  """Bytes of a figure.

  Args:
    draw: fills the figure.
    width: inches.
    height: inches.
    kind: "svg" or "png".
  """
  with matplotlib.rc_context(STYLE):
    figure = Figure((width, height), layout="constrained", dpi=150)
    draw(figure)
    out = io.BytesIO()
    # Neither the time nor the program's version: equal data, equal file.
    unsaid = {"svg": "Date", "png": "Software"}[kind]
    figure.savefig(out, format=kind, metadata={unsaid: None})
  return out.getvalue()


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
    axis.grid(False)
    # Rare confusions among many classes would vanish on a linear scale.
    norm = colors.PowerNorm(1.0 if size <= SMALL else 0.5, 0, 1)
    image = axis.imshow(share, "Blues", norm, interpolation="nearest")
    if size <= SMALL:
      for r, c in np.argwhere(counts > 0):
        ink = "white" if share[r, c] > 0.55 else INK
        axis.text(
          c, r, counts[r, c], ha="center", va="center", color=ink, fontsize=8
        )
    _name_ticks(axis.xaxis, class_names, rotation=90)
    _name_ticks(axis.yaxis, class_names)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    scale = "" if size <= SMALL else ", square-root colour scale"
    axis.set_title(
      f"Confusion matrix, {size} classes (n={counts.sum()}){scale}"
    )
    bar = figure.colorbar(image, ax=axis, shrink=0.6, pad=0.02)
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)

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
  axis.set_tick_params(length=0 if every == 1 else 2)


def iou_distribution(iou: np.ndarray) -> bytes:
  """Histogram of IoU beside the share of boxes at or above each threshold.

  Args:
    iou: f [n], without NaN.
  """

  def draw(figure: Figure) -> None:
    left, right = figure.subplots(1, 2)
    left.hist(iou, np.linspace(0, 1, 21), color=MAIN, edgecolor="white")
    mean = float(np.mean(iou))
    left.axvline(mean, color=ACCENT, label=f"mean {mean:.3f}")
    left.axvline(
      float(np.median(iou)),
      color=INK,
      linestyle=":",
      label=f"median {np.median(iou):.3f}",
    )
    left.set_title(f"IoU of predicted and true box (n={len(iou)})")
    left.set_xlabel("IoU")
    left.set_ylabel("images")
    left.legend(loc="best")
    grid = np.linspace(0, 1, 201)
    share = 1 - np.searchsorted(np.sort(iou), grid, "left") / len(iou)
    right.plot(grid, share, color=MAIN)
    for threshold in (0.5, 0.7, 0.75, 0.9):
      value = float(np.mean(iou >= threshold))
      right.plot(threshold, value, "o", color=ACCENT, ms=4)
      right.annotate(
        f"{value:.2f}",
        (threshold, value),
        (4, 2),
        textcoords="offset points",
        fontsize=8,
      )
    right.set_title("Share of boxes with IoU ≥ threshold")
    right.set_xlabel("threshold")
    right.set_ylabel("share of images")
    for axis in (left, right):
      axis.set_xlim(0, 1)
    right.set_ylim(0, 1.03)

  return render(draw, 8.4, 3.0)


def reliability(
  confidence: np.ndarray,
  correct: np.ndarray,
  ece: float,
  title: str = "Reliability",
  bins: int = 15,
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
      centers[full],
      accuracy[full],
      width,
      color="#c6d5ea",
      edgecolor="white",
    )
    left.plot((0, 1), (0, 1), color=MUTED, linestyle="--", linewidth=1)
    left.plot(
      mean[full],
      accuracy[full],
      "o-",
      color=MAIN,
      ms=4,
      label="mean confidence and accuracy of a bin",
    )
    left.legend(loc="upper left")
    left.set_title(f"{title}, ECE {ece:.3f} (n={len(confidence)})")
    left.set_xlabel("confidence")
    left.set_ylabel("accuracy")
    left.set_xlim(0, 1)
    left.set_ylim(0, 1.1)
    floor = np.zeros(bins)
    for mask, color, label in (
      (correct, MAIN, "right"),
      (~correct, ACCENT, "wrong"),
    ):
      height = np.bincount(index[mask], minlength=bins)
      right.bar(
        centers,
        height,
        width,
        floor,
        color=color,
        edgecolor="white",
        label=label,
      )
      floor += height
    right.legend(loc="best")
    right.set_title("Confidence of right and wrong answers")
    right.set_xlabel("confidence")
    right.set_ylabel("images")
    right.set_xlim(0, 1)

  return render(draw, 8.4, 3.2)


def expert_use(gates: dict[str, Gate]) -> bytes:
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
      tints = [overlay.expert_color(i) for i in x]
      axis.bar(x - 0.2, load, 0.38, color=tints, alpha=0.4)
      axis.bar(x + 0.2, importance, 0.38, color=tints)
      for i in x if experts <= 12 else ():
        for dx, value in ((-0.2, load[i]), (0.2, importance[i])):
          axis.text(
            i + dx,
            value,
            f"{value:.2f}",
            ha="center",
            va="bottom",
            fontsize=7,
          )
      axis.axhline(1 / experts, color=MUTED, linestyle="--", linewidth=1)
      axis.set_title(f"Experts of the {task} gate (n={n})")
      axis.set_xlabel("expert")
      axis.set_xticks(x)
      axis.grid(False, axis="x")
    axes[0].set_ylim(0, 1.12 * highest)
    axes[0].set_ylabel("share")
    figure.supxlabel(
      "light: load (share of choices)    dark: importance (share of weight)"
      "    dashed: even",
      fontsize=8,
      color=INK,
    )

  width = max(4.2, 1.2 + 0.5 * _experts(gates))
  return render(draw, width * len(gates), 3.1)


def expert_by_group(
  gates: dict[str, Gate],
  groups: np.ndarray,
  names: Sequence[str],
  what: str,
) -> bytes:
  """Mean weight of each expert in each group of images, a panel per gate.

  Args:
    gates: task -> its gate's choices for n images.
    groups: i [n], group of each image; images at -1 are left out.
    names: name of each group.
    what: what a group is: "class", "pose".
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
          ink = "white" if mean[r, c] < 0.6 * highest else INK
          axis.text(
            c,
            r,
            f"{mean[r, c]:.2f}",
            ha="center",
            va="center",
            color=ink,
            fontsize=7,
          )
      axis.tick_params("y", length=0)
      axis.set_xticks(range(mean.shape[1]))
      axis.set_xlabel("expert")
      axis.set_title(f"{task} gate by {what} (n={counts.sum()})")
    _name_ticks(axes[0].yaxis, names)
    bar = figure.colorbar(image, ax=list(axes), shrink=0.7, pad=0.02)
    bar.set_label("mean weight")
    bar.outline.set_visible(False)

  width = max(2.8, 0.42 * _experts(gates))
  height = float(np.clip(0.24 * len(names) + 1.1, 2.4, 8.5))
  return render(draw, width * len(gates) + 2.4, height)


def _experts(gates: dict[str, Gate]) -> int:
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
