"""Camtrap DP: tables of a camera-trap project.

camtrap-dp.tdwg.org, 1.0. Boxes are bboxX, bboxY (top left), bboxWidth and
bboxHeight as shares of the image; the class is `scientificName`.
"""

import collections
import posixpath

from mtlmoe_jax import errors
from mtlmoe_jax.data.images import is_named_image
from mtlmoe_jax.data.layouts import placing
from mtlmoe_jax.data.layouts.scenes import Scenes, Thing, from_corner, numbers
from mtlmoe_jax.data.layouts.texts import Table
from mtlmoe_jax.data.layouts.tree import Tree
from mtlmoe_jax.data.readers.problems import Problems, some

MEDIA, OBSERVATIONS = "media.csv", "observations.csv"
# What R writes for nothing.
_EMPTY = ("", "NA")
_BOX = ("bboxX", "bboxY", "bboxWidth", "bboxHeight")


def read(
  media: Table, observations: Table, tree: Tree, problems: Problems
) -> Scenes:
  """Reads the tables of a package.

  An image whose observations are all `blank` shows nothing; one of which it is
  not known what it shows (`unknown`, `unclassified`, an animal without a name
  where others have one) is left out.

  Args:
    media: of `media.csv`.
    observations: of `observations.csv`.
    tree: of the images.
    problems: where mistakes are reported.

  Returns:
    The scenes.

  Raises:
    InputError: a column is missing; and see `placing.place`.
  """
  for table, columns in (
    (media, ("mediaID", "filePath")),
    (observations, ("mediaID", "observationType")),
  ):
    missing = [name for name in columns if name not in table.columns]
    if missing:
      raise errors.InputError(
        f"{tree.root}: {table.path} has no column {', '.join(missing)} (it has "
        f"{some(table.columns)}): export it again as Camtrap DP"
      )
  left_out: collections.Counter[str] = collections.Counter()
  notes: list[str] = []
  said: dict[str, placing.Said] = {}
  base = posixpath.dirname(media.path)
  videos: set[str] = set()
  for line, row in media.rows:
    kind = row.get("fileMediatype", "")
    if kind and not kind.startswith("image/"):
      left_out["media that are no images"] += 1
      videos.add(row.get("mediaID", ""))
      continue
    key, name = row.get("mediaID", ""), _file(row)
    if not key or not name:
      problems(
        f"{media.path} line {line}: needs mediaID and filePath: add them"
      )
    elif key in said:
      problems(f"{media.path} line {line}: mediaID {key!r} is written twice")
    else:
      where = f"{observations.path} {key}"
      said[key] = placing.Said(name, base, [], where, pixels=False)
  named = any(row.get("scientificName") for _, row in observations.rows)
  if not named:
    notes.append(
      f"{observations.path}: scientificName is empty everywhere; the class is "
      "observationType"
    )
  known: set[str] = set()
  unknown: set[str] = set()
  for line, row in observations.rows:
    key = row.get("mediaID", "")
    if key in videos and key:
      left_out["observations of media that are no images"] += 1
      continue
    if key in _EMPTY or row.get("observationLevel") == "event":
      left_out["observations of events, not of an image"] += 1
      continue
    where = f"{observations.path} line {line}"
    if key not in said:
      problems(
        f"{where}: mediaID {key!r} is not an image of {media.path}: correct it"
      )
      continue
    kind = row.get("observationType", "")
    name = row.get("scientificName", "") if named else kind
    if kind == "blank":
      known.add(key)
      continue
    if not name or kind in ("unknown", "unclassified"):
      unknown.add(key)
      continue
    thing = _thing(name, row, where, problems)
    known.add(key)
    if thing is not None:
      said[key].things.append(thing)
    else:
      said[key].is_spoiled = True
  if unknown:
    left_out["images of which something is not named"] = len(unknown)
  silent = len(said.keys() - known - unknown)
  if silent:
    left_out["images without an observation"] = silent
  placing.counted(left_out, f"left out of {observations.path}", notes)
  entries = [said[key] for key in said if key in known - unknown]
  scenes = placing.place(entries, tree, media.path, notes, problems)
  return Scenes("camtrap_dp", tree, (), scenes, notes=notes)


def _file(row: dict[str, str]) -> str:
  """Where a medium lies; some servers end its address without its name."""
  path, name = row.get("filePath", ""), row.get("fileName", "")
  if not is_named_image(path) and is_named_image(name):
    return posixpath.join(posixpath.dirname(path), name)
  return path


def _thing(
  name: str, row: dict[str, str], where: str, problems: Problems
) -> Thing | None:
  texts = [row.get(column, "") for column in _BOX]
  if all(text in _EMPTY for text in texts):
    return Thing(name, None)
  values = numbers(texts, 4)
  if values is None:
    problems(
      f"{where}: {','.join(texts)!r} must be four numbers {','.join(_BOX)}"
    )
    return None
  return Thing(name, from_corner(*values))
