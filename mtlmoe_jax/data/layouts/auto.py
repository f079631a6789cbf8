"""Opens a data set in whatever layout it is: recognised, then read."""

import dataclasses
import os
from collections.abc import Sequence

import ml_collections

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.data.layouts import recognise, records
from mtlmoe_jax.data.layouts.recognise import Place, Reading
from mtlmoe_jax.data.layouts.scenes import Scene, Scenes, Thing, some
from mtlmoe_jax.data.layouts.tree import folder_split
from mtlmoe_jax.data.readers import class_folders, cub, folder, tfds
from mtlmoe_jax.data.readers.file_source import Whole
from mtlmoe_jax.data.readers.problems import Problems


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
  if name == "folder":
    return folder.open_folder(path, problems, key)
  if name == "cub" or (name == "auto" and _is_cub(path)):
    return cub.open_cub(path, problems, key)
  place = recognise.place_of(path, os.path.expanduser(images_path), key)
  if name == "auto" and (prepared := recognise.tfds_of(place)):
    return tfds.open_tfds(*prepared, need_box, problems)
  found, notes = recognise.readings(place, data)
  folders = _class_folders(place)
  if name != "auto":
    found = [reading for reading in found if reading.name == name]
  elif not found and folders:
    whole = folder.open_folder(path, problems, key)
    return dataclasses.replace(whole, notes=(*whole.notes, *notes))
  if not found:
    raise errors.InputError(_nothing(name, f"{key}={path!r}", place, notes))
  if len(found) > 1:
    raise errors.InputError(_question(path, key, found))
  (reading,) = found
  scenes = reading.read(problems)
  scenes.evidence = reading.evidence
  scenes.notes += notes
  _add_folders(scenes, folders, data.class_from, problems)
  _tell_others(scenes)
  return records.records(scenes, data, problems)


def _is_cub(path: str) -> bool:
  return all(os.path.isfile(os.path.join(path, name)) for name in cub.FILES)


def _class_folders(place: Place) -> dict[str, str]:
  """The class that each image's folder may name, by image."""
  found = {}
  for path in place.images.images:
    folders = path.split("/")[:-1]
    if folders and class_folders.named_split(folders[0]):
      folders = folders[1:]
    if folders and not any(map(class_folders.is_no_class, folders)):
      found[path] = folders[0]
  return found


def _add_folders(
  scenes: Scenes,
  folders: dict[str, str],
  class_from: str,
  problems: Problems,
) -> None:
  """Classes of folders, for a table that names none or is told not to.

  Args:
    scenes: of a table; others are left as they are.
    folders: class by image.
    class_from: `config.data.class_from`.
    problems: where objects without a class are reported.

  Raises:
    InputError: table and folders name classes, and each leaves something out
      that the other has.
  """
  if scenes.name != "table":
    return
  named = {t.class_name for s in scenes.scenes for t in s.things} - {""}
  if folders and named and class_from == "auto":
    _compare(scenes, folders, named)
  if folders and (not named or class_from == "folder"):
    _take_folders(scenes, folders)
  without = [
    scene
    for scene in scenes.scenes
    if any(not t.class_name for t in scene.things)
  ]
  if without:
    problems(
      f"{scenes.tree.root}: {len(without)} images have no class "
      f"({some(scene.where for scene in without)}): name it in the table, or "
      "lay the images into folders named as their classes"
    )
    names = {scene.path for scene in without}
    scenes.scenes = [s for s in scenes.scenes if s.path not in names]


def _compare(scenes: Scenes, folders: dict[str, str], named: set[str]) -> None:
  """Stops where table and folders may both be meant."""
  differ = [
    scene
    for scene in scenes.scenes
    if any(
      t.class_name != folders.get(scene.path, t.class_name)
      for t in scene.things
    )
  ]
  in_folders = set(folders.values())
  if not differ or len(in_folders) < 2:
    return
  others = folders.keys() - {scene.path for scene in scenes.scenes}
  if others or len(named) < 2:
    raise errors.InputError(
      f"{scenes.tree.root}: the table names {len(named)} classes "
      f"({some(sorted(named))}) of {len(scenes.scenes)} images, the folders "
      f"{len(in_folders)} ({some(sorted(in_folders))}) of {len(folders)}, and "
      f"they differ ({differ[0].path}): choose "
      "config.data.class_from='annotations' or config.data.class_from='folder'"
    )
  scenes.notes.append(
    f"classes are those of the table; the folders ({some(sorted(in_folders))}) "
    "are not taken for classes (config.data.class_from)"
  )


def _take_folders(scenes: Scenes, folders: dict[str, str]) -> None:
  """The class of every image is its folder's, in the table or not."""
  for scene in scenes.scenes:
    if scene.path in folders:
      name = folders[scene.path]
      things = [Thing(name, t.box) for t in scene.things]
      scene.things = things or [Thing(name, None)]
  known = {scene.path for scene in scenes.scenes}
  scenes.scenes += [
    Scene(path, [Thing(name, None)], path, folder_split(path))
    for path, name in folders.items()
    if path not in known
  ]
  # As they would be read without the table.
  scenes.scenes.sort(key=lambda s: (s.split, folders.get(s.path, ""), s.path))
  scenes.class_names = sorted(set(folders.values()))
  scenes.notes.append("the class of an image is the name of its folder")


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
      "class folders, JSON of COCO, MegaDetector or Label Studio, labels of "
      "YOLO, XML of Pascal VOC, a table of images (CSV, JSON lines), Camtrap "
      "DP, CUB-200-2011 and TFDS were looked for"
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
