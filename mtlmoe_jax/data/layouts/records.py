"""From scenes to records: one object each, or one image."""

import collections
import pathlib
from collections.abc import Sequence

import ml_collections
import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data import groups, images, splits
from mtlmoe_jax.data.layouts.frames import Frames
from mtlmoe_jax.data.layouts.scenes import Scene, Scenes, Thing
from mtlmoe_jax.data.readers import upright
from mtlmoe_jax.data.readers.attributes import read_attributes
from mtlmoe_jax.data.readers.file_source import FileSource, Item, Whole
from mtlmoe_jax.data.readers.problems import (
  Corners,
  Problems,
  checked_box,
  inside,
  some,
)

# Boxes of which less is inside are looked into: rounding takes less away.
_INSIDE = 0.999
# Numbers of a box up to this are no pixels.
_SHARES = 1.02
# Classes that are written out.
_SHOWN = 12


def records(
  scenes: Scenes, data: ml_collections.ConfigDict, problems: Problems
) -> Whole:
  """Makes the records of a data set.

  Args:
    scenes: what is said of its images.
    data: `config.data`: `objects`, `empty` and `box_frame` are used.
    problems: where boxes that cannot be meant, images that cannot be read and
      images with several objects are reported.

  Returns:
    A record of each image, or of each object, and the splits.

  Raises:
    InputError: no image with an object; and, unless `problems` collects, the
      first problem.
  """
  notes = [*scenes.notes]
  kept = _kept(scenes, data, notes, problems)
  names = _class_names(scenes, kept, notes)
  labels = {name: label for label, name in enumerate(names)}
  _mend_units(scenes, kept, notes)
  frames = Frames(scenes.tree, data.box_frame, kept, problems)
  items, parts = [], []
  for scene in kept:
    if frames.is_readable(scene):
      made = _items(scene, scenes, frames, labels, data.objects, problems)
      items += made
      parts += [scene.split] * len(made)
  if not items:
    why = "".join(f"; {note}" for note in notes)
    if problems.count:
      why = "; the problems before this one say why"
    raise errors.InputError(
      f"{scenes.tree.root}: read as {scenes.name} ({scenes.evidence}), no "
      f"image has an object that can be read{why}"
    )
  notes += frames.notes
  images_of = [item.image_id or item.id for item in items]
  known = read_attributes(scenes.tree.root, images_of, problems)
  if known is not None:
    known = {i.id: known[name] for i, name in zip(items, images_of)}
  source = FileSource(scenes.name, names, items, known)
  told = list(head(scenes.name, scenes.evidence, names, source.labels))
  official = _official(np.asarray(parts, object), notes)
  has_split = set(official) >= {"train", "test"}
  if not has_split:
    there = "no split is there"
    if official:
      there = f"only the part {', '.join(official)} is there, not used"
    told.append(f"{there}: {splits.TEST_SHARE:.0%} of each class are held out")
    official = _held_out(source)
  return Whole(source, official, has_split, tuple(notes), tuple(told))


def _kept(
  scenes: Scenes,
  data: ml_collections.ConfigDict,
  notes: list[str],
  problems: Problems,
) -> list[Scene]:
  """Scenes with the objects that become records, as `objects`, `empty` say."""
  kept = [s for s in _of_one_class(scenes, problems) if not s.is_spoiled]
  spoiled = sum(scene.is_spoiled for scene in scenes.scenes)
  if spoiled:
    notes.append(f"left out: {spoiled} images with a problem")
  several = [scene for scene in kept if len(scene.things) > 1]
  empty = [scene for scene in kept if not scene.things]
  if empty:
    if data.empty:
      notes.append(f"{len(empty)} images without an object are {data.empty!r}")
      for scene in empty:
        scene.things = [Thing(data.empty, None)]
    else:
      notes.append(
        f"left out: {len(empty)} images without an object "
        f"({some(scene.path for scene in empty)}); config.data.empty='nothing' "
        "makes them a class"
      )
      kept = [scene for scene in kept if scene.things]
  if several:
    total = sum(len(scene.things) for scene in several)
    shown = (
      f"{len(several)} of {len(scenes.scenes)} images have several objects, "
      f"{total} together ({some(scene.path for scene in several)})"
    )
    if data.objects == "single":
      problems(
        f"{scenes.tree.root}: {shown}: config.data.objects='each' learns each "
        "of them, 'largest' the largest of each image"
      )
      kept = [scene for scene in kept if len(scene.things) == 1]
    elif data.objects == "largest":
      notes.append(f"{shown}: the largest of each is read")
      for scene in several:
        scene.things = [max(scene.things, key=_area)]
    else:
      notes.append(f"{shown}: each is a record of its own")
  return kept


