"""YOLO's text files: a line `class x y width height` for each object.

docs.ultralytics.com/datasets/detect. Numbers are the centre and the sides as
shares of the image. The classes' names are in `data.yaml`, `obj.names` or
`classes.txt`, the parts in `data.yaml`, in lists of images or in folders.
"""

import collections
import dataclasses
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from mtlmoe_jax import errors
from mtlmoe_jax.data.images import is_named_image
from mtlmoe_jax.data.layouts import placing, texts
from mtlmoe_jax.data.layouts.scenes import Corners, Scene, Scenes, Thing, number
from mtlmoe_jax.data.layouts.tree import (
  Tree,
  folder_split,
  named_split,
  split_of,
)
from mtlmoe_jax.data.readers.problems import Problems, some

_NAMES = (
  "_darknet.labels",
  "obj.names",
  "classes.txt",
  "class.names",
  "names.txt",
  "_classes.txt",
)
_LISTS = re.compile(r"(train|val|valid|validation|test)\.txt", re.IGNORECASE)
_PROSE = re.compile(r"readme|licen[cs]e|notes?\b|requirements", re.IGNORECASE)
# Shares beyond this are none.
_SHARE = 2.0


@dataclasses.dataclass(frozen=True)
class Files:
  """What makes up a data set.

  Attributes:
    tree: of the label files.
    labels: paths of the label files.
    settings: path of `data.yaml`; "" if none.
    names: path of a list of names; "" if none.
    lists: paths of lists of images.
  """

  tree: Tree
  labels: Sequence[str]
  settings: str
  names: str
  lists: Sequence[str]


def find(tree: Tree, settings: str = "") -> Files | None:
  """The files of a data set in this layout; None: there is none.

  Args:
    tree: of the label files.
    settings: path of `data.yaml`, where it is named; "": it is looked for.

  Raises:
    InputError: several lists of names that differ.
  """
  yamls = (
    [settings]
    if settings
    else [
      path for path in tree.named(".yaml", ".yml") if _is_settings(tree, path)
    ]
  )
  listed = [p for p in tree.files if posixpath.basename(p).lower() in _NAMES]
  listed += [p for p in tree.named(".names") if p not in listed]
  labels: list[str] = []
  lists: list[str] = []
  for path in tree.named(".txt"):
    name = posixpath.basename(path)
    is_label = "labels" in path.lower().split("/") or bool(
      tree.ending_stem(posixpath.splitext(path)[0])
    )
    if path in listed or (_PROSE.match(name) and not is_label):
      continue
    (lists if _LISTS.fullmatch(name) and not is_label else labels).append(path)
  if not any("labels" in path.lower().split("/") for path in labels):
    # Beside their images, then: numbers in a text need not be labels.
    apart = not tree.images
    if not any(
      (apart or tree.ending_stem(posixpath.splitext(path)[0]))
      and _looks_like_labels(tree, path)
      for path in labels
    ):
      return None
  return Files(
    tree,
    labels,
    _only(tree, yamls, "give one of them as config.data.path"),
    _only(tree, listed, "give the folder of one data set"),
    lists,
  )


def _only(tree: Tree, paths: Sequence[str], mend: str) -> str:
  """The one file of several that say the same; "" if there is none.

  Raises:
    InputError: they differ.
  """
  contents = {tree.file(path).read_bytes() for path in paths}
  if len(contents) > 1:
    raise errors.InputError(
      f"{tree.root}: {some(paths)} each name classes of YOLO, and differ: "
      f"{mend}"
    )
  return next(iter(paths), "")


def _is_settings(tree: Tree, path: str) -> bool:
  content = tree.file(path).read_bytes()
  return re.search(rb"^\s*names\s*:", content, re.MULTILINE) is not None


def _looks_like_labels(tree: Tree, path: str) -> bool:
  content = tree.file(path).read_bytes()[:4096].decode("utf-8", "replace")
  lines = [line.split() for line in content.splitlines()[:3] if line.strip()]
  return bool(lines) and all(
    len(line) >= 5 and all(number(w) is not None for w in line[-4:])
    for line in lines
  )


