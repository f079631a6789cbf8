"""Pictures of what experts learn, from what `study` found of each run.

Letters: S seeds, N experts. An expert's number means nothing from one seed to
the next, so experts stand by use: the most loaded of each run first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtlmoe_jax.reports import overlay, plots
from mtlmoe_jax.reports.suite import wording
from mtlmoe_jax.reports.suite.document import Picture

Study = dict[str, Any]
# Label of a variation -> what was found, a dict a seed.
Studies = Mapping[str, Sequence[Study]]

# Kinds of groups whose information about the experts is told, where known.
KINDS = ("class", "pose", "facing", "background", "family")
_BY_USE = "expert, the most used of each run first"


def use(name: str, studies: Studies) -> Picture | None:
  """Load and importance of each expert: a row a variation, a panel a gate."""
  rows = {
    label: found for label, found in studies.items() if found[0].get("gates")
  }
  if not rows:
    return None
  across = max(len(found[0]["gates"]) for found in rows.values())
  title = "How much each expert is used"

  def draw(figure: Figure) -> None:
    axes = figure.subplots(len(rows), across, squeeze=False)
    for axis in axes.ravel():
      axis.set_axis_off()
    for line, (label, found) in zip(axes, rows.items()):
      for axis, task in zip(line, found[0]["gates"]):
        axis.set_axis_on()
        _use(axis, found, task)
        short = wording.cut(label, 38)
        axis.set_title(f"{short}: {task}")
      line[0].set_ylabel("share")
    figure.supxlabel(
      f"{_BY_USE}    light: load    dark: importance    dots: seeds"
      "    dashed: even",
      fontsize=8,
      color=plots.INK,
    )

  return Picture(name, title, draw, (4.6 * across, 2.0 * len(rows) + 0.4))


def _use(axis: Axes, found: Sequence[Study], task: str) -> None:
  kinds = [
    np.stack([_shares(study, task, kind)[by_use(study)] for study in found])
    for kind in ("load", "importance")
  ]
  experts = kinds[0].shape[1]
  x = np.arange(experts)
  for values, offset, alpha in zip(kinds, (-0.2, 0.2), (0.4, 1.0)):
    color = plots.MAIN
    axis.bar(x + offset, values.mean(0), 0.38, color=color, alpha=alpha)
    _dots(axis, x + offset, values)
  axis.axhline(1 / experts, color=plots.MUTED, linestyle="--", linewidth=1)
  axis.set_xticks(x, x + 1)
  axis.grid(False, axis="x")


def _shares(study: Study, task: str, kind: str) -> np.ndarray:
  values = np.asarray(study["gates"][task][kind], float)
  return values / max(values.sum(), 1e-12)


def by_use(study: Study) -> np.ndarray:
  """i [N]: experts, the one with the largest load over all gates first."""
  loads = [_shares(study, task, "load") for task in study["gates"]]
  return np.argsort(-np.mean(loads, 0), kind="stable")


def _dots(axis: Axes, x: np.ndarray, values: np.ndarray) -> None:
  """The seeds, side by side so that equal ones are all seen."""
  places = x + _side_by_side(len(values), 0.07)[:, None]
  axis.plot(
    places.ravel(), values.ravel(), "o", color=plots.INK, markersize=2.2
  )


def information(name: str, studies: Studies) -> Picture | None:
  """Bits that the choice of expert tells of the groups of images."""
  rows = [
    (f"{wording.cut(label, 40)}: {task}", found, task)
    for label, found in studies.items()
    for task in found[0].get("gates", {})
  ]
  kinds = [
    kind
    for kind in KINDS
    if any(kind in found[0]["gates"][task] for _, found, task in rows)
  ]
  if not kinds:
    return None
  across = min(3, len(kinds))
  down = -(-len(kinds) // across)
  title = "What the choice of expert tells of an image"

  def draw(figure: Figure) -> None:
    axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axis in axes[len(kinds) :]:
      axis.set_axis_off()
    for axis, kind in zip(axes, kinds):
      _information(
        axis, [of_kind(found, task, kind) for _, found, task in rows]
      )
      axis.set_title(kind)
      axis.set_xlabel("bits")
      axis.locator_params(axis="x", nbins=4)
      # A little below, so that a dot at zero is whole.
      axis.set_xlim(left=-0.03 * axis.get_xlim()[1])
      axis.set_ylim(len(rows) - 0.5, -0.5)
    axes[0].set_yticks(range(len(rows)), [label for label, *_ in rows])
    marks = [
      Line2D([], [], marker="o", linestyle="", markersize=4, label="a seed"),
      Line2D(
        [],
        [],
        marker="|",
        linestyle="",
        markersize=9,
        color=plots.ACCENT,
        label="its null's 95 % quantile",
      ),
    ]
    marks[0].set_color(plots.MAIN)
    figure.legend(handles=marks, loc="outside lower center", ncols=2)

  height = down * (0.8 + 0.24 * max(len(rows), 3)) + 0.3
  return Picture(name, title, draw, (3.4 + 2.3 * across, height))


def of_kind(
  found: Sequence[Study], task: str, kind: str
) -> list[dict[str, Any]]:
  """What a gate's choices tell of a kind of groups, of the seeds that know."""
  gates = [study["gates"][task] for study in found]
  return [gate[kind] for gate in gates if kind in gate]


