"""A cleaned list of a data set: what `check_data --fix` writes.

`images.csv`, with the path relative to the folder of the data set, the box in
pixels of the upright image (empty: none) and the split that a run would use:

    path,class,x_min_px,y_min_px,x_max_px,y_max_px,split

No image is touched. Rows are left out, never changed.
"""

import csv
import io
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence

from mtlmoe_jax import errors
from mtlmoe_jax.data import listing
from mtlmoe_jax.data.check import Report
from mtlmoe_jax.data.readers.file_source import FileSource
from mtlmoe_jax.utils import files

FILE = "images.csv"
COLUMNS = (
  *("path", "class", "x_min_px", "y_min_px", "x_max_px", "y_max_px"),
  "split",
)
# An image in several parts stays in the first of these.
_KEPT_FIRST = ("test", "validation", "train")
# Names told for each reason.
_SHOWN = 3
UNREADABLE = "cannot be decoded"
UNUSED = "is in no part of the run (data.classes leaves its class out)"
_COPY = "has the contents of another image of its part, which is kept"
_LEAK = "has the contents of an image of the {} part, which is kept"


def write(folder: str | os.PathLike, root: str, report: Report) -> list[str]:
  """Writes the cleaned list.

  Args:
    folder: where `images.csv` goes; made where missing.
    root: `data.path`: the folder of the data set, or its list.
    report: of the data set.

  Returns:
    Lines that tell what was kept, what was left out, and why.

  Raises:
    InputError: a data set that is not one of files or could not be opened or
      split; a list that is there already; no record that is left.
  """
  path = new_list(folder)
  source = report.source
  if not isinstance(source, FileSource) or report.data is None:
    raise errors.InputError(
      f"--fix={str(folder)!r}: a list is made of image files that can be "
      "opened and split: mend what is told above, or leave --fix out"
    )
  part_of = listing.parts_of(report.data)
  parts = [part_of.get(name) for name in source.ids]
  left_out = find(parts, source.paths, source.contents(), report.readable)
  if len(left_out) == len(source):
    raise errors.InputError(
      f"--fix={str(folder)!r}: no record is left; mend what is told above"
    )
  base = pathlib.Path(root).expanduser()
  base = base if base.is_dir() else base.parent
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(COLUMNS)
  for i, row in enumerate(listing.rows(source, part_of)):
    if i not in left_out:
      place = pathlib.Path(os.path.relpath(source.paths[i], base))
      box = row["box"] or [""] * 4
      writer.writerow((place.as_posix(), row["class"], *box, row["split"]))
  # A file's name need not be text.
  files.write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))
  kept = len(source) - len(left_out)
  lines = [f"{path}: {kept} of {len(source)} records", *told(left_out, source)]
  if report.problems:
    lines.append("left out: the rows and images that the errors above name")
  return lines


def new_list(folder: str | os.PathLike) -> pathlib.Path:
  """Where the list will be.

  Raises:
    InputError: something is there already.
  """
  path = pathlib.Path(folder).expanduser() / FILE
  if path.exists():
    raise errors.InputError(
      f"--fix={str(folder)!r}: {path} is there already and is not written "
      "over: remove it, or give another folder"
    )
  return path


def find(
  parts: Sequence[str | None],
  paths: Sequence[pathlib.Path],
  contents: Sequence[str],
  readable: Collection[int],
) -> dict[int, str]:
  """What a cleaned list leaves out.

  Args:
    parts: split of each of n records; None: of none.
    paths: file of each; several records may be of one.
    contents: what tells the file from others, of each.
    readable: positions of those that can be decoded.

  Returns:
    The reason by position.
  """
  readable = frozenset(readable)
  out: dict[int, str] = {}
  first: dict[str, tuple[pathlib.Path, str]] = {}
  for i, part in enumerate(parts):
    if i not in readable:
      out[i] = UNREADABLE
    elif part is None:
      out[i] = UNUSED
  for kept_part in _KEPT_FIRST:
    for i, part in enumerate(parts):
      if i in out or part != kept_part:
        continue
      other = first.setdefault(contents[i], (paths[i], part))
      if other[1] != part:
        out[i] = _LEAK.format(other[1])
      elif other[0] != paths[i]:
        out[i] = _COPY
  return out


def told(left_out: Mapping[int, str], source: FileSource) -> list[str]:
  """A line for each reason: how many, and which."""
  by_reason: dict[str, list[str]] = {}
  for i, reason in sorted(left_out.items()):
    by_reason.setdefault(reason, []).append(source.ids[i])
  return [
    f"left out: {len(names)} that {reason} ({', '.join(names[:_SHOWN])}"
    + (f" and {len(names) - _SHOWN} more)" if names[_SHOWN:] else ")")
    for reason, names in by_reason.items()
  ]