def read(files: Files, images: Tree, problems: Problems) -> Scenes:
  """Reads label files.

  An image without a label file, or with an empty one, shows nothing, as
  Ultralytics has it, if other images of its folder have label files.

  Args:
    files: of `find`.
    images: tree of the images.
    problems: where mistakes are reported.

  Returns:
    The scenes; classes in the order of their numbers.

  Raises:
    InputError: classes without names, or a list of names that cannot be read.
  """
  notes: list[str] = []
  settings = _settings(files)
  names = _class_names(files, settings)
  keypoints = _keypoints(settings)
  label_of, unused = _labels_of_images(files, images)
  lists = [path for path in unused if _is_list(files.tree, path)]
  unused = [path for path in unused if path not in lists]
  files = dataclasses.replace(files, lists=[*files.lists, *lists])
  if not label_of:
    raise errors.InputError(
      f"{files.tree.root}: none of the {len(files.labels)} label files "
      f"({some(files.labels)}) has an image of its name below {images.root}: "
      "give the folder that the images lie in with config.data.images"
    )
  splits = _splits(files, settings, images, problems)
  labelled = {posixpath.dirname(path) for path in label_of}
  scenes, without = [], 0
  numbers_used: set[int] = set()
  found_names: dict[str, None] = {}
  for path in images.images:
    label = label_of.get(path)
    if label is None and posixpath.dirname(path) not in labelled:
      continue
    things: list[Thing] = []
    before = problems.count
    if label is None:
      without += 1
    else:
      things = _things(
        files.tree, label, names, keypoints, numbers_used, notes, problems
      )
      found_names.update(dict.fromkeys(thing.class_name for thing in things))
    split = splits.get(path, "") or folder_split(path)
    scene = Scene(path, things, label or path, split, pixels=False)
    scene.is_spoiled = problems.count > before
    scenes.append(scene)
  if names is None and numbers_used:
    _ask_names(files, numbers_used)
  _tell(files, unused, without, notes, problems)
  return Scenes(
    "yolo", images, names or tuple(found_names), scenes, notes=notes
  )


def _is_list(tree: Tree, path: str) -> bool:
  """Whether a text file begins with the name of an image."""
  with tree.file(path).open("rb") as file:
    line = file.readline(4096).decode("utf-8", "replace")
  return is_named_image(line.strip())


def _ask_names(files: Files, used: Iterable[int]) -> None:
  raise errors.InputError(
    f"{files.tree.root}: labels of YOLO have the classes "
    f"{some(sorted(used))} and nothing names them: add a file classes.txt with "
    "one name a line, the first for class 0"
  )


def _settings(files: Files) -> Mapping[str, Any]:
  """What `data.yaml` says."""
  if not files.settings:
    return {}
  path = files.tree.file(files.settings)
  try:
    # Everything is text: no and yes may be classes.
    value = yaml.load(texts.text(path), Loader=yaml.BaseLoader)
  except (yaml.YAMLError, RecursionError, ValueError) as error:
    line = " ".join(str(error).split())
    raise errors.InputError(f"{path}: is no YAML ({line}): mend it") from None
  if not isinstance(value, Mapping):
    raise errors.InputError(f"{path}: must hold names: and the classes' names")
  return value


def _keypoints(settings: Mapping[str, Any]) -> int:
  """Numbers that a row of a pose has behind its box; 0: there are none."""
  shape = settings.get("kpt_shape")
  found = [number(n) for n in shape] if isinstance(shape, list) else []
  if len(found) != 2 or found[0] is None or found[1] is None:
    return 0
  return int(found[0] * found[1])


