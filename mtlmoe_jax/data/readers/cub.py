"""Caltech-UCSD Birds-200-2011 in its official folder layout.

Wah, Branson, Welinder, Perona, Belongie: The Caltech-UCSD Birds-200-2011
Dataset, 2011. The folder holds `images.txt`, `image_class_labels.txt`,
`bounding_boxes.txt` (pixels: x, y, width, height), `train_test_split.txt`
(1 = train), `classes.txt` and `images/`. Any part of it with the same files
works too; image numbers need not be consecutive.
"""

import pathlib

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.data.readers.file_source import FileSource, Item, Whole
from mtlmoe_jax.data.readers.problems import Problems, checked_box
from mtlmoe_jax.ops import boxes

FILES = (
  "images.txt",
  "image_class_labels.txt",
  "bounding_boxes.txt",
  "train_test_split.txt",
  "classes.txt",
)


def open_cub(path: str, problems: Problems, key: str = "data.path") -> Whole:
  """Opens the folder; reads every annotation and every image's header.

  Args:
    path: the folder with `images.txt`.
    problems: where mistakes are reported.
    key: of the config, that named the folder.

  Returns:
    All images in the order of `images.txt`, and the official split.

  Raises:
    InputError: a folder without the annotation files; and, unless `problems`
      collects, the first problem.
  """
  root = pathlib.Path(path)
  missing = [name for name in FILES if not (root / name).is_file()]
  if missing:
    raise errors.InputError(
      f"config.{key}={path!r}: no {', '.join(missing)} there; give the "
      "CUB_200_2011 folder that holds images.txt (mtlmoe prepare_cub "
      "makes it)"
    )
  tables = {
    name: _table(root / name, columns, problems)
    for name, columns in zip(FILES, (1, 1, 4, 1, 1))
  }
  files, labels, boxes_px, splits, classes = (tables[n] for n in FILES)
  for name in FILES[1:4]:
    for number in tables[name].keys() - files.keys():
      problems(
        f"{root / name}: row of image {number} without that image in "
        "images.txt: remove the row"
      )
  class_of = {number: i for i, number in enumerate(sorted(classes))}
  items, is_train = [], []
  for number, (name,) in files.items():
    item = _item(root, number, name, labels, boxes_px, class_of, problems)
    split = _value(root, "train_test_split.txt", splits, number, problems)
    if split not in (None, ["0"], ["1"]):
      problems(
        f"{root / 'train_test_split.txt'}: image {number} has {split[0]!r}: "
        "must be 1 (train) or 0 (test)"
      )
      split = None
    if item is not None and split is not None:
      items.append(item)
      is_train.append(split == ["1"])
  names = [classes[number][0] for number in sorted(classes)]
  train = np.asarray(is_train, bool)
  return Whole(
    FileSource("cub", names, items),
    {"train": np.flatnonzero(train), "test": np.flatnonzero(~train)},
  )


def _table(
  path: pathlib.Path, columns: int, problems: Problems
) -> dict[int, list[str]]:
  """Rows of `number value ...`, by number, in file order."""
  rows: dict[int, list[str]] = {}
  text = path.read_text(encoding="utf-8", errors="replace")
  for line_number, line in enumerate(text.splitlines(), 1):
    if not line.strip():
      continue
    # A file or class name may contain spaces.
    first, *rest = line.split(maxsplit=columns)
    where = f"{path} line {line_number}: {line.strip()!r}"
    if not first.isdigit() or len(rest) != columns:
      problems(f"{where} must be a number and {columns} value(s)")
    elif int(first) in rows:
      problems(f"{where} repeats number {first}: remove one of the rows")
    else:
      rows[int(first)] = [value.strip() for value in rest]
  return rows


def _value(
  root: pathlib.Path,
  name: str,
  table: dict[int, list[str]],
  number: int,
  problems: Problems,
) -> list[str] | None:
  if number not in table:
    problems(f"{root / name}: no row for image {number} of images.txt: add it")
  return table.get(number)


def _item(
  root: pathlib.Path,
  number: int,
  name: str,
  labels: dict[int, list[str]],
  boxes_px: dict[int, list[str]],
  class_of: dict[int, int],
  problems: Problems,
) -> Item | None:
  """The image with its label and box, or None after a report."""
  label_row = _value(root, "image_class_labels.txt", labels, number, problems)
  box_row = _value(root, "bounding_boxes.txt", boxes_px, number, problems)
  label = None
  if label_row is not None:
    text = label_row[0]
    label = class_of.get(int(text)) if text.isdigit() else None
    if label is None:
      problems(
        f"{root / 'image_class_labels.txt'}: image {number} has the class "
        f"{text!r}, which is not in classes.txt ({len(class_of)} classes)"
      )
  path = root / "images" / name
  try:
    size = images.image_size(path)
  except errors.InputError as error:
    problems(f"{error} (image {number} of {root / 'images.txt'})")
    return None
  if label is None or box_row is None:
    return None
  try:
    pixels = np.asarray([float(v) for v in box_row], np.float64)
  except ValueError:
    problems(
      f"{root / 'bounding_boxes.txt'}: image {number} has the box "
      f"{' '.join(box_row)!r}: must be four numbers x y width height"
    )
    return None
  box = checked_box(
    boxes.convert(pixels, "pixel_xywh", "xyxy", size),
    f"{root / 'bounding_boxes.txt'} image {number} ({name})",
    problems,
  )
  return None if box is None else Item(name, path, label, box)
