"""The map of suite `pay`: comparisons over images and width.

Letters: I numbers of images, W widths.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mtlmoe_jax.reports import plots
from mtlmoe_jax.reports.plots import Picture
from mtlmoe_jax.reports.suite import wording
from mtlmoe_jax.reports.suite.findings import Answer, Findings, Measured

SUITE = "pay"
GATE_VALUE = "gate_value"
_PLACE = re.compile(r"(?P<arm>.+)_w(?P<width>\d+)_n(?P<images>\d+)")
# Arms of the comparisons that are drawn.
_DRAWN = (("mix_6_1", "one"), ("mix_6_1", "told"), ("mix_6_2", "double_told"))
# What of an arm has a table.
_LEVELS = {
  "top1": wording.FIGURES["top1"],
  "miou": wording.FIGURES["miou"],
  GATE_VALUE: "top-1 lost when images exchange their gates",
}
# Points at which a color is full.
_FULL = 10.0


@dataclasses.dataclass(frozen=True)
class Grid:
  """One comparison in one metric at every place.

  Attributes:
    question: for people.
    arms: (one, other), without the place.
    figure: name of the metric.
    images: I numbers.
    widths: W numbers.
    answers: by (images, width), those that are known.
  """

  question: str
  arms: tuple[str, str]
  figure: str
  images: tuple[int, ...]
  widths: tuple[int, ...]
  answers: Mapping[tuple[int, int], Answer]

  @property
  def title(self) -> str:
    """The question and its metric."""
    return f"{self.question}: {wording.FIGURES[self.figure]}"

  def cell(self, images: int, width: int) -> str:
    """One place in a table; bold where the interval leaves zero out."""
    answer = self.answers.get((images, width))
    if answer is None:
      return wording.UNKNOWN
    text = wording.effect(answer).removesuffix(" points")
    return f"**{text}**" if answer.is_clear else text


@dataclasses.dataclass(frozen=True)
class Table:
  """Something at every width.

  Attributes:
    title: what it is.
    first: what its rows are.
    widths: W numbers.
    rows: (name, W cells).
  """

  title: str
  first: str
  widths: Sequence[int]
  rows: Sequence[tuple[str, Sequence[str]]]


def place_of(name: str) -> tuple[str, int, int] | None:
  """(arm, images, width) of a variation's name."""
  match = _PLACE.fullmatch(name)
  if match is None:
    return None
  return match["arm"], int(match["images"]), int(match["width"])


def grids(findings: Findings) -> list[Grid]:
  """All comparisons, in the order of the answers."""
  found: dict[tuple[str, str], dict[tuple[int, int], Answer]] = {}
  arms: dict[tuple[str, str], tuple[str, str]] = {}
  for answer in findings.answers:
    one, other = place_of(answer.one), place_of(answer.other)
    if one is None or other is None or not answer.is_known:
      continue
    key = (answer.question, answer.figure)
    found.setdefault(key, {})[one[1:]] = answer
    arms[key] = one[0], other[0]
  return [
    Grid(
      question,
      arms[question, figure],
      figure,
      tuple(sorted({images for images, _ in answers})),
      tuple(sorted({width for _, width in answers})),
      answers,
    )
    for (question, figure), answers in found.items()
  ]


def tables(findings: Findings) -> list[Table]:
  """Comparisons, then what each arm reaches, then what it costs."""
  compared = [
    Table(
      grid.title,
      "images",
      grid.widths,
      [
        (f"{images:,}", [grid.cell(images, width) for width in grid.widths])
        for images in grid.images
      ],
    )
    for grid in grids(findings)
  ]
  return [*compared, *_levels(findings), *_costs(findings)]


def _levels(findings: Findings) -> list[Table]:
  found: dict[tuple[str, str], dict[tuple[int, int], Measured]] = {}
  for row in findings.rows:
    if place := place_of(row.name):
      for figure in _LEVELS:
        if figure in row.figures:
          table = found.setdefault((row.what, figure), {})
          table[place[1:]] = row.figures[figure]
  return [
    Table(
      f"{what}: {_LEVELS[figure]}, per cent",
      "images",
      widths := sorted({w for _, w in table}),
      [
        (f"{i:,}", [wording.spread(table.get((i, w))) for w in widths])
        for i in sorted({i for i, _ in table})
      ],
    )
    for (what, figure), table in found.items()
  ]


