"""One list of what is wrong with a data set, and the rule for its boxes."""

import csv
import math
import pathlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from mtlmoe_jax import errors

# What sticks out of the image is cut off. A box with less than this share of
# its area inside is a mistake (another image's box, swapped axes, other
# units). In CUB a few boxes end 1 pixel and one 32 pixels outside.
MIN_INSIDE = 0.8
# How many names stand in a message.
_SHOWN = 3
Corners = tuple[float, float, float, float]


class Problems:
  """Takes every problem a reader finds; stops at the first, or collects all.

  Readers call `problems(message)` and go on without the bad row, so one piece
  of code serves training (fail early) and `check_data` (list everything).
  """

  def __init__(self, collect: bool = False) -> None:
    self._collect = collect
    self.messages: list[str] = []

  @property
  def collects(self) -> bool:
    """Whether it goes on after a problem."""
    return self._collect

  @property
  def count(self) -> int:
    """How many there are so far."""
    return len(self.messages)

  def __call__(self, message: str) -> None:
    """Reports one problem.

    Raises:
      InputError: unless problems are collected.
    """
    if not self._collect:
      raise errors.InputError(message)
    self.messages.append(message)


def some(names: Iterable[object]) -> str:
  """The first few names, and how many more there are."""
  shown = [str(name) for name in names]
  rest = len(shown) - _SHOWN
  return ", ".join(shown[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def rows_of(
  reader: Any, path: pathlib.Path, problems: Problems
) -> Iterator[Any]:
  """The rows of a CSV file that say anything, up to one that cannot be parted.

  Args:
    reader: `csv.reader` or `csv.DictReader`.
    path: of the file.
    problems: where such a row is reported.
  """
  try:
    for row in reader:
      # Spreadsheets write rows of commas alone.
      if any(map(_says, row.values() if isinstance(row, dict) else row)):
        yield row
  except csv.Error as error:
    # A DictReader counts a line only once it is read.
    line = getattr(reader, "reader", reader).line_num
    problems(f"{path} line {line}: {error}: correct the row")


def _says(cell: Any) -> bool:
  return bool(cell.strip() if isinstance(cell, str) else cell)


def id_of(path: str) -> str:
  """The path that a table gives an image, as it is looked up.

  Names are composed (NFC): macOS keeps them so in tables, not on its disks.
  """
  path = path.strip().replace("\\", "/").removeprefix("./")
  return unicodedata.normalize("NFC", path)


def table(
  root: pathlib.Path, name: str, problems: Problems
) -> pathlib.Path | None:
  """The file of that name, in small or capital letters; None: there is none.

  Args:
    root: the folder of a data set.
    name: in small letters.
    problems: where a second one is reported.
  """
  found = sorted(
    p for p in root.iterdir() if p.name.lower() == name and p.is_file()
  )
  if len(found) > 1:
    names = ", ".join(p.name for p in found)
    problems(f"{root}: {names} are tables of one name: keep one of them")
  return found[-1] if found else None


def inside(box: Sequence[float]) -> tuple[Corners, float]:
  """A box cut to its image.

  In plain numbers: a data set has more boxes than NumPy has time for.

  Args:
    box: xyxy, shares of the image.

  Returns:
    (xyxy in [0, 1], share of its area that lies inside; 0 without an area).
  """
  x1, y1, x2, y2 = map(float, box)
  left, right = min(max(x1, 0.0), 1.0), min(max(x2, 0.0), 1.0)
  top, bottom = min(max(y1, 0.0), 1.0), min(max(y2, 0.0), 1.0)
  area = (x2 - x1) * (y2 - y1) if x2 > x1 and y2 > y1 else 0.0
  visible = (right - left) * (bottom - top) / area if area > 0 else 0.0
  return (left, top, right, bottom), visible


def checked_box(
  box: Sequence[float], what: str, problems: Problems
) -> np.ndarray | None:
  """A box cut to its image, or None after a report.

  Args:
    box: xyxy, shares of its image.
    what: file and row or image, to begin the message with.
    problems: where a bad box is reported.

  Returns:
    f32 [4] xyxy in [0, 1], or None.
  """
  cut, visible = inside(box)
  # Not a number compares as false.
  if visible >= MIN_INSIDE:
    return np.asarray(cut, np.float32)
  corners = "[" + ", ".join(f"{v:.4g}" for v in box) + "]"
  if not all(map(math.isfinite, box)):
    problems(f"{what}: box {corners} is not a number: correct the row")
  elif not (box[2] > box[0] and box[3] > box[1]):
    problems(
      f"{what}: box {corners} (x_min, y_min, x_max, y_max as shares of the "
      "image) has no area: correct or remove the row"
    )
  else:
    problems(
      f"{what}: box {corners} (x_min, y_min, x_max, y_max as shares of the "
      f"image) lies outside its image, {100 * visible:.0f} % is inside: "
      "correct or remove the row"
    )
  return None