def _information(
  axis: Axes, groups: Sequence[Sequence[dict[str, Any]]]
) -> None:
  """Bits and their nulls: a row a group, its seeds side by side."""
  points = [
    (wording.number(seed["bits"]), wording.number(seed["null_high"]), place + y)
    for place, seeds in enumerate(groups)
    for y, seed in zip(_side_by_side(len(seeds), 0.16), seeds)
  ]
  bits, null_high, heights = zip(*points)
  axis.plot(null_high, heights, "|", color=plots.ACCENT, markersize=7)
  axis.plot(bits, heights, "o", color=plots.MAIN, markersize=3.5)


def _side_by_side(count: int, gap: float) -> np.ndarray:
  """Shifts of so many marks around a place, f [count]."""
  return gap * (np.arange(count) - (count - 1) / 2)


def likeness(name: str, studies: Studies) -> Picture | None:
  """CKA of the experts of the first seed, a panel a variation."""
  known = {
    label: np.array(found[0]["cka"], float)
    for label, found in studies.items()
    if found[0].get("cka")
  }
  if not known:
    return None
  across = min(3, len(known))
  down = -(-len(known) // across)
  title = "How alike the experts' outputs are (CKA, first seed)"

  def draw(figure: Figure) -> None:
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes[len(known) :]:
      axis.set_axis_off()
    image = None
    norm = colors.Normalize(0, 1)
    for axis, (label, cka) in zip(axes, known.items()):
      image = axis.imshow(cka, "Blues", norm, interpolation="nearest")
      axis.grid(False)
      if len(cka) <= 8:
        for r, c in np.argwhere(np.isfinite(cka)):
          ink = "white" if cka[r, c] > 0.6 else plots.INK
          axis.text(
            c,
            r,
            f"{cka[r, c]:.2f}",
            ha="center",
            va="center",
            color=ink,
            fontsize=6.5,
          )
      axis.set_xticks(range(len(cka)))
      axis.set_yticks(range(len(cka)))
      axis.tick_params(length=0)
      axis.set_title(wording.cut(label, 30), fontsize=9)
    assert image is not None
    bar = figure.colorbar(image, ax=list(axes), shrink=0.7, pad=0.02)
    bar.set_label("CKA")
    bar.outline.set_visible(False)

  return Picture(name, title, draw, (2.7 * across + 1.1, 2.8 * down))


def removal(name: str, studies: Studies) -> Picture | None:
  """Change of top-1 without each expert, a panel a variation."""
  known = {}
  for label, found in studies.items():
    changes = [_removal(study) for study in found if study.get("removal")]
    if changes and np.isfinite(changes).any():
      known[label] = np.stack(changes)
  if not known:
    return None
  across = min(3, len(known))
  down = -(-len(known) // across)
  title = "Top-1 without an expert"

  def draw(figure: Figure) -> None:
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for axis in axes.ravel()[len(known) :]:
      axis.set_axis_off()
    for axis, (label, values) in zip(axes.ravel(), known.items()):
      x = np.arange(values.shape[1])
      tints = overlay.EXPERT_COLORS[0]
      axis.bar(x, values.mean(0), 0.7, color=tints, alpha=0.6)
      _dots(axis, x, values)
      axis.axhline(0, color=plots.MUTED, linewidth=1)
      axis.set_xticks(x, x + 1)
      axis.grid(False, axis="x")
      axis.set_title(wording.cut(label, 34), fontsize=9)
    for axis in axes[:, 0]:
      axis.set_ylabel("change, points")
    figure.supxlabel(f"{_BY_USE}    dots: seeds", fontsize=8, color=plots.INK)

  return Picture(name, title, draw, (3.1 * across + 0.5, 2.1 * down + 0.3))


def _removal(study: Study) -> np.ndarray:
  """f [N]: points, by use; NaN where an expert was not taken away."""
  order = by_use(study)
  change = {
    r["expert"]: wording.number(r.get("top1")) for r in study["removal"]
  }
  return np.array([100 * change.get(int(e), np.nan) for e in order])