def _costs(findings: Findings) -> list[Table]:
  """By arm; the time is that with the most images."""
  found = [
    (place[1], place[2], row)
    for row in findings.rows
    if (place := place_of(row.name)) and math.isfinite(row.seconds)
  ]
  known: dict[tuple[str, int], tuple[float, float]] = {}
  for _, width, row in sorted(found, key=lambda each: each[0]):
    known[row.what, width] = row.parameters_active / 1e3, row.seconds
  if not known:
    return []
  widths = sorted({width for _, width in known})
  nothing = (math.nan, math.nan)

  def table(title: str, column: int, digits: int) -> Table:
    return Table(
      title,
      "",
      widths,
      [
        (
          what,
          [
            wording.decimal(known.get((what, width), nothing)[column], digits)
            for width in widths
          ],
        )
        for what in dict.fromkeys(what for what, _ in known)
      ],
    )

  return [
    table(
      "Parameters that an image meets, the frozen backbone's too, thousands",
      0,
      1,
    ),
    table("Seconds of a run with the most images", 1, 0),
  ]


def picture(findings: Findings) -> Picture | None:
  """The map; None without anything to draw."""
  drawn = [
    grid
    for arms in _DRAWN
    for grid in grids(findings)
    if grid.arms == arms and grid.figure == "top1"
  ]
  if not drawn:
    return None

  def draw(figure: Figure) -> None:
    axes = figure.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
    for axis, grid in zip(axes, drawn):
      image = _panel(axis, grid)
    axes[0].set_ylabel("width of an expert")
    plots.color_bar(image, list(axes), "points of top-1")

  height = 1.6 + 0.5 * max(len(grid.widths) for grid in drawn)
  title = (
    "Top-1, points; within the line the interval lies above zero, within the "
    "dashed one below"
  )
  return Picture("map", title, draw, (3.6 * len(drawn) + 1, height))


def _panel(axis: plots.Axes, grid: Grid) -> plots.AxesImage:
  shape = (len(grid.widths), len(grid.images))
  values, texts = np.full(shape, np.nan), np.full(shape, "", object)
  clear = np.zeros(shape, int)
  for (images, width), answer in grid.answers.items():
    place = grid.widths.index(width), grid.images.index(images)
    values[place] = 100 * answer.difference
    texts[place] = wording.decimal(values[place], 1, "+")
    clear[place] = np.sign(answer.difference) if answer.is_clear else 0
  image = plots.heat_map(
    axis,
    values,
    texts,
    cmap="PuOr_r",
    vmin=-_FULL,
    vmax=_FULL,
    aspect="auto",  # Else titles find no room.
  )
  image.axes.invert_yaxis()
  for sign, style in ((1, "solid"), (-1, "dashed")):
    axis.add_collection(
      LineCollection(
        outline(clear == sign), colors=plots.INK, linestyles=style, zorder=3
      )
    )
  axis.set_xticks(range(shape[1]), [f"{n:,}" for n in grid.images])
  axis.set_yticks(range(shape[0]), map(str, grid.widths))
  axis.set(title=_wrapped(grid.question), xlabel="training images")
  return image


def outline(
  inside: np.ndarray,
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
  """Lines around the cells that are True: ((x, y), (x, y)) each."""
  padded = np.pad(inside, 1)
  lines = []
  for y, x in np.argwhere(padded[:, 1:] != padded[:, :-1]):
    lines.append(((x - 0.5, y - 1.5), (x - 0.5, y - 0.5)))
  for y, x in np.argwhere(padded[1:] != padded[:-1]):
    lines.append(((x - 1.5, y - 0.5), (x - 0.5, y - 0.5)))
  return lines


def _wrapped(text: str) -> str:
  return text.replace(", instead of ", "\ninstead of ").replace(
    " instead of ", "\ninstead of ", 1 if "\n" not in text else 0
  )
