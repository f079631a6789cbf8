"""predictions.json and predictions.jsonl: rows as they are."""

import pathlib
from collections.abc import Iterator

from mtlmoe_jax.predicting.formats.about import About, Rows
from mtlmoe_jax.predicting.formats.writing import dumps, open_text, write_list

NAME = "predictions.json"
LINES = "predictions.jsonl"


def write(rows: Rows, about: About, folder: pathlib.Path) -> list[str]:
  """Writes predictions.json: a list with an object a row.

  Args:
    rows: read once.
    about: not used.
    folder: of the file.

  Returns:
    Names of the files written.
  """
  del about
  with open_text(folder / NAME) as file:
    write_list(file, _texts(rows, 2))
    file.write("\n")
  return [NAME]


def write_lines(rows: Rows, about: About, folder: pathlib.Path) -> list[str]:
  """Writes predictions.jsonl: an object a line.

  Args:
    rows: read once.
    about: not used.
    folder: of the file.

  Returns:
    Names of the files written.
  """
  del about
  with open_text(folder / LINES) as file:
    for text in _texts(rows, None):
      file.write(text + "\n")
  return [LINES]


def _texts(rows: Rows, indent: int | None) -> Iterator[str]:
  """Escaped: names of files need not be UTF-8."""
  for row in rows():
    yield dumps(row, indent=indent, ensure_ascii=True)
