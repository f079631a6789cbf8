"""One HTML file that shows what a data set is, and what to look at in it.

The file needs nothing else: no script, no other file, no network. What stands
where is in `templates/dataset.html.j2`; here are the values. Letters: n
readable records, L classes.
"""

import collections
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtlmoe_jax.data import looks, similar
from mtlmoe_jax.data.check import Report
from mtlmoe_jax.data.source import Source
from mtlmoe_jax.metrics.label_doubt import Doubts
from mtlmoe_jax.reports import html, plots
from mtlmoe_jax.reports.dataset import drawings, photos
from mtlmoe_jax.utils import files

# More sizes of images than this are told by the histogram alone.
_SIZES = 5


class ClassLine(NamedTuple):
  """Records of a class, of each split; and its bar: per cent and color."""

  name: str
  counts: list[int]
  bar: list[tuple[float, str]]


class Quantity(NamedTuple):
  """A number of each image or box: least, middle and most."""

  name: str
  low: str
  middle: str
  high: str


def write(
  path: str | pathlib.Path,
  name: str,
  report: Report,
  doubts: Doubts | None = None,
  why_not: str = "",
) -> None:
  """Writes the page, whole or not at all.

  Args:
    path: the .html file.
    name: of the data set.
    report: of `check`, with `looks.look`.
    doubts: labels that are doubted, by position in `report.source`; None:
      nobody asked.
    why_not: why there are none.
  """
  boxes = np.asarray(
    [record["box"] for record in report.records if record["has_box"]]
  ).reshape(-1, 4)
  text = html.render(
    "dataset.html.j2",
    name=name,
    problems=report.problems,
    notes=report.notes,
    images=len(_images(report)),
    unreadable=len(report.source or ()) - len(report.readable),
    records=len(report.records),
    with_box=len(boxes),
    fingerprint=report.data.fingerprint if report.data else "",
    **_classes(report),
    **_pixels(report),
    box_table=_box_table(boxes),
    box_plots=_drawn([drawings.areas(boxes), drawings.places(boxes)])
    if len(boxes)
    else [],
    samples=photos.samples(report) if report.readable else [],
    doubts=None if doubts is None else photos.doubted(report, doubts),
    doubt_count=0 if doubts is None else len(doubts),
    confident=0 if doubts is None else int(doubts.confident.sum()),
    why_not=why_not,
    bits=similar.THRESHOLD,
  )
  # A file's name need not be text.
  files.write_bytes(path, text.encode("utf-8", "replace"))


def _images(report: Report) -> np.ndarray:
  """Positions in `report.readable` of images, each once: it may have several
  records.
  """
  if report.source is None:
    return np.arange(0)
  ids = getattr(report.source, "image_ids", report.source.ids)
  first: dict[str, int] = {}
  for place, index in enumerate(report.readable):
    first.setdefault(ids[index], place)
  return np.asarray(list(first.values()), np.int64)


def _classes(report: Report) -> dict[str, Any]:
  """Counts by class and split; of the whole where nothing could be split."""
  parts: Mapping[str, Source | None] = {"all": report.source}
  names = () if report.source is None else report.source.class_names
  if report.data is not None:
    data, names = report.data, report.data.class_names
    parts = {"train": data.train, "validation": data.validation}
    parts = {**parts, "test": data.test, "extra": data.extra}
  counts = {
    split: np.bincount(part.labels[part.labels >= 0], minlength=len(names))
    for split, part in parts.items()
    if part is not None
  }
  table = np.stack(list(counts.values()), 1) if counts else np.empty((0, 0))
  most = max(1, table.sum(1).max(initial=0))
  colors = [plots.SPLIT_COLORS.get(split, plots.MUTED) for split in counts]
  return {
    "splits": list(zip(counts, colors)),
    "classes": [
      ClassLine(
        str(name), row.tolist(), list(zip((100 * row / most).round(2), colors))
      )
      for name, row in zip(names, table.astype(int))
    ],
    "totals": table.sum(0).astype(int).tolist(),
  }


def _pixels(report: Report) -> dict[str, Any]:
  """What the pixels tell: sizes, and images to look at."""
  places = _images(report)
  if not len(places):
    return {"size_table": [], "size_plots": [], "shown": [], "alike": None}
  seen = [report.looks[i][:4] for i in places]
  heights, widths, sharpness, luminance = np.asarray(seen, np.float64).T
  common = collections.Counter(zip(widths.astype(int), heights.astype(int)))
  return {
    "size_table": [
      _quantity("width", widths, "%d"),
      _quantity("height", heights, "%d"),
      _quantity("width / height", widths / heights, "%.2f"),
      _quantity("megapixels", widths * heights / 1e6, "%.2f"),
    ],
    "size_plots": _drawn(
      [drawings.sizes(heights, widths), drawings.shapes(heights, widths)]
    ),
    "common": [(*size, n) for size, n in common.most_common(_SIZES)],
    "alike": photos.alike(report, places),
    "shown": list(_shown(report, places, sharpness, luminance)),
  }


def _shown(
  report: Report,
  places: np.ndarray,
  sharpness: np.ndarray,
  luminance: np.ndarray,
) -> Iterator[photos.Shown]:
  middle = float(np.median(luminance))
  for title, rule, found, name, values in (
    (
      "Blurred",
      f"Variance of the Laplacian at {looks.SIDE} pixels, in the sharpest of "
      f"{looks.PARTS} × {looks.PARTS} parts, below "
      f"{looks.BLURRED_SHARE:g} of this data set's median "
      f"({np.median(sharpness):.0f}) or below {looks.BLURRED:g}.",
      looks.blurred(sharpness),
      "sharpness",
      sharpness,
    ),
    (
      "Dark",
      f"Mean luminance (0 black, 1 white) below {looks.DARK:g}, and below "
      f"half of this data set's median ({middle:.2f}).",
      looks.dark(luminance),
      "luminance",
      luminance,
    ),
    (
      "Bright",
      f"Mean luminance above {1 - looks.DARK:g}, and less than half as far "
      f"from white as this data set's median ({middle:.2f}).",
      looks.bright(luminance),
      "luminance",
      luminance,
    ),
  ):
    said = {int(places[i]): f"{name} {values[i]:.3g}" for i in found}
    yield photos.measured(report, title, rule, said)


def _box_table(boxes: np.ndarray) -> list[Quantity]:
  if not len(boxes):
    return []
  sides = boxes[:, 2:] - boxes[:, :2]
  centres = (boxes[:, 2:] + boxes[:, :2]) / 2
  return [
    _quantity(name, values, "%.3f")
    for name, values in (
      ("x centre", centres[:, 0]),
      ("y centre", centres[:, 1]),
      ("width", sides[:, 0]),
      ("height", sides[:, 1]),
      ("area", sides.prod(1)),
    )
  ]


def _quantity(name: str, values: np.ndarray, form: str) -> Quantity:
  ends = (values.min(), np.median(values), values.max())
  return Quantity(name, *(form % value for value in ends))


def _drawn(
  pictures: Sequence[plots.Picture],
) -> list[tuple[bytes, str, str]]:
  return [(each.svg(), each.name, each.title) for each in pictures]
