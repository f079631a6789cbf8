"""Caltech-UCSD Birds-200-2011 in its official folder layout.

Wah, Branson, Welinder, Perona, Belongie: The Caltech-UCSD Birds-200-2011
Dataset, 2011. The folder holds `images.txt`, `image_class_labels.txt`,
`bounding_boxes.txt` (pixels: x, y, width, height), `train_test_split.txt`
(1 = train), `classes.txt` and `images/`. Any part of it with the same files
works too. So does NABirds (Van Horn et al., CVPR 2015), whose ids of images are
uuids, and whose classes.txt names the inner nodes of `hierarchy.txt` as well.
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
# Of NABirds: child and parent of each node.
_HIERARCHY = "hierarchy.txt"


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
    for id_ in tables[name].keys() - files.keys():
      problems(
        f"{root / name}: row of image {id_} without that image in "
        "images.txt: remove the row"
      )
  if (root / _HIERARCHY).is_file():
    used = {_id(label) for (label,) in labels.values()}
    classes = {id_: name for id_, name in classes.items() if id_ in used}
  in_order = sorted(classes, key=_place)
  class_of = {id_: i for i, id_ in enumerate(in_order)}
  items, is_train = [], []
  for id_, (name,) in files.items():
    item = _item(root, id_, name, labels, boxes_px, class_of, problems)
    split = _value(root, "train_test_split.txt", splits, id_, problems)
    if split not in (None, ["0"], ["1"]):
      problems(
        f"{root / 'train_test_split.txt'}: image {id_} has {split[0]!r}: "
        "must be 1 (train) or 0 (test)"
      )
      split = None
    if item is not None and split is not None:
      items.append(item)
      is_train.append(split == ["1"])
  names = [classes[id_][0] for id_ in in_order]
  train = np.asarray(is_train, bool)
  return Whole(
    FileSource("cub", names, items),
    {"train": np.flatnonzero(train), "test": np.flatnonzero(~train)},
  )


def _table(
  path: pathlib.Path, columns: int, problems: Problems
) -> dict[str, list[str]]:
  """Rows of `id value ...`, by id, in file order."""
  rows: dict[str, list[str]] = {}
  text = path.read_text(encoding="utf-8", errors="replace")
  for line_number, line in enumerate(text.splitlines(), 1):
    if not line.strip():
      continue
    # A file or class name may contain spaces.
    first, *rest = line.split(maxsplit=columns)
    key = _id(first)
    where = f"{path} line {line_number}: {line.strip()!r}"
    if len(rest) != columns:
      problems(f"{where} must be a number or id, and {columns} value(s)")
    elif key in rows:
      problems(f"{where} repeats number {first}: remove one of the rows")
    else:
      rows[key] = [value.strip() for value in rest]
  return rows


def _id(text: str) -> str:
  """A number without leading zeros, or another id as it is."""
  return str(int(text)) if text.isdecimal() else text


def _place(key: str) -> tuple[bool, int, str]:
  """Sorts numbers as numbers, before other ids."""
  return (False, int(key), "") if key.isdecimal() else (True, 0, key)


def _value(
  root: pathlib.Path,
  name: str,
  table: dict[str, list[str]],
  key: str,
  problems: Problems,
) -> list[str] | None:
  if key not in table:
    problems(f"{root / name}: no row for image {key} of images.txt: add it")
  return table.get(key)


def _item(
  root: pathlib.Path,
  key: str,
  name: str,
  labels: dict[str, list[str]],
  boxes_px: dict[str, list[str]],
  class_of: dict[str, int],
  problems: Problems,
) -> Item | None:
  """The image with its label and box, or None after a report."""
  label_row = _value(root, "image_class_labels.txt", labels, key, problems)
  box_row = _value(root, "bounding_boxes.txt", boxes_px, key, problems)
  label = None
  if label_row is not None:
    text = label_row[0]
    label = class_of.get(_id(text))
    if label is None:
      problems(
        f"{root / 'image_class_labels.txt'}: image {key} has the class "
        f"{text!r}, which is not in classes.txt ({len(class_of)} classes)"
      )
  path = root / "images" / name
  try:
    size = images.image_size(path)
  except errors.InputError as error:
    problems(f"{error} (image {key} of {root / 'images.txt'})")
    return None
  if label is None or box_row is None:
    return None
  try:
    pixels = np.asarray([float(v) for v in box_row], np.float64)
  except ValueError:
    problems(
      f"{root / 'bounding_boxes.txt'}: image {key} has the box "
      f"{' '.join(box_row)!r}: must be four numbers x y width height"
    )
    return None
  box = checked_box(
    boxes.convert(pixels, "pixel_xywh", "xyxy", size),
    f"{root / 'bounding_boxes.txt'} image {key} ({name})",
    problems,
  )
  return None if box is None else Item(name, path, label, box)
