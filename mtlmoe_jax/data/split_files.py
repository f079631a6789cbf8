"""A file that says which image goes where, for one program and the next.

    part,id,group
    train,robin/0001.jpg,robin/0001.jpg

`part` is train, validation, test or none; `id` is the image's name in the data
set. Other columns are not read: `split.csv` of a run is such a file.
"""

import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data import splits
from mtlmoe_jax.data.membership import PARTS, UNUSED
from mtlmoe_jax.data.readers.file_source import Whole
from mtlmoe_jax.data.readers.problems import Problems, id_of, rows_of
from mtlmoe_jax.data.source import Source
from mtlmoe_jax.utils import files

_WORDS = (*PARTS, UNUSED)


def write(
  path: str | os.PathLike,
  parts: Mapping[str, Sequence[str]],
  ids: Sequence[str],
  groups: np.ndarray | None = None,
) -> None:
  """Writes a split.

  Args:
    path: the file.
    parts: ids by part.
    ids: n, of all records.
    groups: i64 [n], or None without groups; each is named by its smallest id.
  """
  part_of = {name: part for part, names in parts.items() for name in names}
  names = {} if groups is None else splits.group_names(groups, ids)
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(("part", "id", "group"))
  for i, name in enumerate(ids):
    group = "" if groups is None else names[int(groups[i])]
    writer.writerow((part_of.get(name, UNUSED), name, group))
  files.write_text(path, text.getvalue())


def apply(whole: Whole, path: str, problems: Problems) -> Whole:
  """A data set with the split of a file in place of its own.

  Args:
    whole: the data set.
    path: `config.data.split_file`.
    problems: where bad rows are reported.

  Returns:
    The same records; those without a row are in no part, and told.

  Raises:
    InputError: no such file or columns, nothing to train on or to test; and,
      unless `problems` collects, the first problem.
  """
  file = pathlib.Path(os.path.expanduser(path))
  option = f"config.data.split_file={path!r}"
  if not file.is_file():
    raise errors.InputError(f"{option}: no such file; give a CSV file")
  part_of = _read(file, option, whole.source, problems)
  found = np.asarray([part_of.get(id_of(i), "") for i in whole.source.ids])
  official = {part: np.flatnonzero(found == part) for part in PARTS}
  for part in ("train", "test"):
    if not len(official[part]):
      raise errors.InputError(
        f"{option}: no image is in the part {part!r}; name some"
      )
  missing = [whole.source.ids[i] for i in np.flatnonzero(found == "")]
  notes = list(whole.notes)
  if missing:
    notes.append(
      f"left out: {len(missing)} images without a row in {file} ({missing[0]})"
    )
  return dataclasses.replace(
    whole, official=official, has_split=True, notes=tuple(notes)
  )


def _read(
  path: pathlib.Path, option: str, source: Source, problems: Problems
) -> dict[str, str]:
  """Part by id."""
  known = frozenset(map(id_of, source.ids))
  part_of: dict[str, str] = {}
  with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
    reader = csv.DictReader(file, skipinitialspace=True)
    header = [(name or "").strip() for name in reader.fieldnames or ()]
    if not {"part", "id"} <= set(header):
      raise errors.InputError(
        f"{option}: its header {','.join(header)[:80]!r} must have the columns "
        "part and id"
      )
    reader.fieldnames = header
    for row in rows_of(reader, path, problems):
      what = f"{path} line {reader.line_num}"
      part, name = ((row[key] or "").strip() for key in ("part", "id"))
      name = id_of(name)
      if part not in _WORDS:
        problems(f"{what}: part {part!r} must be one of {', '.join(_WORDS)}")
      elif name not in known:
        problems(
          f"{what}: the data set has no image {name!r}: correct or remove the "
          "row"
        )
      elif name in part_of:
        problems(f"{what}: {name!r} has a row already: remove one")
      else:
        part_of[name] = part
  return part_of
