"""Pascal VOC's XML: a file for each image.

Everingham et al. 2010, host.robots.ox.ac.uk/pascal/VOC. VOC counts pixels from
1 and its maxima are the last pixel inside, so a box is [xmin - 1, xmax]; many
tools count from 0 and write [xmin, xmax].
"""

import posixpath
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any
from xml.parsers import expat

from mtlmoe_jax import errors
from mtlmoe_jax.data.images import is_named_image
from mtlmoe_jax.data.layouts import placing, texts
from mtlmoe_jax.data.layouts.scenes import Scenes, Thing, frame, number
from mtlmoe_jax.data.layouts.tree import Tree, folder_split, named_split
from mtlmoe_jax.data.readers.problems import Problems, some

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_LISTS = "imagesets/main/"


def find(tree: Tree) -> list[str]:
  """The XML files of a data set in this layout; empty: it is none."""
  files = tree.named(".xml")
  if any(_is_annotation(tree, path) for path in files):
    return files
  return []


def _is_annotation(tree: Tree, path: str) -> bool:
  with tree.file(path).open("rb") as file:
    return re.search(rb"<annotations?\b", file.read(4096)) is not None


def read(
  files: Sequence[str],
  annotations: Tree,
  tree: Tree,
  first_pixel: str,
  problems: Problems,
) -> Scenes:
  """Reads XML files.

  Args:
    files: their paths.
    annotations: their tree.
    tree: of the images.
    first_pixel: `config.data.voc_first_pixel`.
    problems: where mistakes are reported.

  Returns:
    The scenes; classes sorted.

  Raises:
    InputError: it cannot be told whether pixels count from 0 or 1; and see
      `placing.place`.
  """
  notes: list[str] = []
  splits = _splits(annotations, files, notes, problems)
  said = []
  for path in files:
    root = _parsed(annotations, path, notes, problems)
    if root is None:
      continue
    name = _image(root, path, tree, problems)
    size = root.find("size")
    before = problems.count
    things = [
      thing
      for found in root.findall("object")
      if (thing := _thing(found, path, problems)) is not None
    ]
    split = splits.get(path, "") or folder_split(path)
    entry = placing.Said(name, posixpath.dirname(path), things, path, split)
    entry.is_spoiled = problems.count > before
    if size is not None:
      entry.size = frame(size.findtext("height"), size.findtext("width"))
    said.append(entry)
  shift = _shift(said, annotations, first_pixel, notes)
  for entry in said:
    entry.things = [_shifted(thing, shift) for thing in entry.things]
  what = f"{len(files)} XML files"
  scenes = placing.place(said, tree, what, notes, problems)
  return Scenes("voc", tree, (), scenes, notes=notes)


def _parsed(
  tree: Tree, path: str, notes: list[str], problems: Problems
) -> ET.Element | None:
  """The root of a file; entities and document types are refused unread."""
  builder = ET.TreeBuilder()
  parser = expat.ParserCreate()
  parser.StartElementHandler = builder.start
  parser.EndElementHandler = builder.end
  parser.CharacterDataHandler = builder.data

  def refuse(*_: Any) -> None:
    raise ValueError("has a document type of its own")

  parser.StartDoctypeDeclHandler = refuse
  try:
    parser.Parse(tree.file(path).read_bytes(), True)
    root = builder.close()
  except (expat.ExpatError, ValueError, LookupError) as error:
    problems(
      f"{tree.file(path)}: is no XML that can be read ({error}): export it "
      "again, or remove it"
    )
    return None
  if root.tag == "annotations":
    problems(
      f"{tree.file(path)}: is CVAT's XML for images, which is not read: export "
      "it as COCO, Pascal VOC or YOLO"
    )
    return None
  if root.tag != "annotation":
    notes.append(f"left out: {path}, which holds <{root.tag}>")
    return None
  return root


def _image(root: ET.Element, path: str, tree: Tree, problems: Problems) -> str:
  """The name of a file's image: that of the file itself, or the one inside.

  Who renames files renames both, seldom what is inside; a copy of a file with
  another name is seldom meant for the image inside.
  """
  inside = (root.findtext("filename") or "").strip()
  stem = posixpath.splitext(path)[0]
  own = tree.stem(stem) or tree.ending_stem(stem)
  if not own:
    return inside or stem
  if len(own) > 1 and inside:
    return inside
  if inside and own[0] not in (here := tree.ending(inside)) and here:
    problems(
      f"{path}: lies beside {own[0]}, but names {inside!r}, which is there as "
      "well: correct <filename>, or the file's name"
    )
  return own[0]


