"""A folder of images with one sub-folder for each class.

```
DIR/<class>/*.jpg                          split here, seeded
DIR/{train,test}/<class>/*.jpg             split as it is
DIR/{train,val,test}/<class>/*.jpg         val chooses the best checkpoint
DIR/{train,val}/<class>/*.jpg              val is the test split
DIR/boxes.csv                              optional
DIR/attributes.csv                         optional, see attributes.py
```

Images may lie deeper in a class folder (class_folders.py).

`boxes.csv` begins with a header that tells the unit. Pixels of the upright
image (right edge of an image W wide: x = W):

    path,x_min_px,y_min_px,x_max_px,y_max_px

or shares of its width and height, in [0, 1]:

    path,x_min,y_min,x_max,y_max

`path` is relative to DIR. One row an image; an image without a row has no box.
"""

import csv
import pathlib

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data import images, splits
from mtlmoe_jax.data.readers.attributes import read_attributes
from mtlmoe_jax.data.readers.class_folders import BOXES, list_classes
from mtlmoe_jax.data.readers.file_source import FileSource, Item, Whole
from mtlmoe_jax.data.readers.problems import (
  Problems,
  checked_box,
  id_of,
  rows_of,
  table,
)
from mtlmoe_jax.ops import boxes

_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_NORMALISED = ("path", *_CORNERS)
_PIXELS = ("path", *(f"{name}_px" for name in _CORNERS))


def open_folder(path: str, problems: Problems, key: str = "data.path") -> Whole:
  """Opens the folder; reads its tables and every image's header.

  Args:
    path: the folder.
    problems: where mistakes are reported.
    key: of the config, that named the folder.

  Returns:
    All images, sorted by split folder, class and name, and the splits.

  Raises:
    InputError: no such folder or no images in class folders; and, unless
      `problems` collects, the first problem.
  """
  root = pathlib.Path(path)
  listing = list_classes(root, key, problems)
  names = sorted({file.class_name for file in listing.files})
  rows = _read_boxes(root, problems)
  items, kinds = [], []
  labels = {name: label for label, name in enumerate(names)}
  for file in listing.files:
    label = labels[file.class_name]
    item = _item(root, file.path, label, rows, problems)
    if item is not None:
      items.append(item)
      kinds.append(file.split)
  for name, (line, _) in rows.items():
    # What was found has been taken out of `rows`.
    problems(
      f"{root / BOXES} line {line}: no image {name!r} in a class folder: "
      "correct or remove the row"
    )
  # Of all images, those with a bad box too: their rows are no mistakes.
  ids = [file.path.relative_to(root).as_posix() for file in listing.files]
  known = read_attributes(root, ids, problems)
  source = FileSource("folder", names, items, known)
  official = _official(np.asarray(kinds, object))
  has_split = set(official) >= {"train", "test"}
  if not has_split:
    # No split, or only one of its sides: hold out a share of what there is.
    kept, held_out = splits.hold_out(
      source.labels, splits.TEST_SHARE, splits.TEST_SEED, source.ids
    )
    official = {"train": kept, "test": held_out}
  return Whole(source, official, has_split, listing.notes)


def _official(kinds: np.ndarray) -> dict[str, np.ndarray]:
  official = {
    name: np.flatnonzero(kinds == name)
    for name in ("train", "validation", "test")
    if (kinds == name).any()
  }
  if official and "test" not in official and "validation" in official:
    official["test"] = official.pop("validation")
  return official


def _read_boxes(
  root: pathlib.Path, problems: Problems
) -> dict[str, tuple[int, dict[str, str]]]:
  """Rows of `boxes.csv` by path, each with its line number."""
  path = table(root, BOXES, problems)
  if path is None:
    return {}
  rows: dict[str, tuple[int, dict[str, str]]] = {}
  with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
    reader = csv.DictReader(file, skipinitialspace=True)
    header = {name.strip() for name in reader.fieldnames or ()}
    if not (header >= set(_PIXELS) or header >= set(_NORMALISED)):
      problems(
        f"{path}: header {','.join(reader.fieldnames or ())!r} must be "
        f"{','.join(_PIXELS)} (pixels) or {','.join(_NORMALISED)} (shares "
        "of the image, 0 to 1)"
      )
      return {}
    for row in rows_of(reader, path, problems):
      row = {(k or "").strip(): v for k, v in row.items()}
      name = id_of(row["path"] or "")
      if name in rows:
        problems(
          f"{path} line {reader.line_num}: {name!r} has a row already: one "
          "box an image is supported, remove the others"
        )
      else:
        rows[name] = (reader.line_num, row)
  if not rows:
    problems(f"{path}: no rows: add the boxes, or remove the file")
  return rows


def _item(
  root: pathlib.Path,
  file: pathlib.Path,
  label: int,
  rows: dict[str, tuple[int, dict[str, str]]],
  problems: Problems,
) -> Item | None:
  name = file.relative_to(root).as_posix()
  line, row = rows.pop(id_of(name), (0, None))
  try:
    size = images.image_size(file)
  except errors.InputError as error:
    problems(str(error))
    return None
  if row is None:
    return Item(name, file, label, None)
  what = f"{root / BOXES} line {line} ({name})"
  pixels = _PIXELS[1] in row
  columns = (_PIXELS if pixels else _NORMALISED)[1:]
  try:
    values = np.asarray([float(row[c]) for c in columns], np.float64)
  except (TypeError, ValueError):
    entries = ",".join(str(row[c]) for c in columns)
    problems(f"{what}: {entries!r} must be four numbers {','.join(columns)}")
    return None
  if pixels:
    values = boxes.convert(values, "pixel_xyxy", "xyxy", size)
  elif (values > 2).any():
    problems(
      f"{what}: {values.tolist()} are no shares of the image, as the header "
      f"says: if they are pixels, name the columns {','.join(columns)} with "
      "_px at their ends; if they are per cent, divide them by 100"
    )
    return None
  box = checked_box(values, what, problems)
  return None if box is None else Item(name, file, label, box)