def _mend_units(
  scenes: Scenes, kept: Sequence[Scene], notes: list[str]
) -> None:
  """Takes boxes for shares where none is a pixel large."""
  found = [
    thing.box
    for scene in kept
    if scene.pixels
    for thing in scene.things
    if thing.box is not None
  ]
  if found and max(map(max, found)) <= _SHARES:
    for scene in kept:
      scene.pixels = False
    notes.append(
      f"boxes are taken for shares of the image: none of {len(found)} has a "
      f"number above 1, though {scenes.name} has pixels"
    )


def _of_one_class(scenes: Scenes, problems: Problems) -> list[Scene]:
  """Without images of several classes that nothing tells apart."""
  mixed = [
    scene
    for scene in scenes.scenes
    if len({t.class_name for t in scene.things if t.box is None}) > 1
  ]
  if not mixed:
    return scenes.scenes
  problems(
    f"{scenes.tree.root}: {len(mixed)} images have several classes without "
    f"boxes ({some(scene.path for scene in mixed)}): an image has one class; "
    "give boxes, or keep one class of each"
  )
  names = {scene.path for scene in mixed}
  return [scene for scene in scenes.scenes if scene.path not in names]


def _area(thing: Thing) -> float:
  if thing.box is None:
    return 0.0
  x1, y1, x2, y2 = thing.box
  return max(x2 - x1, 0) * max(y2 - y1, 0)


def _class_names(
  scenes: Scenes, kept: Sequence[Scene], notes: list[str]
) -> tuple[str, ...]:
  """Classes with an object, in the order of the files, then sorted."""
  used = {thing.class_name for scene in kept for thing in scene.things}
  listed = list(dict.fromkeys(scenes.class_names))
  unused = [name for name in listed if name not in used]
  if unused:
    notes.append(f"{len(unused)} classes without an object: {some(unused)}")
  in_order = [name for name in listed if name in used]
  return (*in_order, *sorted(used - set(in_order)))


def _items(
  scene: Scene,
  scenes: Scenes,
  frames: Frames,
  labels: dict[str, int],
  objects: str,
  problems: Problems,
) -> list[Item]:
  items = []
  file, said = scenes.tree.file(scene.path), frames.told(scene)
  for count, thing in enumerate(scene.things):
    box, told = None, None
    if thing.box is not None:
      try:
        shares, told = _shares(scene, thing.box, frames, said, file)
      except errors.InputError as error:
        problems(str(error))
        continue
      box = checked_box(shares, f"{scene.where} ({scene.path})", problems)
      if box is None:
        continue
    is_object = objects == "each" and box is not None
    items.append(
      Item(
        f"{scene.path}#{count}" if is_object else scene.path,
        file,
        labels[thing.class_name],
        box,
        told,
        scene.path if is_object else "",
      )
    )
  return items


def _shares(
  scene: Scene,
  box: Corners,
  frames: Frames,
  told: upright.Told | None,
  file: pathlib.Path,
) -> tuple[Corners, upright.Told | None]:
  """A box as shares, and the frame that is still to be compared.

  A box that is not in the frame that was told may be in the image: then its
  header is read at once.
  """
  shares = frames.shares(scene, box)
  if told is not None and inside(shares)[1] < _INSIDE:
    size, orientation = images.frame(file)
    if not told.is_met_by(size):
      return upright.settled(shares, told, size, orientation), None
  return shares, told


def _official(parts: np.ndarray, notes: list[str]) -> dict[str, np.ndarray]:
  """Positions of each part that the data set has."""
  official = {
    name: np.flatnonzero(parts == name)
    for name in ("train", "validation", "test")
    if (parts == name).any()
  }
  if official and "test" not in official and "validation" in official:
    official["test"] = official.pop("validation")
  outside = int((parts == "").sum())
  if outside and set(official) >= {"train", "test"}:
    notes.append(f"left out: {outside} records that are in no part")
  return official


def _held_out(source: FileSource) -> dict[str, np.ndarray]:
  """A share of each class, all records of an image in one part."""
  share, seed = splits.TEST_SHARE, splits.TEST_SEED
  images_of = groups.of_images(source)
  if images_of is None:
    kept, test = splits.hold_out(source.labels, share, seed, source.ids)
  else:
    kept, test = splits.hold_out_groups(
      source.labels, images_of, share, seed, source.ids
    )
  return {"train": kept, "test": test}


def head(
  layout: str, evidence: str, names: Sequence[str], labels: np.ndarray
) -> tuple[str, ...]:
  """What is told first of a data set.

  Args:
    layout: its name.
    evidence: what it was recognised by.
    names: of the classes.
    labels: i32 [n], of the records.
  """
  counts = collections.Counter(labels.tolist())
  shown = ", ".join(
    f"{label} {name} ({counts[label]})"
    for label, name in enumerate(names[:_SHOWN])
  )
  rest = len(names) - _SHOWN
  more = f" and {rest} more" if rest > 0 else ""
  return (f"read as {layout}: {evidence}", f"classes: {shown}{more}")
