"""Opens a data set in whatever layout it is: recognised, then read."""

import dataclasses
import os
from collections.abc import Sequence

import ml_collections

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.data.layouts import folders, recognise, records
from mtlmoe_jax.data.layouts.recognise import Place, Reading
from mtlmoe_jax.data.layouts.scenes import Scenes
from mtlmoe_jax.data.readers import cub, tfds
from mtlmoe_jax.data.readers.file_source import Whole
from mtlmoe_jax.data.readers.problems import Problems, some


def open_layout(
  data: ml_collections.ConfigDict,
  name: str,
  path: str,
  images_path: str,
  need_box: bool,
  problems: Problems,
  key: str = "data.path",
) -> Whole:
  """Opens a data set.

  Args:
    data: `config.data`, for how it is read.
    name: of its layout, or "auto".
    path: its folder, or one file of its annotations.
    images_path: where its images are, if not below that; else "".
    need_box: whether there must be boxes.
    problems: where mistakes are reported.
    key: of the config, that gave the path.

  Returns:
    All records, the splits, and in `notes` what was recognised, by what.

  Raises:
    InputError: nothing was recognised; several readings are possible; no image
      is there; and, unless `problems` collects, the first problem.
  """
  found = described(data, name, path, images_path, need_box, problems, key)
  if isinstance(found, Whole):
    return found
  return records.records(found, data, problems)


def described(
  data: ml_collections.ConfigDict,
  name: str,
  path: str,
  images_path: str,
  need_box: bool,
  problems: Problems,
  key: str = "data.path",
) -> Whole | Scenes:
  """What is said of the images of a data set; arguments as of `open_layout`.

  Returns:
    The records where the layout has its own reader, else what files of
    annotations say.

  Raises:
    InputError: as `open_layout`.
  """
  if name == "cub" or (name == "auto" and _is_cub(path)):
    return _told(
      cub.open_cub(path, problems, key), f"{cub.FILES[0]} and others"
    )
  place = recognise.place_of(path, os.path.expanduser(images_path), key)
  if name == "auto" and (prepared := recognise.tfds_of(place)):
    whole = tfds.open_tfds(*prepared, need_box, data.objects, problems)
    return _told(whole, "dataset_info.json")
  found, notes = recognise.readings(place, data, name, key)
  if name == "auto":
    found = recognise.likely(found, data.class_from)
  else:
    found = [reading for reading in found if reading.name == name]
  if not found:
    raise errors.InputError(_nothing(name, f"{key}={path!r}", place, notes))
  if len(found) > 1:
    raise errors.InputError(_question(path, key, found))
  reading = found.pop()
  scenes = reading.read(problems)
  layout, evidence = reading.name, reading.evidence
  del reading  # And what it has parsed, which may be larger than the records.
  scenes.evidence = scenes.evidence or evidence
  scenes.notes += notes
  if layout == "table":
    _check_classes(
      scenes, folders.classes(place.images), data.class_from, problems
    )
  if layout != "folder":
    _tell_others(scenes)
  return scenes


def _told(whole: Whole, evidence: str) -> Whole:
  """A data set whose reader knows its layout already."""
  source = whole.source
  lines = records.head(source.name, evidence, source.class_names, source.labels)
  return dataclasses.replace(whole, recognised=lines)


def _is_cub(path: str) -> bool:
  return all(os.path.isfile(os.path.join(path, name)) for name in cub.FILES)


def _check_classes(
  scenes: Scenes,
  in_folders: dict[str, str],
  class_from: str,
  problems: Problems,
) -> None:
  """Whether the classes of a table are what is meant.

  Args:
    scenes: of a table; images without a class are taken out.
    in_folders: class by image, as its folder names it.
    class_from: `config.data.class_from`.
    problems: where images without a class are reported.

  Raises:
    InputError: the folders name classes, too, and each leaves something out
      that the other has.
  """
  named = {t.class_name for s in scenes.scenes for t in s.things} - {""}
  if class_from == "auto":
    _compare(scenes, in_folders, named)
  without = [
    scene
    for scene in scenes.scenes
    if any(not thing.class_name for thing in scene.things)
  ]
  if without:
    problems(
      f"{scenes.tree.root}: {len(without)} images have no class "
      f"({some(scene.where for scene in without)}): name it in the table, or "
      "lay the images into folders named as their classes"
    )
    names = {scene.path for scene in without}
    scenes.scenes = [s for s in scenes.scenes if s.path not in names]


def _compare(
  scenes: Scenes, in_folders: dict[str, str], named: set[str]
) -> None:
  """Stops where table and folders may both be meant."""
  differ = [
    scene
    for scene in scenes.scenes
    if any(
      t.class_name != in_folders.get(scene.path, t.class_name)
      for t in scene.things
    )
  ]
  classes = sorted(set(in_folders.values()))
  if not differ or len(classes) < 2:
    return
  others = in_folders.keys() - {scene.path for scene in scenes.scenes}
  if others or len(named) < 2:
    raise errors.InputError(
      f"{scenes.tree.root}: the table names {len(named)} classes "
      f"({some(sorted(named))}) of {len(scenes.scenes)} images, the folders "
      f"{len(classes)} ({some(classes)}) of {len(in_folders)}, and "
      f"they differ ({differ[0].path}): choose "
      "config.data.class_from='annotations' or config.data.class_from='folder'"
    )
  scenes.notes.append(
    f"classes are those of the table; the folders ({some(classes)}) "
    "are not taken for classes (config.data.class_from)"
  )


def _tell_others(scenes: Scenes) -> None:
  """Images that nothing describes."""
  described = {scene.path for scene in scenes.scenes}
  others = [path for path in scenes.tree.images if path not in described]
  if others:
    scenes.notes.append(
      f"left out: {len(others)} images that no annotation names "
      f"({some(others)})"
    )


def _question(path: str, key: str, found: Sequence[Reading]) -> str:
  """Which readings there are, and how to choose each."""
  name_key = key.replace("path", "name")
  options = " or ".join(
    f"config.{name_key}={reading.name!r} ({reading.evidence})"
    if sum(other.name == reading.name for other in found) == 1
    else f"config.{key}={os.path.join(path, reading.file)!r} "
    f"({reading.evidence})"
    for reading in found
  )
  return (
    f"config.{key}={path!r} can be read in {len(found)} ways: choose {options}"
  )


def _nothing(name: str, option: str, place: Place, notes: Sequence[str]) -> str:
  """What was looked for, and what is there instead."""
  if name == "auto":
    sought = (
      "class folders (right there, or in train/, val/ and test/), JSON of "
      "COCO, MegaDetector or Label Studio, labels of YOLO, XML of Pascal VOC, "
      "a table of images (CSV, JSON lines), Camtrap DP, CUB-200-2011 and TFDS "
      "were looked for: lay the images of each class into a folder of its own, "
      "give a table, or the folder above"
    )
  else:
    sought = f"data.name={name!r}, but nothing there is in that layout"
  found = f"{len(place.images.images)} images"
  if place.images.images:
    found += f" ({some(place.images.images)})"
  others = [p for p in place.annotations.files if not images.is_named_image(p)]
  if others:
    found += f" and {len(others)} other files ({some(others)})"
  tail = "".join(f"; {note}" for note in notes)
  return f"config.{option}: {sought}; found {found}{tail}"
