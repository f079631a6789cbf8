"""What else is known of the images of a folder: camera, place, observer.

```
DIR/attributes.csv                         optional

path,camera,night
train/robin/0001.jpg,north,no
```

`path` as in `boxes.csv`; every further column is an attribute, of any text. An
image without a row, or an empty entry, has none. Nothing is learned from them:
the report tells what each gate's choice of experts says of each.
"""

import csv
import pathlib
from collections.abc import Sequence

from mtlmoe_jax.data.readers.problems import (
  Problems,
  id_of,
  rows_of,
  table,
)

ATTRIBUTES = "attributes.csv"
# What reports call the class of an image.
_TAKEN = "class"

# Of each image, by its path: attribute -> text, "" where it is not known.
Rows = dict[str, dict[str, str]]


def read_attributes(
  root: pathlib.Path, ids: Sequence[str], problems: Problems
) -> Rows | None:
  """Reads `attributes.csv`.

  Args:
    root: folder of the data set.
    ids: n paths of its images, relative to it.
    problems: where mistakes are reported.

  Returns:
    A row of each of `ids`, all of the same attributes; None without a file, or
    one whose header cannot be used.

  Raises:
    InputError: the first problem, unless `problems` collects.
  """
  path = table(root, ATTRIBUTES, problems)
  if path is None:
    return None
  with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
    reader = csv.reader(file, skipinitialspace=True)
    header = [name.strip() for name in next(reader, [])]
    names = [name for name in header if name != "path"]
    wrong = _wrong(header, names)
    if wrong:
      problems(f"{path}: header {','.join(header)!r} {wrong}")
      return None
    rows: Rows = {}
    known = frozenset(map(id_of, ids))
    for entries in rows_of(reader, path, problems):
      what = f"{path} line {reader.line_num}"
      if len(entries) != len(header):
        problems(
          f"{what}: {len(entries)} entries under {len(header)} columns: "
          "correct the row (text with a comma needs quotes)"
        )
        continue
      row = dict(zip(header, map(str.strip, entries), strict=True))
      name = id_of(row.pop("path"))
      if name not in known:
        problems(
          f"{what}: no image {name!r} in a class folder: correct or remove the "
          "row"
        )
      elif name in rows:
        problems(f"{what}: {name!r} has a row already: remove one")
      else:
        rows[name] = row
  unknown = dict.fromkeys(names, "")
  return {name: rows.get(id_of(name), unknown) for name in ids}


def _wrong(header: Sequence[str], names: Sequence[str]) -> str:
  """What is wrong with a header; "" where nothing is."""
  if "path" not in header or not names:
    return "must be path and at least one attribute, as path,camera"
  if _TAKEN in names:
    return (
      "has a column 'class', which is that of the folder: name it otherwise"
    )
  if "" in names or len(set(header)) < len(header):
    return "must give every column a name of its own"
  return ""
