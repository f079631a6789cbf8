"""The photographs of a data set's page, with what is said of each.

Plain values for the template. Letters: n records.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from mtlmoe_jax.data import listing, similar
from mtlmoe_jax.data.check import Report
from mtlmoe_jax.data.source import Source
from mtlmoe_jax.metrics.label_doubt import Doubts
from mtlmoe_jax.reports import html
from mtlmoe_jax.reports.evaluation import gallery
from mtlmoe_jax.reports.sample_sheet import SAMPLES

# These counts keep a page below 3 MB whatever the images are.
SHOWN = 12  # of each kind
DOUBTS = 30
# Every two of so many images are compared: some seconds.
COMPARED = 50_000
STORED = 224  # longer side of a stored image, pixels
SIDE = 160  # longer side as it is shown


@dataclasses.dataclass(frozen=True)
class Photo:
  """One image.

  Attributes:
    id: where it lies in the data set.
    address: its pixels.
    width: as shown, pixels.
    height: as shown, pixels.
    boxes: (kind "t", xyxy in shares).
    lines: what is said of it.
  """

  id: str
  address: str
  width: int
  height: int
  boxes: list[tuple[str, list[float]]]
  lines: list[str]


@dataclasses.dataclass(frozen=True)
class Shown:
  """Images under a title.

  Attributes:
    title: what they are.
    rule: how they were found.
    count: how many there are.
    photos: the first of them.
  """

  title: str
  rule: str
  count: int
  photos: list[Photo]


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Photographs that are nearly the same.

  Attributes:
    shown: the first of them.
    count: how many pairs there are.
    across: how many of them are in different splits.
    images: how many were compared.
  """

  shown: list[tuple[Photo, Photo]]
  count: int
  across: int
  images: int


def photo(
  source: Source, index: int, *lines: str, with_box: bool = False
) -> Photo:
  """A record of a source with what is said of it."""
  record = source[int(index)]
  height, width = record["image"].shape[:2]
  shrink = SIDE / max(height, width)
  drawn = with_box and record["has_box"]
  return Photo(
    record["id"],
    html.jpeg_uri(record["image"], STORED),
    max(1, round(width * shrink)),
    max(1, round(height * shrink)),
    [("t", record["box"].tolist())] if drawn else [],
    [line for line in lines if line],
  )


def class_of(source: Source, index: int) -> str:
  """Name of a record's class."""
  label = int(source.labels[index])
  return source.class_names[label] if label >= 0 else "no class"


def samples(report: Report) -> list[Photo]:
  """Some records with their boxes, spread evenly over the readable ones."""
  source = report.source
  assert source is not None
  chosen = gallery.spread(len(report.readable), SAMPLES)
  places = [report.readable[i] for i in chosen]
  return [photo(source, i, class_of(source, i), with_box=True) for i in places]


def measured(
  report: Report, title: str, rule: str, said: Mapping[int, str]
) -> Shown:
  """Images that a rule found.

  Args:
    report: of the data set.
    title: of the images.
    rule: that found them.
    said: what is said of each, by position in `report.readable`, worst first.
  """
  source = report.source
  assert source is not None
  some = list(said.items())[:SHOWN]
  pictures = [photo(source, report.readable[i], line) for i, line in some]
  return Shown(title, rule, len(said), pictures)


def alike(report: Report, places: np.ndarray) -> Pairs:
  """Photographs that are nearly the same.

  Pairs of different splits stand first, then of different classes, then of the
  fewest bits.

  Args:
    report: of the data set, with `looks.look`.
    places: i64 [n], positions in `report.readable` of the images.
  """
  source, readable = report.source, np.asarray(report.readable)
  assert source is not None
  places = places[:COMPARED]
  part_of = listing.parts_of(report.data)
  parts = [part_of.get(source.ids[i], "no") for i in readable[places]]
  _, numbers = np.unique(parts, return_inverse=True)
  labels = source.labels[readable[places]]
  hashes = np.asarray([report.looks[i].phash for i in places], np.uint64)
  best = np.empty((0, 5), np.int64)
  count = across = 0
  for i, j, bits in similar.pairs(hashes):
    same = numbers[i] == numbers[j]
    count, across = count + len(i), across + int((~same).sum())
    rows = np.stack([same, labels[i] == labels[j], bits, i, j], 1)
    best = np.concatenate([best, rows])
    best = best[np.lexsort(best.T[::-1])][:SHOWN]

  def one(place: int, bits: int) -> Photo:
    index = readable[places[place]]
    part = f"{parts[place]} split, " if part_of else ""
    text = f"{bits} of 64 bits differ"
    return photo(source, index, class_of(source, index), part + text)

  shown = [(one(i, bits), one(j, bits)) for *_, bits, i, j in best.tolist()]
  return Pairs(shown, count, across, len(places))


def doubted(report: Report, doubts: Doubts) -> list[Photo]:
  """Images whose label is doubted; `doubts.index` is into the source."""
  source = report.source
  assert source is not None
  rows = zip(doubts.index, doubts.suggested, doubts.given, doubts.other)
  return [
    photo(
      source,
      i,
      f"given: {class_of(source, i)} ({given:.2f})",
      f"suggested: {source.class_names[suggested]} ({other:.2f})",
    )
    for i, suggested, given, other in list(rows)[:DOUBTS]
  ]
