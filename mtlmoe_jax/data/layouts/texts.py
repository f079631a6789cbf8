"""Text files of annotations: read as UTF-8, with one line for what is wrong."""

import csv
import io
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mtlmoe_jax import errors

# What parts the columns of tables.
_DELIMITERS = (",", ";", "\t", "|")


class Table(NamedTuple):
  """A table.

  Attributes:
    path: in its tree.
    columns: their names; () where the table has no header.
    rows: (line, text by column) of those that say anything.
  """

  path: str
  columns: tuple[str, ...]
  rows: list[tuple[int, dict[str, str]]]


def text(path: pathlib.Path) -> str:
  """The text of a file.

  Raises:
    InputError: it is not UTF-8, or cannot be read.
  """
  try:
    return path.read_bytes().decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise errors.InputError(
      f"{path}: is not UTF-8 (byte {error.start}): save it as UTF-8"
    ) from None
  except OSError as error:
    raise errors.InputError(f"{path}: cannot be read ({error})") from None


def json_value(path: pathlib.Path) -> Any:
  """The value of a JSON file.

  Raises:
    InputError: it is no JSON, or is cut.
  """
  content = text(path)
  try:
    return json.loads(content)
  except ValueError as error:
    raise errors.InputError(
      f"{path}: is no JSON, or is cut ({error}): export it again"
    ) from None
  except RecursionError:
    raise errors.InputError(
      f"{path}: is nested too deep for a list of images"
    ) from None


def table(
  path: pathlib.Path,
  name: str,
  header: Callable[[Sequence[str]], Sequence[str] | None] = lambda first: None,
) -> Table:
  """A CSV file.

  Args:
    path: the file.
    name: what to call it.
    header: given the first row, the names of its columns where it is no
      header itself; None: it is one.

  Raises:
    InputError: not UTF-8; empty; a row with more or fewer entries than the
      header; a header that names a column twice.
  """
  content = text(path)
  if content.startswith("sep="):  # Excel's word to itself.
    content = content.partition("\n")[2]
  first, _, _ = content.partition("\n")
  delimiter = max(_DELIMITERS, key=first.count)
  reader = csv.reader(
    io.StringIO(content, newline=""),
    delimiter=delimiter,
    skipinitialspace=True,
  )
  rows: list[tuple[int, dict[str, str]]] = []
  try:
    columns = tuple(column.strip() for column in next(reader, ()))
    names = header(columns)
    if names is not None:
      rows.append((reader.line_num, dict(zip(names, columns))))
      columns = tuple(names)
    if not any(columns):
      raise errors.InputError(f"{path}: is empty: fill it, or remove it")
    named = [column for column in columns if column]
    if len(set(named)) < len(named):
      raise errors.InputError(
        f"{path}: header {delimiter.join(columns)!r} names a column twice"
      )
    for row in reader:
      cells = [cell.strip() for cell in row]
      if not any(cells):
        continue
      if len(cells) < len(columns) or any(cells[len(columns) :]):
        raise errors.InputError(
          f"{path} line {reader.line_num}: {len(cells)} entries under "
          f"{len(columns)} columns: correct the row (text with a comma needs "
          "quotes)"
        )
      rows.append((reader.line_num, dict(zip(columns, cells))))
  except csv.Error as error:
    raise errors.InputError(
      f"{path} line {reader.line_num}: {error}: correct the row"
    ) from None
  return Table(name, columns, rows)
