"""Which layout a folder is in, by which evidence."""

import dataclasses
import functools
import pathlib
import posixpath
import re
from collections.abc import Callable, Iterator
from typing import Any

import ml_collections

from mtlmoe_jax import errors
from mtlmoe_jax.data.images import is_named_image
from mtlmoe_jax.data.layouts import (
  camtrap,
  coco,
  folders,
  label_studio,
  megadetector,
  tables,
  texts,
  voc,
  yolo,
)
from mtlmoe_jax.data.layouts.numbers import Meaning
from mtlmoe_jax.data.layouts.scenes import Scenes
from mtlmoe_jax.data.layouts.tree import Tree
from mtlmoe_jax.data.readers.problems import Problems, some

# Files that may be named as `config.data.path`.
_FILES = (".json", ".csv", ".tsv", ".jsonl", ".ndjson", ".yaml", ".yml")
_ANNOTATIONS = re.compile(r"annotations?|labels?", re.IGNORECASE)
# Files that are meant to be annotations, whatever is in them.
_ANNOTATES = re.compile(
  r"(^|/)annotations?/|annotation|coco|instances|result|export|(^|/)md\.json",
  re.IGNORECASE,
)
# More JSON files than that are one for each image, which no layout here has.
_MOST_JSON = 50


@dataclasses.dataclass(frozen=True)
class Reading:
  """One way to read a folder.

  Attributes:
    name: of the layout, a word of `config.data.name`.
    evidence: the files that speak for it.
    read: does so.
    file: what to give as `config.data.path` for this reading alone; "": it is
      told by its name.
    names_classes: False for a table of boxes alone.
  """

  name: str
  evidence: str
  read: Callable[[Problems], Scenes]
  file: str = ""
  names_classes: bool = True


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a data set is.

  Attributes:
    annotations: tree of its annotations.
    images: tree of its images.
    file: the annotation file that was named, in `annotations`; "": none.
  """

  annotations: Tree
  images: Tree
  file: str

  def base(self, path: str) -> str:
    """The folder, in the images' tree, that names in a file start from."""
    if self.annotations.root == self.images.root:
      return posixpath.dirname(path)
    return ""


def place_of(path: str, images: str, key: str) -> Place:
  """Lists the folders of a data set.

  Args:
    path: a folder, or one file of annotations.
    images: where the images are, if not below it; else "".
    key: of the config, that gave `path`.

  Raises:
    InputError: no such folder or file, or a file of another kind.
  """
  option = f"config.{key}={path!r}"
  root, file = pathlib.Path(path), ""
  if root.is_file():
    if root.suffix.lower() not in _FILES:
      raise errors.InputError(
        f"{option} is a file: give a folder (of an archive the unpacked one), "
        f"or a file of annotations ({', '.join(_FILES)})"
      )
    root, file = root.parent, root.name
  if not root.is_dir():
    raise errors.InputError(f"{option}: no such folder; give the data set's")
  tree = Tree(root)
  if not images:
    if file and not tree.images and _ANNOTATIONS.match(root.resolve().name):
      # As COCO has it: annotations/ beside the folders of the images.
      file = f"{root.resolve().name}/{file}"
      tree = Tree(root.resolve().parent)
    return Place(tree, tree, file)
  if not pathlib.Path(images).is_dir():
    raise errors.InputError(
      f"config.data.images={images!r}: no such folder; give the one that the "
      "images lie in"
    )
  return Place(tree, Tree(images), file)


def tfds_of(place: Place) -> tuple[str, str] | None:
  """(data directory, name) of a data set that TFDS has prepared, or None.

  Raises:
    InputError: there are several.
  """
  tree = place.annotations
  found = [
    posixpath.dirname(path)
    for path in tree.named("dataset_info.json")
    if posixpath.join(posixpath.dirname(path), "features.json") in tree.files
  ]
  if not found:
    return None
  if len(found) > 1:
    raise errors.InputError(
      f"{tree.root}: has {len(found)} data sets of TFDS ({some(found)}): give "
      "the folder of one of them"
    )
  # DIR/NAME/VERSION or DIR/NAME/CONFIG/VERSION.
  folder = (tree.root / found[0]).resolve()
  info = texts.json_value(folder / "dataset_info.json")
  parts = [str(info.get(key) or "") for key in ("name", "configName")]
  name = "/".join(part for part in parts if part)
  return str(folder.parents[len(name.split("/"))]), f"{name}:{folder.name}"