def _class_names(
  files: Files, settings: Mapping[str, Any]
) -> tuple[str, ...] | None:
  """Names by number; None: nothing names them."""
  if "names" in settings:
    names, path = settings["names"], files.settings
    if isinstance(names, Mapping):
      numbers = [number(key) for key in names]
      if sorted(numbers, key=repr) != sorted(
        map(float, range(len(names))), key=repr
      ):
        raise errors.InputError(
          f"{files.tree.file(path)}: names has the numbers "
          f"{some(names)}: must be 0, 1, ... without a gap"
        )
      names = [names[key] for key in sorted(names, key=lambda key: float(key))]
    if not isinstance(names, list) or not names:
      raise errors.InputError(
        f"{files.tree.file(path)}: names={names!r:.80} must be a list of the "
        "classes' names"
      )
    found = tuple(str(name).strip() for name in names)
    count = settings.get("nc")
    if count is not None and number(count) != len(found):
      raise errors.InputError(
        f"{files.tree.file(path)}: nc={count}, but names has {len(found)}: "
        "correct one of them"
      )
  elif files.names:
    path = files.names
    lines = texts.text(files.tree.file(path)).splitlines()
    while lines and not lines[-1].strip():
      lines.pop()
    found = tuple(line.strip() for line in lines)
  else:
    return None
  if len(set(found)) < len(found) or "" in found or not found:
    raise errors.InputError(
      f"{files.tree.file(path)}: every class needs a name of its own"
    )
  return found


def _labels_of_images(
  files: Files, images: Tree
) -> tuple[dict[str, str], list[str]]:
  """(label file by image, label files without an image)."""
  label_of: dict[str, str] = {}
  unused = []
  for label in files.labels:
    stem = posixpath.splitext(label)[0]
    found: list[str] = []
    if files.tree.root == images.root:
      # `labels` in the path stands where the images have `images`.
      parts = stem.split("/")
      for i in reversed(range(len(parts) - 1)):
        if parts[i].lower() == "labels":
          for other in ("images", "Images", "JPEGImages"):
            found = found or images.stem(
              "/".join([*parts[:i], other, *parts[i + 1 :]])
            )
      found = found or images.stem(stem)
    found = found or images.ending_stem(stem)
    for path in found if len(found) == 1 else ():
      if path not in label_of:
        label_of[path] = label
    if len(found) != 1 or label_of[found[0]] != label:
      unused.append(label)
  return label_of, unused


def _splits(
  files: Files,
  settings: Mapping[str, Any],
  images: Tree,
  problems: Problems,
) -> dict[str, str]:
  """The part of each image that a list or `data.yaml` puts somewhere."""
  splits: dict[str, str] = {}
  lists = {path: split_of(posixpath.basename(path)) for path in files.lists}
  # all.txt is of no part.
  lists = {path: split for path, split in lists.items() if split}
  base = str(settings.get("path") or "")
  for key in ("train", "val", "test"):
    places = settings.get(key) or []
    for entry in places if isinstance(places, list) else [places]:
      place = posixpath.normpath(posixpath.join(base, str(entry)))
      split = named_split(key) or ""
      if place.lower().endswith(".txt"):
        own = [p for p in files.lists if _ends_alike(p, place)]
        lists.update(dict.fromkeys(own, split))
      else:
        found = _in_folder(base, str(entry), images)
        twice = [p for p in found if splits.setdefault(p, split) != split]
        if twice:
          problems(
            f"{files.tree.file(files.settings)}: {len(twice)} images of {key} "
            f"are in {splits[twice[0]]} as well ({some(twice)}): give each "
            "part its own, or name train alone to have a fifth held out"
          )
  for path, split in lists.items():
    lines = texts.text(files.tree.file(path)).splitlines()
    names = [line.strip() for line in lines if line.strip()]
    if not names:
      problems(f"{files.tree.file(path)}: lists no image: fill or remove it")
    for name in names:
      found = images.ending(name)
      if len(found) != 1:
        problems(
          f"{files.tree.file(path)}: {name!r} "
          + ("may be several images" if found else "is not there")
          + ": correct or remove the line"
        )
      elif splits.setdefault(found[0], split) != split and path in files.lists:
        problems(
          f"{files.tree.file(path)}: {found[0]} is in {splits[found[0]]} as "
          "well: remove it from one of the lists"
        )
  return splits


def _ends_alike(path: str, place: str) -> bool:
  return posixpath.basename(path) == posixpath.basename(place)


def _in_folder(base: str, entry: str, images: Tree) -> list[str]:
  """Images below the folder whose path ends most like `base`/`entry`."""

  def parted(path: str) -> list[str]:
    words = path.replace("\\", "/").split("/")
    return [word for word in words if word not in ("", ".", "..")]

  outer = 0 if entry.startswith("/") else len(parted(base))
  parts = [*(parted(base) if outer else ()), *parted(entry)]
  for start in range(len(parts)):
    if start > outer and parts[start].lower() in ("images", "labels", "img"):
      return []  # That of another part as well.
    end = "/".join(parts[start:])
    found = [p for p in images.images if f"/{p}".find(f"/{end}/") >= 0]
    if found:
      return found
  return []


