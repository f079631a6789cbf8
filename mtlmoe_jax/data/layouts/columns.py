"""What the columns of a table of images mean, by their usual names."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_PATH = (
  *("path", "image_path", "img_path", "file_path", "filepath", "file_name"),
  *("filename", "file", "image", "img", "image_name", "img_name", "photo"),
  *("image_file", "rel_path", "fname", "imageid", "image_id", "img_filename"),
  *("name_id", "id"),
)
# The folder of an image, where a table parts it from its name.
_FOLDER = (
  *("relative_path", "relativepath", "folder", "directory", "dir", "station"),
  *("subfolder", "deployment", "deployment_id", "img_folder"),
)
# Ranks of a species: beside them `class` is one (Aves).
_RANKS = ("kingdom", "phylum", "order", "family", "genus")
_CLASS = (
  *("class", "class_name", "classname", "label", "label_name", "category"),
  *("category_name", "species", "scientific_name", "scientificname", "target"),
  *("common_name", "commonname", "breed", "labels", "class_id", "category_id"),
  *("label_id", "classid", "cat_name", "cat_id"),
)
_SPLIT = ("split", "subset", "set", "partition", "part", "usage", "fold")
_WIDTH = ("image_width", "img_width", "width")
_HEIGHT = ("image_height", "img_height", "height")
# Four columns of a box, in the order of its numbers, and how they are meant.
_BOXES = (
  ("xyxy", ("x_min", "y_min", "x_max", "y_max")),
  ("xyxy", ("xmin", "ymin", "xmax", "ymax")),
  ("xyxy", ("x1", "y1", "x2", "y2")),
  ("xyxy", ("x0", "y0", "x1", "y1")),
  ("xyxy", ("left", "top", "right", "bottom")),
  ("xyxy", ("minx", "miny", "maxx", "maxy")),
  ("cxcywh", ("x_center", "y_center", "width", "height")),
  ("cxcywh", ("x_centre", "y_centre", "width", "height")),
  ("cxcywh", ("xcenter", "ycenter", "width", "height")),
  ("cxcywh", ("cx", "cy", "w", "h")),
  ("cxcywh", ("xc", "yc", "w", "h")),
  ("xywh", ("x", "y", "w", "h")),
  ("xywh", ("x", "y", "width", "height")),
  ("xywh", ("left", "top", "width", "height")),
  ("xywh", ("x_min", "y_min", "width", "height")),
  ("xywh", ("xmin", "ymin", "width", "height")),
)
_LISTS = ("bbox", "box", "bounding_box", "boundingbox")
# Beginnings and ends of names that add nothing but a unit.
_PREFIX = re.compile(r"^(?:ann_)?(?:bbox|box|bb|bndbox)_?(?=.)")
_UNITS = {
  "_px": "pixels",
  "_pixels": "pixels",
  "_rel": "shares",
  "_norm": "shares",
  "_normalized": "shares",
  "_percent": "percent",
  "_pct": "percent",
}


class Columns(NamedTuple):
  """Names of the columns; "" or () where there is none.

  Attributes:
    path: the image.
    folder: that it lies in.
    labels: the class, the usual name first.
    box: four columns, or one that holds four numbers.
    layout: "xyxy", "xywh", "cxcywh", or "" where the name does not say.
    unit: "pixels", "shares", "percent", or "".
    split: the part.
    size: (height, width) of the image.
  """

  path: str
  folder: str
  labels: tuple[str, ...]
  box: tuple[str, ...]
  layout: str
  unit: str
  split: str
  size: tuple[str, ...]

  @property
  def label(self) -> str:
    """The column of the class; "" if none."""
    return next(iter(self.labels), "")

  def text(self) -> str:
    """What is read, for people."""
    words = [f"image {self.path!r}"]
    if self.folder:
      words.append(f"its folder {self.folder!r}")
    if self.label:
      words.append(f"class {self.label!r}")
    if self.box:
      words.append(f"box {','.join(self.box)!r}")
    if self.split:
      words.append(f"part {self.split!r}")
    return ", ".join(words)


def meant(header: Sequence[str]) -> Columns | None:
  """What a header means; None: no column names an image.

  Args:
    header: names of the columns.
  """
  names = {_plain(name): name for name in reversed(header) if name}
  path = _first(names, _PATH)
  if not path and "relative_path" in names:
    path = names["relative_path"]
  if not path:
    return None
  box, layout, unit = _box(names)
  taken = {path, *box}
  left = {plain: name for plain, name in names.items() if name not in taken}
  if any(rank in left for rank in _RANKS):
    left.pop("class", None)
  labels = tuple(left[name] for name in _CLASS if name in left)
  height, width = _first(left, _HEIGHT), _first(left, _WIDTH)
  size = (height, width) if height and width else ()
  folder, split = _first(left, _FOLDER), _first(left, _SPLIT)
  return Columns(path, folder, labels, box, layout, unit, split, size)


def _plain(name: str) -> str:
  name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
  return re.sub(r"[\s\-.]+", "_", name.lower())


def _first(names: Mapping[str, str], usual: Sequence[str]) -> str:
  return next((names[name] for name in usual if name in names), "")


def _box(names: Mapping[str, str]) -> tuple[tuple[str, ...], str, str]:
  """(columns, layout, unit) of the box."""
  for end, unit in (*_UNITS.items(), ("", "")):
    bare = {
      _PREFIX.sub("", plain.removesuffix(end)): name
      for plain, name in names.items()
      if plain.endswith(end)
    }
    for layout, usual in _BOXES:
      if all(name in bare for name in usual):
        return tuple(bare[name] for name in usual), layout, unit
  one = _first(names, _LISTS)
  return ((one,), "", "") if one else ((), "", "")
