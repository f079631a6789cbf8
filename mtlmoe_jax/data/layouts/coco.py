"""COCO's JSON, as labelling tools and COCO Camera Traps write it.

Lin et al. 2014, cocodataset.org/#format-data. Everything goes by names: ids
may be numbers, text or uuids, from 0 or 1, with gaps, in any order.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mtlmoe_jax.data.layouts import placing
from mtlmoe_jax.data.layouts.scenes import (
  Corners,
  Scenes,
  Thing,
  frame,
  from_corner,
  number,
  numbers,
)
from mtlmoe_jax.data.layouts.tree import Tree, split_of
from mtlmoe_jax.data.readers.problems import Problems, some

# Classes of COCO Camera Traps that say that nothing is there.
NOTHING = ("empty", "blank", "nothing")


class File(NamedTuple):
  """A JSON file.

  Attributes:
    path: in its tree.
    base: folder, in the tree of the images, that its names may start from.
    value: what it holds.
  """

  path: str
  base: str
  value: Any


def is_coco(value: Any) -> bool:
  """Whether a JSON value is a data set in COCO's layout."""
  return (
    isinstance(value, Mapping)
    and isinstance(value.get("images"), list)
    and isinstance(value.get("annotations"), list)
    and (isinstance(value.get("categories"), list) or _has_boxes(value))
  )


def _has_boxes(value: Mapping[str, Any]) -> bool:
  """False for captions, which have no categories."""
  return any(
    isinstance(row, Mapping) and "bbox" in row for row in value["annotations"]
  )


def read(files: Sequence[File], tree: Tree, problems: Problems) -> Scenes:
  """Reads JSON files that together are one data set.

  Args:
    files: of it.
    tree: of the images.
    problems: where mistakes are reported.

  Returns:
    The scenes; classes in the order of their ids.

  Raises:
    InputError: see `placing.place`.
  """
  notes: list[str] = []
  said: list[placing.Said] = []
  names: dict[str, None] = {}
  left_out: collections.Counter[str] = collections.Counter()
  for file in files:
    classes = _classes(file, problems)
    names.update(dict.fromkeys(classes.values()))
    said += _said(file, classes, left_out, problems)
  what = some(file.path for file in files)
  placing.counted(left_out, f"left out of {what}", notes)
  scenes = placing.place(said, tree, what, notes, problems)
  return Scenes("coco", tree, tuple(names), scenes, notes=notes)


def _classes(file: File, problems: Problems) -> dict[str, str]:
  """Name of each category, by id, in the order of the ids."""
  classes: dict[str, str] = {}
  for row in file.value.get("categories") or []:
    if not isinstance(row, Mapping) or "id" not in row:
      problems(f"{file.path}: category {row!r} has no id: give it one")
      continue
    name = str(row.get("name", row["id"])).strip()
    if str(row["id"]) in classes:
      problems(
        f"{file.path}: categories {classes[str(row['id'])]!r} and {name!r} "
        f"have one id, {row['id']!r}: give each its own"
      )
    classes[str(row["id"])] = name
  return dict(sorted(classes.items(), key=lambda item: _rank(item[0])))


def _rank(key: str) -> tuple[float, str]:
  value = number(key)
  return (float("inf") if value is None else value, key)


def _said(
  file: File,
  classes: Mapping[str, str],
  left_out: collections.Counter[str],
  problems: Problems,
) -> list[placing.Said]:
  split = split_of(file.path)
  entries: dict[str, placing.Said] = {}
  for row in file.value["images"]:
    key, name = _image(row)
    if name is None:
      problems(f"{file.path}: image {row!r:.80} has no file_name: add it")
    elif key in entries:
      problems(
        f"{file.path}: images {entries[key].name!r} and {name!r} have one id, "
        f"{key!r}: give each its own"
      )
    else:
      size = frame(row.get("height"), row.get("width"))
      where = f"{file.path} image {key}"
      entries[key] = placing.Said(name, file.base, [], where, split, size)
  for row in file.value["annotations"]:
    before = problems.count
    entry = _add(row, file, classes, entries, left_out, problems)
    if entry is not None and problems.count > before:
      entry.is_spoiled = True
  return list(entries.values())


def _image(row: Any) -> tuple[str, str | None]:
  if not isinstance(row, Mapping):
    return "", None
  name = row.get("file_name")
  return str(row.get("id")), name if name and isinstance(name, str) else None


def _add(
  row: Any,
  file: File,
  classes: Mapping[str, str],
  entries: Mapping[str, placing.Said],
  left_out: collections.Counter[str],
  problems: Problems,
) -> placing.Said | None:
  """Adds an annotation to its image; returns that, if there is one."""
  if not isinstance(row, Mapping):
    problems(f"{file.path}: annotation {row!r:.80} is no object: remove it")
    return None
  what = f"{file.path} annotation {row.get('id')}"
  entry = entries.get(str(row.get("image_id")))
  if entry is None:
    problems(
      f"{what}: image_id {row.get('image_id')!r} is not among the "
      f"{len(entries)} images: correct or remove it"
    )
    return None
  key = str(row.get("category_id"))
  name = classes.get(key)
  if name is None:
    if classes:
      problems(
        f"{what}: category_id {row.get('category_id')!r} is not among the ids "
        f"of the {len(classes)} categories ({some(classes)}): correct it"
      )
      return entry
    name = key
  if row.get("iscrowd") in (1, "1", True):
    left_out["crowds (iscrowd=1)"] += 1
    return entry
  box, is_wrong = _box(row, what, problems)
  is_nothing = box is None and name.lower() in NOTHING
  if not is_wrong and not is_nothing:
    entry.things.append(Thing(name, box))
  return entry


def _box(
  row: Mapping[str, Any], what: str, problems: Problems
) -> tuple[Corners | None, bool]:
  """(box, whether it is none that can be read)."""
  found = row.get("bbox")
  if found is None or found == []:
    outline = row.get("segmentation")
    if isinstance(outline, list) and outline:
      return _around(outline), False
    return None, False
  values = numbers(found, 4)
  if values is None:
    problems(
      f"{what}: bbox {found!r:.80} must be four numbers x, y, width, height: "
      "correct or remove it"
    )
    return None, True
  return from_corner(*values), False


def _around(outline: Sequence[Any]) -> Corners | None:
  """The box of polygons."""
  points = [
    n
    for polygon in outline
    if isinstance(polygon, list)
    for n in map(number, polygon)
    if n is not None
  ]
  if len(points) < 6:
    return None
  xs, ys = points[::2], points[1::2]
  return (min(xs), min(ys), max(xs), max(ys))
