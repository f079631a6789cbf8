"""Which image of a folder an annotation means."""

import collections
import dataclasses
from collections.abc import Callable, Sequence

from mtlmoe_jax import errors
from mtlmoe_jax.data.layouts.scenes import Scene, Thing
from mtlmoe_jax.data.layouts.tree import Tree, folder_split
from mtlmoe_jax.data.readers.problems import Problems, some

_MEND = "give the folder that they lie in with config.data.images"


@dataclasses.dataclass(slots=True)
class Said:
  """What one entry of an annotation file says.

  Attributes:
    name: of the image, as it is written.
    base: folder, in the tree, that the name may start from.
    things, where, split, size, pixels, is_spoiled: as those of a `Scene`.
  """

  name: str
  base: str
  things: list[Thing]
  where: str
  split: str = ""
  size: tuple[int, int] | None = None
  pixels: bool = True
  is_spoiled: bool = False


def place(
  said: Sequence[Said],
  tree: Tree,
  what: str,
  notes: list[str],
  problems: Problems,
) -> list[Scene]:
  """Finds each entry's image.

  A path that is there as it is written counts first; of the others the image
  whose path ends most alike, unless another entry has it by its path.

  Args:
    said: entries.
    tree: of the images.
    what: the file or files that say so, for messages.
    notes: where it is told what is left out.
    problems: where images that are not there, or not to be told from others,
      are reported.

  Returns:
    A scene of each image that is described, in the order of the entries.

  Raises:
    InputError: not one image is there; and, unless `problems` collects, the
      first problem.
  """
  paths = [tree.exact(entry.name, entry.base) for entry in said]
  taken = {path for path in paths if path is not None}
  missing: list[Said] = []
  elsewhere = 0
  by_name: list[tuple[str, str]] = []
  names = collections.Counter(_base(entry.name) for entry in said)
  for i, entry in enumerate(said):
    if paths[i] is not None:
      continue
    found = tree.ending(entry.name) or tree.ending_stem(entry.name)
    found = _nearest(found, entry)
    if len(found) == 1 and found[0] not in taken:
      if _is_elsewhere(entry.name, found[0]):
        if names[_base(entry.name)] > 1:
          # Numbers of a camera: a picture of another folder is another one.
          missing.append(entry)
          continue
        by_name.append((entry.name, found[0]))
      paths[i] = found[0]
    elif len(found) == 1 and not _is_elsewhere(entry.name, found[0]):
      elsewhere += 1
    elif len(found) > 1:
      problems(
        f"{entry.where}: {entry.name!r} may be {' or '.join(found[:2])}: write "
        "more of the path, or give the folder with config.data.images"
      )
    else:
      missing.append(entry)
  if said and not any(paths):
    raise errors.InputError(
      f"{what}: none of the {len(said)} images that it names "
      f"({some(entry.name for entry in said)}) is below {tree.root}: {_MEND}"
    )
  if by_name:
    written, there = by_name[0]
    notes.append(
      f"{len(by_name)} images of {what} were found by their file names alone, "
      f"in other folders than are written ({written} as {there})"
    )
  _tell_missing(missing, len(said), what, notes, problems)
  if elsewhere:
    notes.append(
      f"{elsewhere} entries of {what} name images of other folders, which have "
      "entries of their own"
    )
  return _merged(said, paths, what, notes, problems)


def _base(name: str) -> str:
  return name.replace("\\", "/").rpartition("/")[2].casefold()


def _is_elsewhere(name: str, path: str) -> bool:
  """Whether the folders that are written and those that are there differ."""
  written = name.replace("\\", "/").split("/")[-2:-1]
  there = path.split("/")[-2:-1]
  known = bool(written) and written[0] not in ("", ".", "..")
  return known and bool(there) and written != there


def _nearest(found: list[str], entry: Said) -> list[str]:
  """Of several images those of the entry's part, then those next to it."""
  if len(found) < 2:
    return found
  part = [p for p in found if entry.split and folder_split(p) == entry.split]
  found = part or found
  top = entry.base.partition("/")[0]
  beside = [p for p in found if top and p.startswith(f"{top}/")]
  return beside or found


def _tell_missing(
  missing: Sequence[Said],
  count: int,
  what: str,
  notes: list[str],
  problems: Problems,
) -> None:
  shown = [entry.name for entry in missing if entry.things]
  if shown:
    problems(
      f"{what}: {len(shown)} of {count} images, with objects, are not below "
      f"the folder ({some(shown)}): add them, remove their entries, or {_MEND}"
    )
  empty = [entry.name for entry in missing if not entry.things]
  if empty:
    notes.append(
      f"{len(empty)} images of {what} without objects are not there "
      f"({some(empty)})"
    )


def _merged(
  said: Sequence[Said],
  paths: Sequence[str | None],
  what: str,
  notes: list[str],
  problems: Problems,
) -> list[Scene]:
  """One scene of each image; entries that say the same are one."""
  scenes: dict[str, Scene] = {}
  twice = 0
  split_of = _splits(said, paths, notes)
  for entry, path in zip(said, paths, strict=True):
    if path is None:
      continue
    known = scenes.get(path)
    if known is None:
      scenes[path] = Scene(
        path,
        _once(entry.things, entry.where, notes),
        entry.where,
        split_of(path, entry),
        entry.size,
        entry.pixels,
        entry.is_spoiled,
      )
    elif sorted(known.things, key=repr) == sorted(set(entry.things), key=repr):
      twice += 1
    else:
      problems(
        f"{entry.where}: {path} has other objects than in {known.where}: keep "
        "one of the two entries, or give one file as config.data.path"
      )
  if twice:
    notes.append(f"{twice} entries of {what} repeat others word for word")
  return list(scenes.values())


def _splits(
  said: Sequence[Said], paths: Sequence[str | None], notes: list[str]
) -> Callable[[str, Said], str]:
  """What tells the part of an image: annotations, else its folders.

  Folders count where the annotations put all images into one part: a file
  called train.json may describe images of several.
  """
  there = [(e.split, folder_split(p)) for e, p in zip(said, paths) if p]
  told = {split for split, _ in there} - {""}
  folders = {split for _, split in there} - {""}
  by_folder = len(told) < 2 and len(folders) > 1
  differ = sum(bool(a and b and a != b) for a, b in there)
  if differ:
    which = "the folders" if by_folder else "the annotations"
    notes.append(
      f"{differ} images are in another part by their folders than by the "
      f"annotations: {which} are gone by"
    )

  def split_of(path: str, entry: Said) -> str:
    pair = (entry.split, folder_split(path))
    first, second = pair[::-1] if by_folder else pair
    return first or second

  return split_of


def _once(things: list[Thing], where: str, notes: list[str]) -> list[Thing]:
  """Objects without those written twice."""
  unique = list(dict.fromkeys(things))
  if len(unique) < len(things):
    notes.append(
      f"{where}: {len(things) - len(unique)} objects are written twice, read "
      "once"
    )
  return unique


def counted(
  things: collections.Counter[str], first: str, notes: list[str]
) -> None:
  """Adds a note of what was left out for which reason, if anything was."""
  if things:
    reasons = ", ".join(f"{n} {what}" for what, n in things.items())
    notes.append(f"{first}: {reasons}")
