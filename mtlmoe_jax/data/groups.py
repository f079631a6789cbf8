"""Which images belong together, so that they are held out together.

Frames of one burst, days of one camera, photographs of one bird: a model that
was trained on some of them is judged too well on the others.

Letters: n records.
"""

import concurrent.futures
import datetime
import pathlib
import posixpath
import re
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from PIL import ExifTags, Image

from mtlmoe_jax import errors
from mtlmoe_jax.config import words
from mtlmoe_jax.data import images, similar
from mtlmoe_jax.data.readers.file_source import FileSource

_READERS = 8
_TIME = re.compile(r"(\d{4})\D(\d\d)\D(\d\d)\D(\d\d)\D(\d\d)\D(\d\d)")
# The key of each record's group, None for one of its own, and what to say of
# how many are.
_Keys = tuple[Sequence[Hashable | None], str]


def group_ids(
  source: FileSource, spec: str
) -> tuple[np.ndarray, tuple[str, ...]]:
  """Numbers the groups of a data set.

  Args:
    source: n records. Those of one file are in one group, whatever else is.
    spec: `config.data.group_by`, not empty: `folder`, `pattern:REGEX`,
      `column:NAME`, `time:SECONDS` or `similar`.

  Returns:
    (i64 [n] from 0, in the order of their first records; lines that tell how
    many groups there are and which records are none's).

  Raises:
    InputError: another spec, or a column that is not there.
  """
  kind, _, argument = spec.partition(":")
  if not words.is_grouping(spec):
    raise errors.InputError(
      f"config.data.group_by={spec!r}: must be {words.GROUPINGS}"
    )
  keys, alone = _KINDS[kind](source, argument)
  paths: dict[pathlib.Path, Hashable] = {}
  numbers: dict[Hashable, int] = {}
  out = np.zeros(len(source), np.int64)
  for i, (key, path) in enumerate(zip(keys, source.paths, strict=True)):
    own = ("alone", path) if key is None else ("group", key)
    first = paths.setdefault(path, own)
    out[i] = numbers.setdefault(first, len(numbers))
  sizes = np.bincount(out)
  what = f"config.data.group_by={spec!r}"
  largest = source.ids[int(np.argmax(sizes[out]))]
  notes = [
    f"{what}: {len(source)} images in {len(sizes)} groups, at most "
    f"{sizes.max()} in one (that of {largest})"
  ]
  lone = sum(key is None for key in keys)
  if lone:
    notes.append(f"{what}: {lone} images {alone}, each a group of its own")
  return out, tuple(notes)


def of_images(source: FileSource) -> np.ndarray | None:
  """The records of each image as a group; None: each image has one record."""
  names = list(dict.fromkeys(source.image_ids))
  if len(names) == len(source):
    return None
  numbers = {name: i for i, name in enumerate(names)}
  return np.asarray([numbers[name] for name in source.image_ids], np.int64)


def _by_folder(source: FileSource, _: str) -> _Keys:
  return [posixpath.dirname(name) for name in source.ids], ""


def _by_pattern(source: FileSource, pattern: str) -> _Keys:
  expression = re.compile(pattern)

  def key(name: str) -> str | None:
    match = expression.search(name)
    return match and match[1 if expression.groups else 0]

  return [key(name) for name in source.ids], "are not matched"


def _by_column(source: FileSource, name: str) -> _Keys:
  rows = source.attributes
  first = next(iter((rows or {}).values()), {})
  if rows is None or name not in first:
    there = f"it has {', '.join(first)}" if first else "there is none"
    raise errors.InputError(
      f"config.data.group_by='column:{name}': no such column of "
      f"attributes.csv; {there}"
    )
  return [rows[i][name] or None for i in source.ids], "have no entry"


def _by_time(source: FileSource, seconds: str) -> _Keys:
  gap = float(seconds)
  with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
    times = list(pool.map(taken_at, source.paths))
  keys: list[Hashable | None] = [None] * len(times)
  dated = sorted(
    (posixpath.dirname(source.ids[i]), time, source.ids[i], i)
    for i, time in enumerate(times)
    if time is not None
  )
  where, before, burst = "", -np.inf, 0
  for folder, time, _, i in dated:
    if folder != where or time - before > gap:
      burst += 1
    where, before, keys[i] = folder, time, burst
  return keys, "do not tell when they were taken"


def _by_likeness(source: FileSource, _: str) -> _Keys:
  found, known = similar.hashes(source.paths, _READERS)
  clusters = np.full(len(source), -1)
  clusters[known] = similar.clusters(found[known])
  keys = [None if c < 0 else int(c) for c in clusters]
  return keys, "cannot be read"


_KINDS: dict[str, Callable[[FileSource, str], _Keys]] = {
  "folder": _by_folder,
  "pattern": _by_pattern,
  "column": _by_column,
  "time": _by_time,
  "similar": _by_likeness,
}


def taken_at(path: pathlib.Path) -> float | None:
  """When a photograph was taken, by its EXIF `DateTimeOriginal`.

  Returns:
    Seconds, of the camera's own clock, with parts of a second where it tells
    them; None where nothing that can be understood is said.
  """
  try:
    with Image.open(path) as image:
      tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
    text = str(tags.get(ExifTags.Base.DateTimeOriginal, ""))
    part = str(tags.get(ExifTags.Base.SubsecTimeOriginal, "")).strip(" \0")
    match = _TIME.match(text.strip())
    if match is None:
      return None
    moment = datetime.datetime.strptime(
      " ".join(match.groups()), "%Y %m %d %H %M %S"
    )
  # Whatever cameras and editors wrote: Pillow parses it as it finds it.
  except (*images.BAD_FILE, AttributeError, LookupError, TypeError):
    return None
  seconds = (moment - datetime.datetime(1970, 1, 1)).total_seconds()
  return seconds + (
    float(f"0.{part}") if part.isascii() and part.isdigit() else 0
  )