def readings(
  place: Place, data: ml_collections.ConfigDict, name: str, key: str
) -> tuple[list[Reading], list[str]]:
  """All ways to read a folder.

  Args:
    place: of the data set.
    data: `config.data`.
    name: the reading that is asked for, or "auto".
    key: of the config, that named the folder.

  Returns:
    (readings, lines about files that none of them reads).

  Raises:
    InputError: a file that cannot be read.
  """
  notes: list[str] = []
  lists: dict[str, list[dict[str, Any]]] = {}
  found = [
    *_of_json(place, data, notes, lists),
    *_of_tables(place, data, name, key, notes, lists),
    *_of_yolo(place),
    *_of_voc(place, data),
  ]
  return found, notes


def likely(found: list[Reading], class_from: str) -> list[Reading]:
  """The readings that may be meant.

  A folder for each class is meant where nothing else names classes: with
  annotations, folders are stations, days or parts as well.

  Args:
    found: all readings.
    class_from: `config.data.class_from`.
  """
  others = [reading for reading in found if reading.name != "folder"]
  folder = [reading for reading in found if reading.name == "folder"]
  tables_ = [reading for reading in others if reading.name == "table"]
  tables_name_none = not any(reading.names_classes for reading in tables_)
  if (
    folder
    and others == tables_
    and (class_from == "folder" or tables_name_none)
  ):
    return folder
  return others


def _named(place: Place, *suffixes: str) -> list[str]:
  if place.file:
    return [place.file] if place.file.lower().endswith(suffixes) else []
  return place.annotations.named(*suffixes)


def _of_json(
  place: Place,
  data: ml_collections.ConfigDict,
  notes: list[str],
  lists: dict[str, list[dict[str, Any]]],
) -> Iterator[Reading]:
  """Adds the lists of rows among the files to `lists`, by path."""
  tree = place.annotations
  paths = _named(place, ".json")
  if not place.file:
    # What cameras and servers write beside each photograph is no list of them.
    beside = [p for p in paths if place.images.stem(_bare(p))]
    if beside:
      notes.append(f"left out: {len(beside)} JSON files beside an image each")
      paths = [path for path in paths if path not in set(beside)]
  if len(paths) > _MOST_JSON:
    notes.append(
      f"left out: {len(paths)} JSON files ({some(paths)}); one for each image, "
      "as labelme writes them, is not read: export them as COCO"
    )
    paths = [path for path in paths if _ANNOTATES.search(path)][:_MOST_JSON]
  in_coco: list[coco.File] = []
  of_detector: list[coco.File] = []
  unknown = []
  for path in paths:
    try:
      value = texts.json_value(tree.file(path))
    except errors.InputError as error:
      # Others may be a program's own.
      if len(paths) == 1 or _ANNOTATES.search(path):
        raise
      notes.append(f"left out: {error}")
      continue
    file = coco.File(path, place.base(path), value)
    if coco.is_coco(value):
      in_coco.append(file)
    elif megadetector.is_megadetector(value):
      of_detector.append(file)
    elif label_studio.is_label_studio(value):
      yield Reading(
        "label_studio",
        f"{path} is a list of tasks",
        functools.partial(label_studio.read, file, place.images),
        path,
      )
    elif tables.is_rows(value):
      lists[path] = value
    else:
      unknown.append(path)
  if unknown:
    notes.append(f"left out: no JSON of a known layout: {some(unknown)}")
  if of_detector:
    yield Reading(
      "megadetector",
      f"{some(f.path for f in of_detector)} has images and "
      "detection_categories",
      functools.partial(
        megadetector.read,
        of_detector,
        place.images,
        data.class_from,
        data.min_confidence,
      ),
      of_detector[0].path if len(of_detector) == 1 else "",
    )
  if in_coco:
    yield Reading(
      "coco",
      f"{some(f.path for f in in_coco)} has images and annotations",
      functools.partial(coco.read, in_coco, place.images),
      in_coco[0].path if len(in_coco) == 1 else "",
    )


