"""Which files below a folder show which class, and what is left out.

Nothing is left out without a word: what is none of a mistake (a note, a
thumbnail) is counted, what probably is one is a problem.
"""

import collections
import dataclasses
import pathlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.data.readers.attributes import ATTRIBUTES
from mtlmoe_jax.data.readers.problems import Problems, some

_SPLITS = {
  **dict.fromkeys(("train", "training", "train_set", "training_set"), "train"),
  **dict.fromkeys(("test", "testing", "test_set", "testing_set"), "test"),
  **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
}
# What cameras, phones, computers and servers lay beside photographs.
_NO_PHOTOS = (
  *("@eadir", "#recycle", "__macosx", "$recycle.bin"),
  "system volume information",
)
# Folders of other layouts (COCO, VOC, YOLO), which hold images of all classes.
_NO_CLASS = re.compile(
  r"images?|imgs?|jpegimages|photos|pictures|media|data|obj_\w+_data|"
  r"(train|val|valid|test)20\d\d",
  re.IGNORECASE,
)
# Photographs that no decoder here reads.
_PHOTOS = (
  *(".jxl", ".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2"),
  *(".raf", ".pef", ".srw", ".psd", ".svg", ".eps"),
)


def named_split(folder: str) -> str | None:
  """The part that a folder's name says; None: it is no word for one."""
  return _SPLITS.get(folder.lower())


def is_hidden(name: str) -> bool:
  """Whether a file or folder of that name is not looked at."""
  return name.startswith(".") or name.lower() in _NO_PHOTOS


def is_no_class(folder: str) -> bool:
  """Whether that is a folder of images of all classes in other layouts."""
  return _NO_CLASS.fullmatch(folder) is not None


def holder(paths: Iterable[str]) -> str:
  """The one folder that holds all class folders: images, or that of the parts.

  Args:
    paths: of images, with slashes.

  Returns:
    Its path and a slash; "" where class folders are right there. A folder with
    images of its own is none, for these have no class.
  """
  inner = [path.split("/", 2) for path in paths if "/" in path]
  tops = {parts[0] for parts in inner}
  if len(tops) != 1 or any(len(parts) < 3 for parts in inner):
    return ""
  (top,) = tops
  seconds = {parts[1] for parts in inner}
  is_parted = len(seconds) > 1 and all(map(named_split, seconds))
  if not is_parted and not is_no_class(top):
    return ""
  return f"{top}/" + holder("/".join(parts[1:]) for parts in inner)


@dataclasses.dataclass(frozen=True)
class File:
  """One image file.

  Attributes:
    split: "train", "validation", "test", or "" without a split.
    class_name: its class folder's name, composed (NFC).
    path: the file.
  """

  split: str
  class_name: str
  path: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Listing:
  """What is below a folder.

  Attributes:
    files: sorted by split folder, class folder and path.
    notes: lines that tell what was left out, or read from deeper folders.
  """

  files: list[File]
  notes: tuple[str, ...]


def list_classes(
  root: pathlib.Path,
  key: str,
  tables: Collection[str],
  within: str,
  problems: Problems,
) -> Listing:
  """Lists CLASS/**/NAME or {train,val,test}/CLASS/**/NAME.

  Both may lie in one folder (`holder`). Images at any depth of
  a class folder are its images. Folders and files that begin with a dot are not
  looked at.

  Args:
    root: the folder.
    key: of the config, that named it.
    tables: paths, relative to it, of files that are read beside.
    within: the one folder that holds all class folders, of `holder`.
    problems: where folders that are no classes are reported.

  Raises:
    InputError: no such folder, or no image in class folders; and, unless
      `problems` collects, the first problem.
  """
  option = f"config.{key}={str(root)!r}"
  if root.is_file():
    raise errors.InputError(
      f"{option} is a file: give a folder, of an archive the unpacked one"
    )
  if not root.is_dir():
    raise errors.InputError(
      f"{option}: no such folder; give the folder that holds the class folders "
      "(or train/ and test/)"
    )
  base = root / within
  tops = _splits(base, root, problems)
  files: list[File] = []
  left_out: collections.Counter[str] = collections.Counter()
  for top in tops or [base]:
    split = (named_split(top.name) or "") if tops else ""
    for path in _visible(top):
      if path.is_dir():
        files += _of_class(path, root, split, left_out, problems)
  folders = dict.fromkeys((root, base, *tops))
  beside = [p for d in folders for p in _visible(d) if not p.is_dir()]
  loose = [
    path.relative_to(root).as_posix()
    for path in beside
    if images.is_named_image(path)
  ]
  if not files:
    raise errors.InputError(
      f"{option}: no images in class sub-folders; expected CLASS/NAME or "
      f"train/CLASS/NAME with {', '.join(images.SUFFIXES)}"
      + _but(loose, left_out)
    )
  notes = list(_notes(files, root, base, tops, loose, left_out))
  others = [
    name
    for path in beside
    if not images.is_named_image(path)
    and (name := path.relative_to(root).as_posix()) not in tables
    and path.name.lower() != ATTRIBUTES
  ]
  if others:
    notes.append(f"left out: files beside the class folders ({some(others)})")
  return Listing(files, tuple(notes))


