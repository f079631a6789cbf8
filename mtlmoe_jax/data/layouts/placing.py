"""Which image of a folder an annotation means."""

import collections
import dataclasses
from collections.abc import Sequence

from mtlmoe_jax import errors
from mtlmoe_jax.data.layouts.scenes import Scene, Thing, some
from mtlmoe_jax.data.layouts.tree import Tree, folder_split
from mtlmoe_jax.data.readers.problems import Problems

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
    A scene of each image that is described, in the order of the entries; the
    part that its folders say comes before that of the file.

  Raises:
    InputError: not one image is there; and, unless `problems` collects, the
      first problem.
  """
  paths = [tree.exact(entry.name, entry.base) for entry in said]
  taken = {path for path in paths if path is not None}
  missing: list[Said] = []
  elsewhere = 0
  for i, entry in enumerate(said):
    if paths[i] is not None:
      continue
    found = tree.ending(entry.name) or tree.ending_stem(entry.name)
    if len(found) == 1 and found[0] not in taken:
      paths[i] = found[0]
    elif len(found) == 1:
      elsewhere += 1
    elif found:
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
  _tell_missing(missing, len(said), what, notes, problems)
  if elsewhere:
    notes.append(
      f"{elsewhere} entries of {what} name images of other folders, which have "
      "entries of their own"
    )
  return _merged(said, paths, what, notes, problems)


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
  for entry, path in zip(said, paths, strict=True):
    if path is None:
      continue
    known = scenes.get(path)
    if known is None:
      scenes[path] = Scene(
        path,
        _once(entry.things, entry.where, notes),
        entry.where,
        folder_split(path) or entry.split,
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
