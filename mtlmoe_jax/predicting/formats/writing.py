"""Text files that are written piece by piece."""

import csv
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from mtlmoe_jax.utils import files

open_text = functools.partial(open, mode="w", encoding="utf-8", newline="\n")


def dumps(
  value: Any, *, indent: int | None = None, ensure_ascii: bool = False
) -> str:
  """JSON; NaN and infinity become null.

  Args:
    value: what JSON knows, arrays and NumPy's numbers.
    indent: None: one line.
    ensure_ascii: whether all else is escaped; else text stays readable, but
      must be valid Unicode (`naming.clean`).
  """
  encode = functools.partial(
    json.dumps, indent=indent, allow_nan=False, ensure_ascii=ensure_ascii
  )
  try:
    return encode(value)
  except (TypeError, ValueError):  # Seldom: to look for it costs as much.
    return encode(files.plain(value))


def write_list(file: TextIO, values: Iterator[str], margin: str = "") -> None:
  """A JSON list of values that are JSON already, a value a line or more.

  Args:
    file: where to.
    values: one after the other, so that few are in memory.
    margin: of the line that the list began on.
  """
  inner = f"\n{margin}  "
  separator = "["
  for value in values:
    # A line break inside a JSON string is written as \\n.
    file.write(separator + inner + value.replace("\n", inner))
    separator = ","
  file.write("[]" if separator == "[" else f"\n{margin}]")


class Table:
  """A CSV file with a header, row by row; lines end as on Unix.

  Python's writer quotes a line break in a cell only where the break is (part
  of) what ends its lines, so it is given both, of which one is written.
  """

  def __init__(self, file: TextIO, columns: Sequence[str]):
    self._file = file
    self._writer = csv.DictWriter(
      self, columns, extrasaction="ignore", lineterminator="\r\n"
    )
    self._writer.writeheader()

  def write(self, text: str) -> None:
    """What the writer of csv calls, with one line."""
    self._file.write(text.removesuffix("\r\n") + "\n")

  def add(self, cells: Mapping[str, Any]) -> None:
    """Writes a row; nothing where a cell is None or absent."""
    self._writer.writerow(cells)
