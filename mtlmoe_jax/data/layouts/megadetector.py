"""MegaDetector's JSON: boxes of a detector, perhaps with a classifier's word.

github.com/agentmorris/MegaDetector, "batch output format". Boxes are
[x_min, y_min, width, height] as shares of the upright image.
"""

import collections
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mtlmoe_jax import errors
from mtlmoe_jax.data.images import is_named_video
from mtlmoe_jax.data.layouts import placing
from mtlmoe_jax.data.layouts.coco import File
from mtlmoe_jax.data.layouts.folders import classes as classes_of
from mtlmoe_jax.data.layouts.scenes import (
  Scene,
  Scenes,
  Thing,
  from_corner,
  number,
  numbers,
)
from mtlmoe_jax.data.layouts.tree import Tree
from mtlmoe_jax.data.readers.problems import Problems, some

# What the detector itself tells apart.
_ANIMAL = "animal"
_OTHERS = frozenset(("person", "vehicle", "human", "group"))
# As `config.data.class_from`: what the detector says, whatever a classifier has
# said since.
CATEGORY = "category"


def is_megadetector(value: Any) -> bool:
  """Whether a JSON value is the output of MegaDetector."""
  return (
    isinstance(value, Mapping)
    and isinstance(value.get("images"), list)
    and isinstance(value.get("detection_categories"), Mapping)
  )


def read(
  files: Sequence[File],
  tree: Tree,
  class_from: str,
  min_confidence: float,
  problems: Problems,
) -> Scenes:
  """Reads files that together are one data set, such as one of each station.

  The class of a detection is that of its classifier, where the file has one;
  else its category, where that is more than animal, person or vehicle; else
  that category or the folder of the image, whichever is asked for.

  Args:
    files: outputs.
    tree: of the images.
    class_from: `config.data.class_from`, or `CATEGORY`.
    min_confidence: of a detection that counts.
    problems: where mistakes are reported.

  Returns:
    The scenes.

  Raises:
    InputError: it cannot be told where classes are from, or only some files
      have those of a classifier; and see `placing.place`.
  """
  what = some(file.path for file in files)
  left_out: collections.Counter[str] = collections.Counter()
  said: list[placing.Said] = []
  names: dict[str, None] = {}
  has_classes: dict[bool, str] = {}
  for file in files:
    words = _Words(
      _names(file.value["detection_categories"]),
      {}
      if class_from == CATEGORY
      else _names(file.value.get("classification_categories")),
      min_confidence,
    )
    said += _said(file, words, left_out, problems)
    names |= dict.fromkeys((words.classes or words.categories).values())
    has_classes[bool(words.classes)] = file.path
  if len(has_classes) > 1:
    raise errors.InputError(
      f"{has_classes[True]} has classification_categories, "
      f"{has_classes[False]} has none: classify both, or give one of them as "
      "config.data.path"
    )
  notes: list[str] = []
  scenes = placing.place(said, tree, what, notes, problems)
  folders = class_from == "folder"
  is_classified = True in has_classes
  if class_from == "auto" and not is_classified:
    _ask(what, scenes)
  if folders:
    # As class folders are read: images may lie deeper in them.
    of_folder = classes_of(tree)
    notes.append("a detection's class is the folder of its image")
    for scene in scenes:
      animals = [t for t in scene.things if t.class_name not in _OTHERS]
      left_out["persons and vehicles"] += len(scene.things) - len(animals)
      name = of_folder.get(scene.path) or _folder(scene.path)
      scene.things = [Thing(name, t.box) for t in animals]
  else:
    notes.append(
      "a detection's class is "
      + ("its first classification" if is_classified else "its category")
    )
  placing.counted(+left_out, f"left out of {what}", notes)
  in_order = () if folders else tuple(names)
  return Scenes("megadetector", tree, in_order, scenes, notes=notes)


def _said(
  file: File,
  words: "_Words",
  left_out: collections.Counter[str],
  problems: Problems,
) -> list[placing.Said]:
  """Entries of one file."""
  said = []
  for row in file.value["images"]:
    if not isinstance(row, Mapping) or not isinstance(row.get("file"), str):
      problems(f"{file.path}: image {row!r:.80} has no file: add it")
      continue
    if is_named_video(row["file"]):
      left_out["videos"] += 1
      continue
    detections = row.get("detections")
    if not isinstance(detections, list):
      left_out["images that the detector could not read"] += 1
      continue
    where = f"{file.path} {row['file']}"
    before = problems.count
    things = [
      _thing(found, where, words, left_out, problems) for found in detections
    ]
    said.append(
      placing.Said(
        row["file"],
        file.base,
        [thing for thing in things if thing is not None],
        where,
        pixels=False,
        is_spoiled=problems.count > before,
      )
    )
  return said


class _Words(NamedTuple):
  """What a file calls things.

  Attributes:
    categories: name by id, of the detector.
    classes: name by id, of the classifier; empty: there was none.
    min_confidence: of a detection that counts.
  """

  categories: dict[str, str]
  classes: dict[str, str]
  min_confidence: float


def _names(value: Any) -> dict[str, str]:
  if not isinstance(value, Mapping):
    return {}
  return {str(key): str(name) for key, name in value.items()}


def _ask(what: str, scenes: list[Scene]) -> None:
  """Stops where categories tell no more than that something is there."""
  used = {thing.class_name for scene in scenes for thing in scene.things}
  if used <= {_ANIMAL, *_OTHERS}:
    folders = sorted({_folder(scene.path) for scene in scenes})
    raise errors.InputError(
      f"{what}: the detections are {', '.join(sorted(used)) or 'none'} "
      "alone, so classes may be these, or the folders of the images "
      f"({some(folders)}): choose config.data.class_from='annotations' or "
      "config.data.class_from='folder'"
    )


def _thing(
  found: Any,
  where: str,
  words: _Words,
  left_out: collections.Counter[str],
  problems: Problems,
) -> Thing | None:
  """A detection that counts, or None."""
  if not isinstance(found, Mapping):
    problems(f"{where}: detection {found!r:.80} is no object: remove it")
    return None
  confidence = number(found.get("conf", 1.0))
  if confidence is None:
    problems(f"{where}: conf {found.get('conf')!r} must be a number")
    return None
  if confidence < words.min_confidence:
    left_out[
      f"detections below config.data.min_confidence={words.min_confidence:g}"
    ] += 1
    return None
  key = str(found.get("category"))
  if key not in words.categories:
    problems(
      f"{where}: category {key!r} is not among the {len(words.categories)} of "
      f"detection_categories ({some(words.categories)}): correct it"
    )
    return None
  values = numbers(found.get("bbox"), 4)
  if values is None:
    problems(
      f"{where}: bbox {found.get('bbox')!r:.80} must be four numbers x_min, "
      "y_min, width, height"
    )
    return None
  name = words.categories[key]
  if words.classes and name not in _OTHERS:
    first = (found.get("classifications") or [[None]])[0]
    name = words.classes.get(str(first[0]) if first else "", "")
    if not name:
      left_out["detections without a classification"] += 1
      return None
  elif words.classes:
    left_out["persons and vehicles"] += 1
    return None
  return Thing(name, from_corner(*values), confidence)


def _folder(path: str) -> str:
  return posixpath.basename(posixpath.dirname(path)) or "."