def _bare(path: str) -> str:
  """The path of the image that a.jpg.json or a.json may be about."""
  stem = posixpath.splitext(path)[0]
  return posixpath.splitext(stem)[0] if is_named_image(stem) else stem


def _of_tables(
  place: Place,
  data: ml_collections.ConfigDict,
  name: str,
  key: str,
  notes: list[str],
  lists: dict[str, list[dict[str, Any]]],
) -> Iterator[Reading]:
  """A package of Camtrap DP, tables of images, folders for each class."""
  tree = place.annotations
  if place.file and not lists and not _named(place, *tables.SUFFIXES):
    return
  package = None if place.file else _camtrap(tree)
  if package is not None:
    yield Reading(
      "camtrap_dp",
      f"{package[0]} and {package[1]}",
      functools.partial(
        camtrap.read,
        texts.table(tree.file(package[0]), package[0]),
        texts.table(tree.file(package[1]), package[1]),
        place.images,
      ),
    )
  paths = _named(place, *tables.SUFFIXES)
  if package is not None:
    folder = posixpath.dirname(package[0])
    paths = [path for path in paths if posixpath.dirname(path) != folder]
  exports = [path for path in paths if _is_export(tree.file(path))]
  for path in exports:
    rows = label_studio.tasks(texts.table(tree.file(path), path))
    yield Reading(
      "label_studio",
      f"{path} has a row for each annotated task",
      functools.partial(
        label_studio.read,
        coco.File(path, place.base(path), rows),
        place.images,
      ),
      path,
    )
  paths = [path for path in paths if path not in exports]
  found, absent, others = tables.find(tree, paths, lists, place.images)
  notes += others
  meaning = Meaning(data.box_format, data.box_unit)
  if name == "folder" or folders.classes(place.images):
    yield Reading(
      "folder",
      "a folder for each class",
      functools.partial(
        folders.read, place.images, found, absent, meaning, key
      ),
    )
  else:
    notes += absent
  if found:
    yield Reading(
      "table",
      f"{some(table.path for table in found)} names images",
      functools.partial(tables.read, found, place.images, meaning),
      found[0].path if len(found) == 1 else "",
      any(table.names_classes for table in found),
    )


def _is_export(path: pathlib.Path) -> bool:
  """Whether a table is Label Studio's."""
  with path.open("rb") as file:
    return label_studio.is_header(
      file.readline(4096).decode("utf-8", "replace")
    )


def _camtrap(tree: Tree) -> tuple[str, str] | None:
  """Paths of its two tables that are read, or None.

  Raises:
    InputError: one of them alone is there.
  """
  pair = (camtrap.MEDIA, camtrap.OBSERVATIONS)
  for path in tree.files:
    folder, _, name = path.rpartition("/")
    if name not in pair:
      continue
    media, observations = (posixpath.join(folder, name) for name in pair)
    missing = {media, observations} - set(tree.files)
    if not missing:
      return media, observations
    if "mediaID" in texts.table(tree.file(path), path).columns:
      raise errors.InputError(
        f"{tree.file(path)}: is a table of Camtrap DP, whose {missing.pop()} "
        "is not there: add it, or remove this one"
      )
  return None


def _of_yolo(place: Place) -> Iterator[Reading]:
  if place.file and not _named(place, ".yaml", ".yml"):
    return
  files = yolo.find(place.annotations, place.file)
  if files is not None:
    names = files.settings or files.names or "no list of names"
    yield Reading(
      "yolo",
      f"{len(files.labels)} label files ({some(files.labels)}), {names}",
      functools.partial(yolo.read, files, place.images),
      files.settings,
    )


def _of_voc(place: Place, data: ml_collections.ConfigDict) -> Iterator[Reading]:
  files = [] if place.file else voc.find(place.annotations)
  if files:
    yield Reading(
      "voc",
      f"{len(files)} XML files of <annotation> ({some(files)})",
      functools.partial(
        voc.read,
        files,
        place.annotations,
        place.images,
        data.voc_first_pixel,
      ),
    )