def _splits(
  base: pathlib.Path, root: pathlib.Path, problems: Problems
) -> list[pathlib.Path]:
  """Folders that part the data set; empty where there are none."""
  folders = [path for path in _visible(base) if path.is_dir()]
  tops = [path for path in folders if named_split(path.name)]
  others = [p for p in folders if p not in tops and _has_image(p)]
  if not tops or not others:
    return tops
  # A class may be called train: then it holds images, not folders of them.
  if not any(
    _has_image(p) for top in tops for p in _visible(top) if p.is_dir()
  ):
    return []
  problems(
    f"{root}: {some([p.name for p in tops])} part the images, but "
    f"{some([p.name for p in others])} beside them hold images, too: move "
    "these into them, or out of the folder"
  )
  return tops


def _of_class(
  folder: pathlib.Path,
  root: pathlib.Path,
  split: str,
  left_out: collections.Counter[str],
  problems: Problems,
) -> list[File]:
  """The images of a class folder; counts its other files by suffix."""
  name = unicodedata.normalize("NFC", folder.name)
  where = folder.relative_to(root).as_posix()
  files, others = [], collections.Counter[str]()
  for path in _below(folder):
    if images.is_named_image(path):
      files.append(File(split, name, path))
    else:
      others[path.suffix.lower() or "no suffix"] += 1
  if files and is_no_class(name):
    problems(
      f"{root}: {where!r} ({len(files)} images) is no class, but a folder of "
      "another layout (COCO, YOLO, Pascal VOC): data.name='folder' wants one "
      "folder for each class"
    )
  photos = {s: n for s, n in others.items() if s in _PHOTOS}
  if photos and not files:
    problems(
      f"{root}: all photographs of class {where!r} are of a kind that is not "
      f"read ({_counts(photos)}): save them as JPEG, or remove the folder"
    )
  left_out.update(others)
  return files


def _notes(
  files: list[File],
  root: pathlib.Path,
  base: pathlib.Path,
  tops: list[pathlib.Path],
  loose: list[str],
  left_out: collections.Counter[str],
) -> Iterator[str]:
  depth = 3 if tops else 2
  names = {file.class_name for file in files}
  inner = {file.path.relative_to(base).parts[1] for file in files}
  if len(names) == 1 and not tops and len(inner) > 1:
    (name,) = names
    yield (
      f"all images are below one folder, {name!r}: if the classes are the "
      f"folders in it, give {base / name}"
    )
  deeper = [
    path
    for path in (file.path.relative_to(root) for file in files)
    if len(path.parts) > depth + len(base.relative_to(root).parts)
  ]
  if deeper:
    yield (
      f"{len(deeper)} of {len(files)} images lie in folders below their class "
      f"folder, such as {deeper[0].as_posix()}"
    )
  empty = [
    folder.name
    for top in tops or [base]
    for folder in _visible(top)
    if folder.is_dir() and folder not in tops and not any(folder.iterdir())
  ]
  if empty:
    yield f"{len(empty)} folders are empty, and no classes ({some(empty)})"
  if loose:
    yield f"left out: {len(loose)} images in no class folder ({some(loose)})"
  if left_out:
    yield f"left out: files that are not read ({_counts(left_out)})"


def _but(loose: list[str], left_out: collections.Counter[str]) -> str:
  """What is there instead."""
  if loose:
    return f"; {len(loose)} images are in no class folder ({some(loose)})"
  return f"; there are others ({_counts(left_out)})" if left_out else ""


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(p for p in folder.iterdir() if not is_hidden(p.name))


def _below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Visible files at any depth."""
  for path in _visible(folder):
    if not path.is_dir():
      yield path
    # A link may lead back to where it lies.
    elif not path.is_symlink() or not folder.resolve().is_relative_to(
      path.resolve()
    ):
      yield from _below(path)


def _has_image(folder: pathlib.Path) -> bool:
  return any(images.is_named_image(path) for path in _below(folder))


def _counts(counts: collections.Counter[str] | dict[str, int]) -> str:
  return ", ".join(f"{n} {suffix}" for suffix, n in sorted(counts.items()))