def _things(
  tree: Tree,
  label: str,
  names: tuple[str, ...] | None,
  keypoints: int,
  used: set[int],
  notes: list[str],
  problems: Problems,
) -> list[Thing]:
  path = tree.file(label)
  things: list[Thing] = []
  for line_number, line in enumerate(texts.text(path).splitlines(), 1):
    if not line.strip():
      continue
    where = f"{path} line {line_number}"
    name, values = _row(line.split(), names)
    box = _box(values, keypoints)
    if box is None or max(map(abs, box)) > _SHARE:
      problems(
        f"{where}: {line.strip()!r:.80} must be a class and 4 numbers (x y "
        "width height, 5 with a confidence) or the corners of a polygon, as "
        "shares of the image"
      )
      continue
    class_name = _named(name, names, where, used, problems)
    if class_name is not None:
      things.append(Thing(class_name, box))
  unique = list(dict.fromkeys(things))
  if len(unique) < len(things):
    notes.append(
      f"{label}: {len(things) - len(unique)} rows are written twice, read once"
    )
  return unique


def _row(
  words: list[str], names: tuple[str, ...] | None
) -> tuple[str, list[float]]:
  """(class, numbers) of a row; a class may be a name of several words."""
  values = [number(word) for word in words]
  ends = [i for i in range(1, len(words)) if None not in values[i:]]
  known = [i for i in ends if names and " ".join(words[:i]) in names]
  start = next(iter(known or ends), 0)
  return " ".join(words[:start]), [v for v in values[start:] if v is not None]


def _box(values: Sequence[float], keypoints: int) -> Corners | None:
  """xyxy of 4 numbers, 5 with a confidence, or the corners of a polygon.

  Six are none of these: three corners, or a confidence and a track.
  """
  if len(values) in (4, 5) or (keypoints and len(values) == 4 + keypoints):
    x, y, width, height = values[:4]
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
  if len(values) >= 8 and len(values) % 2 == 0:
    xs, ys = values[::2], values[1::2]
    return (min(xs), min(ys), max(xs), max(ys))
  return None


def _named(
  word: str,
  names: tuple[str, ...] | None,
  where: str,
  used: set[int],
  problems: Problems,
) -> str | None:
  """The class that a row's first word means."""
  index = number(word)
  # A number is a number: there are classes called 1 and 10.
  is_place = index is not None and names and 0 <= index < len(names)
  if names and word in names and not is_place:
    return word
  if index is None:
    if names is None:
      return word
    problems(
      f"{where}: class {word!r} is not among the {len(names)} names "
      f"({some(names)}): correct it, or the list of names"
    )
    return None
  if index == -1:
    problems(
      f"{where}: class -1 is what a converter makes of id 0 when it subtracts "
      "1, so that all others may be off by one: convert again"
    )
    return None
  used.add(int(index))
  if names is None:
    return word
  if index != int(index) or not 0 <= index < len(names):
    problems(
      f"{where}: class {word}, but there are {len(names)} names (0 to "
      f"{len(names) - 1}): correct the row, or the list of names"
    )
    return None
  return names[int(index)]


def _tell(
  files: Files,
  unused: Sequence[str],
  without: int,
  notes: list[str],
  problems: Problems,
) -> None:
  filled = [
    path for path in unused if texts.text(files.tree.file(path)).strip()
  ]
  if filled:
    problems(
      f"{files.tree.root}: {len(filled)} of {len(files.labels)} label files, "
      f"with objects, have no image of their name, or several "
      f"({some(filled)}): add the images, remove the files, or give the folder "
      "with config.data.images"
    )
  kinds: collections.Counter[str] = collections.Counter()
  kinds["empty label files without an image"] = len(unused) - len(filled)
  placing.counted(+kinds, "left out", notes)
  if without:
    notes.append(f"{without} images have no label file: they show no object")
