"""Pictures of what experts learn, from what `study` found of each run.

Letters: S seeds, N experts. An expert's number means nothing from one seed to
the next, so experts stand by use: the most loaded of each run first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlmoe_jax.reports import overlay, plots
from mtlmoe_jax.reports.plots import Picture
from mtlmoe_jax.reports.suite import wording

Study = dict[str, Any]
# Label of a variation -> what was found, a dict a seed; gates are known.
Studies = Mapping[str, Sequence[Study]]

# Kinds of groups whose information about the experts is told, where known.
KINDS = ("class", "pose", "facing", "background", "family")
_BY_USE = "expert, the most used of each run first"


def use(studies: Studies) -> Picture | None:
  """Load and importance of each expert: a row a variation, a panel a gate."""
  if not studies:
    return None
  across = max(len(found[0]["gates"]) for found in studies.values())
  title = "How much each expert is used"

  def draw(figure: Figure) -> None:
    axes = figure.subplots(len(studies), across, squeeze=False)
    for axis in axes.ravel():
      axis.set_axis_off()
    for line, (label, found) in zip(axes, studies.items()):
      for axis, task in zip(line, found[0]["gates"]):
        axis.set_axis_on()
        load, importance = (
          np.stack([_shares(s, task, kind)[by_use(s)] for s in found])
          for kind in ("load", "importance")
        )
        plots.use_bars(axis, load.mean(0), importance.mean(0), plots.MAIN)
        _dots(axis, load, -0.2)
        _dots(axis, importance, 0.2)
        axis.set_title(f"{wording.cut(label, 38)}: {task}")
      line[0].set_ylabel("share")
    marks = "light: load    dark: importance    dots: seeds    dashed: even"
    plots.note(figure, f"{_BY_USE}    {marks}")

  return Picture("use", title, draw, (4.6 * across, 2.0 * len(studies) + 0.4))


def _shares(study: Study, task: str, kind: str) -> np.ndarray:
  values = np.asarray(study["gates"][task][kind], float)
  return values / max(values.sum(), 1e-12)


def by_use(study: Study) -> np.ndarray:
  """i [N]: experts, the one with the largest load over all gates first."""
  loads = [_shares(study, task, "load") for task in study["gates"]]
  return np.argsort(-np.mean(loads, 0), kind="stable")


def _dots(axis: Axes, values: np.ndarray, shift: float = 0.0) -> None:
  """Values of the seeds over each expert, f [S, N], and the experts' ranks."""
  experts = np.arange(values.shape[1])
  places = experts + shift + _side_by_side(len(values), 0.07)[:, None]
  axis.plot(
    places.ravel(), values.ravel(), "o", color=plots.INK, markersize=2.2
  )
  axis.set_xticks(experts, experts + 1)


def information(studies: Studies) -> Picture | None:
  """Bits that the choice of expert tells of the groups of images."""
  rows = [
    (f"{wording.cut(label, 40)}: {task}", found, task)
    for label, found in studies.items()
    for task in found[0]["gates"]
  ]
  kinds = [
    kind
    for kind in KINDS
    if any(of_kind(found, task, kind) for _, found, task in rows)
  ]
  if not kinds:
    return None
  title = "What the choice of expert tells of an image"

  def draw(figure: Figure) -> None:
    axes = plots.panels(figure, len(kinds), sharey=True)
    for axis, kind in zip(axes, kinds):
      _information(axis, [of_kind(of, task, kind) for _, of, task in rows])
      axis.set(title=kind, xlabel="bits")
      axis.locator_params(axis="x", nbins=4)
      # A little below, so that a dot at zero is whole.
      axis.set_xlim(left=-0.03 * axis.get_xlim()[1])
    plots.name_rows(axes[0], [label for label, *_ in rows])
    marks = axes[0].get_legend_handles_labels()
    figure.legend(*marks, loc="outside lower center", ncols=2)

  down, across = plots.grid(len(kinds))
  height = down * (0.8 + 0.24 * max(len(rows), 3)) + 0.3
  return Picture("information", title, draw, (3.4 + 2.3 * across, height))


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
  for values, mark, color, size, label in (
    (bits, "o", plots.MAIN, 3.5, "a seed"),
    (null_high, "|", plots.ACCENT, 7, "its null's 95 % quantile"),
  ):
    axis.plot(values, heights, mark, color=color, markersize=size, label=label)


def _side_by_side(count: int, gap: float) -> np.ndarray:
  """Shifts of so many marks around a place, f [count]."""
  return gap * (np.arange(count) - (count - 1) / 2)


def likeness(studies: Studies) -> Picture | None:
  """CKA of the experts of the first seed, a panel a variation."""
  known = {
    label: np.array(found[0]["cka"], float)
    for label, found in studies.items()
    if found[0].get("cka")
  }
  if not known:
    return None
  title = "How alike the experts' outputs are (CKA, first seed)"

  def draw(figure: Figure) -> None:
    axes = plots.panels(figure, len(known))
    for axis, (label, cka) in zip(axes, known.items()):
      texts = np.char.mod("%.2f", cka) if len(cka) <= 8 else None
      image = plots.heat_map(axis, cka, texts, cmap="Blues", vmin=0, vmax=1)
      axis.set(xticks=range(len(cka)), yticks=range(len(cka)))
      axis.set_title(wording.cut(label, 30), fontsize=9)
    plots.color_bar(image, axes, "CKA")

  down, across = plots.grid(len(known))
  return Picture("cka", title, draw, (2.7 * across + 1.1, 2.8 * down))


def removal(studies: Studies) -> Picture | None:
  """Change of top-1 without each expert, a panel a variation."""
  changes = {
    label: np.array([_removal(s) for s in found if s.get("removal")])
    for label, found in studies.items()
  }
  known = {k: v for k, v in changes.items() if np.isfinite(v).any()}
  if not known:
    return None
  title = "Top-1 without an expert"

  def draw(figure: Figure) -> None:
    axes = plots.panels(figure, len(known), sharey=True)
    color = overlay.EXPERT_COLORS[0]
    for i, (axis, (label, values)) in enumerate(zip(axes, known.items())):
      x = np.arange(values.shape[1])
      axis.bar(x, values.mean(0), 0.7, color=color, alpha=0.6)
      _dots(axis, values)
      axis.axhline(0, color=plots.MUTED, linewidth=1)
      axis.grid(False, axis="x")
      axis.set_title(wording.cut(label, 34), fontsize=9)
      if i % across == 0:
        axis.set_ylabel("change, points")
    plots.note(figure, f"{_BY_USE}    dots: seeds")

  down, across = plots.grid(len(known))
  size = 3.1 * across + 0.5, 2.1 * down + 0.3
  return Picture("removal", title, draw, size)


def _removal(study: Study) -> np.ndarray:
  """f [N]: points, by use; NaN where an expert was not taken away."""
  without = {r["expert"]: r.get("top1") for r in study["removal"]}
  order = by_use(study)
  return np.array([100 * wording.number(without.get(int(e))) for e in order])
