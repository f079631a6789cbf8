"""Which image belongs to which part, kept with a run.

Where a data set has no split, images are held out by their place in a list.
With one photograph more the list is another, and "test" images may be some that
were trained on. So a run writes down where each of its images went, by name and
by contents, and whoever opens its data later goes by that.
"""

import collections
import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data.readers.file_source import FileSource
from mtlmoe_jax.data.readers.problems import Problems, rows_of
from mtlmoe_jax.utils import files

# In the workdir of a run on image files.
FILE = "split.csv"
PARTS = ("train", "validation", "test")
# Of images that a run leaves alone: other classes, a part that it does not use.
UNUSED = "none"
_WORDS = (*PARTS, UNUSED)
_COLUMNS = ("part", "id", "contents")


@dataclasses.dataclass(frozen=True)
class Image:
  """An image of a run.

  Attributes:
    part: of PARTS, or UNUSED.
    id: its name in the data set.
    contents: of `FileSource.contents`.
  """

  part: str
  id: str
  contents: str


def write(
  path: str | os.PathLike,
  parts: Mapping[str, Sequence[str]],
  source: FileSource,
) -> None:
  """Writes which image went where.

  Args:
    path: the file.
    parts: ids by part.
    source: that has them.
  """
  part_of = {name: part for part, ids in parts.items() for name in ids}
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(_COLUMNS)
  for name, contents in zip(source.ids, source.contents(), strict=True):
    writer.writerow((part_of.get(name, UNUSED), name, contents))
  files.write_text(path, text.getvalue())


def read(path: pathlib.Path) -> list[Image] | None:
  """What `write` wrote; None where there is no such file.

  Raises:
    InputError: another file of that name.
  """
  if not path.is_file():
    return None
  images = []
  with path.open(newline="", encoding="utf-8", errors="replace") as file:
    reader = csv.reader(file)
    rows = rows_of(reader, path, Problems())
    if tuple(next(rows, ())) != _COLUMNS:
      raise errors.InputError(
        f"{path}: is not the list of a run's images ({','.join(_COLUMNS)}): "
        "restore it, or remove it to go by the split of the data set"
      )
    for row in rows:
      if len(row) != len(_COLUMNS) or row[0] not in _WORDS:
        raise errors.InputError(
          f"{path} line {reader.line_num}: {','.join(row)!r} must be one of "
          f"{', '.join(_WORDS)}, an id and contents: restore the file"
        )
      images.append(Image(*row))
  return images


def find(
  images: Sequence[Image],
  source: FileSource,
  official: Mapping[str, np.ndarray] | None,
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
  """The parts of a run's images, wherever they lie now.

  An image is known by name and contents, else by contents (it was renamed),
  else by its name (it was changed). A copy of a known one is left out. New ones
  were never trained on; they are in the part that the data set's own split
  says, or in none.

  Args:
    images: of the run.
    source: the data set as it is now.
    official: its own split; None where it has none.

  Returns:
    (positions in `source` by part, lines that tell what differs).
  """
  known = _recognise(images, source)
  part_of = known.part_of
  if not any(part_of):
    # Another data set: its own parts, where it has them.
    if official is None:
      official = {"test": np.arange(len(source))}
    empty = {part: np.arange(0) for part in PARTS}
    note = f"none of its {len(source)} images is one of the run's"
    return {**empty, **official}, (note,)
  for part, own in (official or {}).items():
    for i in set(own.tolist()) & set(known.new):
      part_of[i] = part
  found = np.asarray(part_of, object)
  positions = {part: np.flatnonzero(found == part) for part in PARTS}
  return positions, tuple(_notes(known, source, official is not None))


class _Known(NamedTuple):
  """What became of a run's images.

  Attributes:
    part_of: of each image of a source; "": of none.
    new: positions of those that the run did not have.
    copies: ids of those that are left out for another with their contents.
    renamed: ids of those known by their contents.
    changed: ids of those known by their name.
    missing: images of the run that are not there.
  """

  part_of: list[str]
  new: list[int]
  copies: list[str]
  renamed: list[str]
  changed: list[str]
  missing: list[Image]


def _recognise(images: Sequence[Image], source: FileSource) -> _Known:
  contents = source.contents()
  by_id = {image.id: image for image in images}
  contents_of_run = {image.contents for image in images}
  known = _Known([""] * len(source), [], [], [], [], [])
  exact = set()
  for i, (name, key) in enumerate(zip(source.ids, contents)):
    image = by_id.get(name)
    if image is not None and image.contents == key:
      known.part_of[i] = image.part
      exact.add(name)
  left = collections.defaultdict[str, list[Image]](list)
  for image in images:
    if image.id not in exact:
      left[image.contents].append(image)
  unknown = []
  for i, (name, key) in enumerate(zip(source.ids, contents)):
    if known.part_of[i]:
      continue
    if left[key]:
      # Of two that were alike the one that was trained on: it is not judged.
      image = min(left[key], key=lambda image: _WORDS.index(image.part))
      left[key].remove(image)
      known.part_of[i] = image.part
      known.renamed.append(name)
    elif key in contents_of_run:
      known.copies.append(name)
    else:
      unknown.append(i)
  missing = {image.id: image for rest in left.values() for image in rest}
  for i in unknown:
    image = missing.pop(source.ids[i], None)
    if image is None:
      known.new.append(i)
    else:
      known.part_of[i] = image.part
      known.changed.append(image.id)
  known.missing.extend(missing.values())
  return known


def _notes(known: _Known, source: FileSource, has_split: bool) -> Iterator[str]:
  where = "in the part that its folder says" if has_split else "in no part"
  held_out = [m.id for m in known.missing if m.part in ("validation", "test")]
  trained = [m.id for m in known.missing if m.part == "train"]
  new = [source.ids[i] for i in known.new]
  for names, what in (
    (new, f"are new since the training, {where}"),
    (known.copies, "are copies of others, left out"),
    (
      known.renamed,
      "have another name than in the training, and keep their part",
    ),
    (
      known.changed,
      "have other contents than in the training, and keep their part",
    ),
    (held_out, "that were held out are missing"),
    (trained, "that were trained on are missing"),
  ):
    if names:
      yield f"{len(names)} images {what} ({_some(names)})"


def _some(names: Sequence[str]) -> str:
  return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")
