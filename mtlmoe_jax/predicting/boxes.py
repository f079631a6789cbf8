"""Objects that a detector has found: which are to be predicted."""

from collections.abc import Collection, Iterator, Sequence

import ml_collections
import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data.layouts import auto, megadetector, records
from mtlmoe_jax.data.layouts.scenes import Scenes
from mtlmoe_jax.data.readers import problems
from mtlmoe_jax.data.readers.file_source import FileSource
from mtlmoe_jax.devices import processes
from mtlmoe_jax.predicting.inputs import Detection, Item

# Categories that no animal or plant is of: predicted only by a model that has
# such a class.
_OTHERS = frozenset(("person", "human", "vehicle"))
# How messages of layouts name what are flags here.
_FLAGS = (
  ("config.boxes", "--boxes"),
  (
    "give the folder that they lie in with config.data.images",
    "give the folder that they lie in after the flags",
  ),
  ("config.data.images=", "the folder of the images: "),
  ("no such folder; give the data set's", "no such file or folder"),
)


def read(
  path: str,
  images: Sequence[str],
  config: ml_collections.ConfigDict,
  class_names: Collection[str] = (),
) -> list[Item]:
  """The objects of a detector's file, and says what is left out.

  Of MegaDetector's JSON no image is opened: one that cannot be read is told
  when it is. A classifier's word that stands in the file does not count.

  Args:
    path: the file, or a folder of files; MegaDetector's JSON, or any layout of
      annotations that has boxes.
    images: the folder of the images, or none: they lie beside the file.
    config: of the run; objects below `data.min_confidence` are left out.
    class_names: of the model. Persons and vehicles are left out unless they are
      among them.

  Returns:
    An item an object, image by image; of MegaDetector's JSON also one for each
    image without an object.

  Raises:
    InputError: more than one folder; it cannot be read, or names no object; an
      image that is not there.
  """
  if len(images) > 1:
    raise errors.InputError(
      f"--boxes={path}: names the images itself; give the one folder that "
      f"they lie in, not {len(images)} paths"
    )
  data = ml_collections.ConfigDict(config.data)
  data.objects, data.empty = "each", ""
  data.class_from = megadetector.CATEGORY
  try:
    found, notes = _found(path, images[0] if images else "", data)
  except errors.InputError as error:
    message = str(error)
    for word, flag in _FLAGS:
      message = message.replace(word, flag)
    raise errors.InputError(message) from None
  known = {name.casefold() for name in class_names}
  kept = [item for item in found if not _is_other(item, known)]
  if len(kept) < len(found):
    notes.append(
      f"left out: {len(found) - len(kept)} persons and vehicles, which are no "
      "classes of the model"
    )
  for note in notes:
    processes.say(f"note: {note}")
  if all(item.is_blank for item in kept):
    raise errors.InputError(
      f"--boxes={path}: names no box of an image{_why(notes)}"
    )
  return kept


def _why(notes: Sequence[str]) -> str:
  return f" ({'; '.join(notes)})" if notes else ""


def _is_other(item: Item, known: Collection[str]) -> bool:
  if item.detection is None:
    return False
  name = (item.detection.category or "").casefold()
  return name in _OTHERS and name not in known


def _found(
  path: str, images: str, data: ml_collections.ConfigDict
) -> tuple[list[Item], list[str]]:
  """(all objects, what was left out)."""
  strict = problems.Problems()
  found = auto.described(data, "auto", path, images, True, strict, "boxes")
  if isinstance(found, Scenes):
    if found.name == "megadetector":
      return _of_detector(found)
    found = records.records(found, data, strict)
  if not isinstance(found.source, FileSource):
    return [], []
  notes = [note.partition("; config.")[0] for note in found.notes]
  return list(_of_source(found.source)), _left_out(notes)


def _left_out(notes: Sequence[str]) -> list[str]:
  return [note for note in notes if note.startswith("left out")]


def _of_source(source: FileSource) -> Iterator[Item]:
  """The objects of annotations, in the frame of the upright image."""
  for index in np.flatnonzero(source.has_box).tolist():
    x1, y1, x2, y2 = source.upright_box(index).tolist()
    name = source.class_names[source.labels[index]]
    yield Item(
      str(source.paths[index]), Detection((x1, y1, x2, y2), category=name)
    )


def _of_detector(scenes: Scenes) -> tuple[list[Item], list[str]]:
  """The objects of MegaDetector, whose boxes are of the upright image."""
  items = []
  without = outside = 0
  for scene in scenes.scenes:
    path = str(scenes.tree.file(scene.path))
    if not scene.things:
      without += 1
      items.append(Item(path, is_blank=True))
    for thing in scene.things:
      assert thing.box is not None
      box, share_inside = problems.inside(thing.box)
      if share_inside < problems.MIN_INSIDE:
        outside += 1
        continue
      items.append(
        Item(path, Detection(box, thing.confidence, thing.class_name))
      )
  notes = _left_out(scenes.notes)
  if without:
    notes.append(f"{without} images without an object: rows without an answer")
  if outside:
    notes.append(
      f"left out: {outside} boxes without an area or outside of their images"
    )
  return items, notes