def _thing(found: ET.Element, path: str, problems: Problems) -> Thing | None:
  name = (found.findtext("name") or "").strip()
  if not name:
    problems(f"{path}: an object has no <name>: add it")
    return None
  texts_ = [found.findtext(f"bndbox/{corner}") for corner in _CORNERS]
  values = [number(text.strip()) if text else None for text in texts_]
  x1, y1, x2, y2 = values
  if x1 is None or y1 is None or x2 is None or y2 is None:
    problems(
      f"{path}: the <bndbox> of {name!r} must have four numbers "
      f"{', '.join(_CORNERS)}, not {', '.join(map(str, texts_))}"
    )
    return None
  return Thing(name, (x1, y1, x2, y2))


def _splits(
  tree: Tree, files: Sequence[str], notes: list[str], problems: Problems
) -> dict[str, str]:
  """Part of each XML file, as ImageSets/Main/*.txt have it."""
  lists = {}
  for path in tree.named(".txt"):
    folder, _, name = path.rpartition("/")
    word = posixpath.splitext(name)[0].lower()
    if f"{folder}/".lower().endswith(_LISTS):
      # Both together where they are not told apart.
      lists[path] = "train" if word == "trainval" else named_split(word) or ""
  parts = {s for p, s in lists.items() if "trainval" not in p.lower()}
  if "train" in parts:
    lists = {p: s for p, s in lists.items() if "trainval" not in p.lower()}
  by_name: dict[str, list[str]] = {}
  for path in files:
    stem = posixpath.splitext(posixpath.basename(path))[0]
    by_name.setdefault(stem.casefold(), []).append(path)
  splits: dict[str, str] = {}
  for path, split in lists.items():
    lines = texts.text(tree.file(path)).splitlines() if split else []
    unknown = []
    for line in lines:
      # Lists of one class have a second column.
      word = re.sub(r"\s+-?[01]$", "", line.strip())
      if is_named_image(word):
        word = posixpath.splitext(word)[0]
      found = by_name.get(posixpath.basename(word).casefold(), [])
      if len(found) > 1:
        found = [f for f in found if posixpath.splitext(f)[0].endswith(word)]
      if word and not found:
        unknown.append(word)
      for file in found:
        splits.setdefault(file, split)
    if unknown and len(unknown) == len(lines):
      problems(
        f"{tree.file(path)}: none of its {len(lines)} lines names an XML file "
        f"({some(unknown)}): correct or remove it"
      )
    elif unknown:
      notes.append(
        f"{path}: {len(unknown)} of {len(lines)} lines name no XML file "
        f"({some(unknown)})"
      )
  return splits


def _shift(
  said: Sequence[placing.Said],
  tree: Tree,
  first_pixel: str,
  notes: list[str],
) -> int:
  """What is taken off minima: 1 where pixels count from 1."""
  boxes = [t.box for entry in said for t in entry.things if t.box is not None]
  if first_pixel != "auto" or not boxes:
    return int(first_pixel) if boxes else 0
  least = min(min(box[:2]) for box in boxes)
  if least > 1:
    raise errors.InputError(
      f"{tree.root}: XML of Pascal VOC counts pixels from 1 (VOC, supervision) "
      "or from 0 (CVAT, Label Studio, datumaro), and no box of "
      f"{len(boxes)} begins at an edge to tell which: choose "
      "config.data.voc_first_pixel=1 or config.data.voc_first_pixel=0"
    )
  first = 1 if least == 1 else 0
  touching = sum(min(box[:2]) <= first for box in boxes)
  notes.append(
    f"pixels of Pascal VOC are taken to count from {first}: {touching} of "
    f"{len(boxes)} boxes begin there and none before "
    "(config.data.voc_first_pixel)"
  )
  return first


def _shifted(thing: Thing, shift: int) -> Thing:
  if thing.box is None or not shift:
    return thing
  x1, y1, x2, y2 = thing.box
  return Thing(thing.class_name, (x1 - shift, y1 - shift, x2, y2))
