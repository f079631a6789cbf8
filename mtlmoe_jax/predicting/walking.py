"""The files below a folder: each once, sorted, without what predict made."""

import csv
import fnmatch
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple, TextIO

from mtlmoe_jax.data.readers import class_folders

# Folders of pictures in an output folder, what tells one, and the files, by
# that, whose rows name further pictures.
PICTURES = ("overlays", "crops", "thumbnails")
_MARKS = {
  "passport.json": "",
  "predictions.json": "predictions.json",
  "predictions.jsonl": "predictions.jsonl",
  "predictions.csv": "predictions.csv",
  # Of a prediction that was stopped.
  ".predict": ".predict/rows.jsonl",
}
# Keys of a row that name a picture.
_KEYS = ("overlay", "crop", "thumbnail")
_DIGITS = re.compile("([0-9]+)")
_MAGIC = re.compile(r"[*?\[]")


class Found(NamedTuple):
  """A file below a folder.

  Attributes:
    path: the folder as it was given, joined with the way to the file.
    real: where it is, without links.
  """

  path: str
  real: str


def natural(name: str) -> tuple[list[str | int], str]:
  """What to sort names by so that IMG_9 comes before IMG_10."""
  parts = _DIGITS.split(name.casefold())
  return [int(p) if i % 2 else p for i, p in enumerate(parts)], name


def below(
  folder: str,
  out: str,
  unlisted: list[str],
  wanted: Callable[[str], bool],
  leads: Callable[[str], bool] = lambda path: True,
) -> Iterator[Found]:
  """Visible files of a folder, at any depth, sorted part by part.

  Left out are hidden files and folders, what servers and computers keep beside
  photographs, the output folder, and pictures that an earlier prediction has
  left. A folder that links reach twice is listed once.

  Args:
    folder: where to begin; "": the current folder.
    out: real path of the output folder.
    unlisted: takes folders that may not be read.
    wanted: whether a file of that path is.
    leads: whether what is below a folder of that path may be wanted.
  """
  real = os.path.realpath(folder)
  seen = {real, out}
  # Not recursive: folders may be deeper than Python's stack.
  stack = [(folder, real, True)]
  while stack:
    path, real, is_folder = stack.pop()
    if not is_folder:
      yield Found(path, real)
      continue
    try:
      with os.scandir(path or ".") as entries:
        listed = sorted(entries, key=lambda entry: natural(entry.name))
    except OSError:
      unlisted.append(path)
      continue
    made = _made(path, {entry.name for entry in listed})
    inside = []
    for entry in listed:
      name = entry.name
      if class_folders.is_hidden(name) or name in made:
        continue
      there = os.path.join(path, name)
      is_link, is_folder = entry.is_symlink(), _is(entry.is_dir)
      at = os.path.realpath(there) if is_link else os.path.join(real, name)
      if is_folder:
        if at not in seen and leads(there):
          seen.add(at)
          inside.append((there, at, True))
      elif wanted(there) and _is(entry.is_file):
        inside.append((there, at, False))
    stack += reversed(inside)


def _is(test: Callable[[], bool]) -> bool:
  try:
    return test()
  except OSError:  # A link to itself.
    return False


def is_pictures(folder: str, out: str) -> bool:
  """Whether a folder is the output folder, or its pictures are in it.

  Args:
    folder: any.
    out: real path of the output folder.
  """
  real = os.path.realpath(folder)
  return real in {out, *(os.path.join(out, name) for name in PICTURES)}


def _made(folder: str, names: Collection[str]) -> set[str]:
  """Names in a folder that an earlier prediction has put there."""
  rows_of = [rows for mark, rows in _MARKS.items() if mark in names]
  if not rows_of:
    return set()
  made = set(PICTURES)
  for name in filter(None, rows_of):
    try:
      with open(os.path.join(folder, name), encoding="utf-8") as file:
        for value in _values(name, file):
          made |= _named(value)
    except (OSError, ValueError, RecursionError, csv.Error):
      continue  # Somebody else's, or cut short: its folders are told by name.
  return made


def _values(name: str, file: TextIO) -> Iterable[object]:
  """Rows, or lists of rows."""
  if name.endswith(".csv"):
    return csv.DictReader(file)
  if name.endswith(".jsonl"):
    return map(json.loads, file)
  return [json.load(file)]


def _named(value: object) -> set[str]:
  """Pictures that rows name, beside their file."""
  rows = value if isinstance(value, list) else [value]
  found = {
    str(row.get(key)) for row in rows if isinstance(row, dict) for key in _KEYS
  }
  return found - {"", "None"}


def is_pattern(path: str) -> bool:
  """Whether a path has *, ? or [."""
  return _MAGIC.search(path) is not None


def matching(
  pattern: str, out: str, unlisted: list[str], wanted: Callable[[str], bool]
) -> list[Found]:
  """The files that a pattern means, as a shell has it, and ** for any folders.

  Of a folder that it means, the files below; with a slash at its end it means
  folders alone. Where its last part has an ending without *, ? and [, every
  file with that ending counts. Parts at the beginning that are there as they
  are written are no patterns.

  Args:
    pattern: with *, ?, [ and **.
    out: real path of the output folder.
    unlisted: takes folders that may not be read.
    wanted: whether a file of that path is, unless it is named by its ending.
  """
  parts = pattern.split("/")
  first = 0
  while not is_pattern(parts[first]) or os.path.lexists(
    "/".join(parts[: first + 1])
  ):
    first += 1
  base = "/".join(parts[:first]) or ("/" if first else "")
  rest = [part for part in parts[first:] if part]
  ending = os.path.splitext(rest[-1])[1]
  has_ending = bool(ending) and not is_pattern(ending)

  start = len(os.path.join(base, ""))

  def way(path: str) -> list[str]:
    return path[start:].split("/")

  def is_meant(path: str) -> bool:
    at = way(path)
    if parts[-1] and _fits(at, rest):
      return has_ending or wanted(path)
    return wanted(path) and any(
      _fits(at[:count], rest) for count in range(1, len(at))
    )

  if not os.path.isdir(base or "."):
    return []
  return list(
    below(base, out, unlisted, is_meant, lambda path: _leads(way(path), rest))
  )


def _fits(parts: list[str], patterns: list[str]) -> bool:
  if not patterns:
    return not parts
  if patterns[0] == "**":
    return any(
      _fits(parts[start:], patterns[1:]) for start in range(len(parts) + 1)
    )
  return (
    bool(parts)
    and fnmatch.fnmatchcase(parts[0], patterns[0])
    and _fits(parts[1:], patterns[1:])
  )


def _leads(parts: list[str], patterns: list[str]) -> bool:
  """Whether something below a folder may fit."""
  if not parts or not patterns or patterns[0] == "**":
    return True
  return fnmatch.fnmatchcase(parts[0], patterns[0]) and _leads(
    parts[1:], patterns[1:]
  )
