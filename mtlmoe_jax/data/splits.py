"""Which record goes where: split schemes, class subsets, validation, folds.

Letters: n records.
"""

import collections
import hashlib
from collections.abc import Sequence

import numpy as np

from mtlmoe_jax import errors

# Share of each class that is held out where files have no split. Its seed is
# fixed, so that runs with different seeds are tested on the same images.
TEST_SHARE = 0.2
TEST_SEED = 0
_TENTH = 10


def poster_split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The poster's scheme: of each class every tenth image is a test image.

  The first, eleventh, ... image of a class in file order goes to test: that is
  ceil(0.1 n_c) of its n_c images, and 1,191 of CUB's 11,788. The poster shows
  these numbers; which images it took is not known.

  Args:
    labels: i32 [n], in file order.

  Returns:
    (train, test) positions, each in file order.
  """
  test = np.zeros(len(labels), bool)
  for label in np.unique(labels):
    test[np.flatnonzero(labels == label)[::_TENTH]] = True
  return np.flatnonzero(~test), np.flatnonzero(test)


def hold_out(
  labels: np.ndarray,
  share: float,
  seed: int,
  ids: Sequence[str] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """A seeded part of each class is held out.

  Of a class with n_c >= 2 images round(share n_c) are held out, at least one
  and at most n_c - 1; a class with one image keeps it. Records without a label
  (-1) are kept.

  Args:
    labels: i32 [n].
    share: in (0, 1).
    seed: of the choice; the choice of one class does not depend on others.
    ids: n names. With them those are chosen whose names have the smallest
      digests: the order of the records does not matter, and one image more or
      less moves at most one other, of its class. Without them it goes by
      position: for sources that are always the same.

  Returns:
    (kept, held_out) positions, each in the order given.
  """
  held_out = np.zeros(len(labels), bool)
  for label in np.unique(labels[labels >= 0]):
    members = np.flatnonzero(labels == label)
    if len(members) < 2:
      continue
    count = min(max(1, round(share * len(members))), len(members) - 1)
    if ids is None:
      random = np.random.default_rng([seed, int(label)])
      members = random.permutation(members)
    else:
      digests = [_digest(seed, ids[int(i)]) for i in members]
      members = members[np.argsort(np.array(digests, "S32"))]
    held_out[members[:count]] = True
  return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def hold_out_groups(
  labels: np.ndarray,
  groups: np.ndarray,
  share: float,
  seed: int,
  ids: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
  """As `hold_out`, whole groups: no group is in both parts.

  Groups are looked at in the order of the digests of their names, that of
  their smallest id; one is held out where that brings its classes nearer to
  their share. A class that has none yet then gets its smallest group. Of each
  class a group is kept, so one with a single group keeps all its images.
  Classes that share no group do not depend on each other.

  Args:
    labels: i32 [n]; records of -1 go with their group.
    groups: i64 [n].
    share: in (0, 1).
    seed: of the choice.
    ids: n names, each there once.

  Returns:
    (kept, held_out) positions, each in the order given.
  """
  counts, names = _of_groups(labels, groups, ids)
  left = collections.Counter(c for count in counts.values() for c in count)
  sizes = collections.Counter(labels[labels >= 0].tolist())
  need = {
    c: float(max(1, round(share * n)) if left[c] > 1 else 0)
    for c, n in sizes.items()
  }
  held: set[int] = set()

  def hold(group: int) -> None:
    held.add(group)
    for c, n in counts[group].items():
      need[c] -= n
      left[c] -= 1

  order = sorted(counts, key=lambda g: _digest(seed, names[g]))
  for group in order:
    count = counts[group]
    gain = sum(abs(need[c]) - abs(need[c] - n) for c, n in count.items())
    if gain > 0 and all(left[c] > 1 for c in count):
      hold(group)
  for label in sorted(sizes):
    own = [g for g in order if label in counts[g]]
    free = [g for g in own if all(left[c] > 1 for c in counts[g])]
    if free and held.isdisjoint(own):
      hold(min(free, key=lambda g: sum(counts[g].values())))
  is_held = np.isin(groups, list(held))
  return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def fold_groups(
  labels: np.ndarray,
  groups: np.ndarray,
  folds: int,
  seed: int,
  ids: Sequence[str],
) -> np.ndarray:
  """Parts records into folds of whole groups, each class as evenly as can be.

  The largest groups are dealt out first, each to the fold that has least of
  its classes; equal ones by the digests of their names.

  Args:
    labels: i32 [n].
    groups: i64 [n]; of different values, records are parted one by one.
    folds: how many.
    seed: of the choice.
    ids: n names.

  Returns:
    i32 [n], from 0; some folds are empty where there are fewer groups.
  """
  counts, names = _of_groups(labels, groups, ids)
  sizes = collections.Counter(groups.tolist())
  has = collections.defaultdict[int, np.ndarray](lambda: np.zeros(folds))
  total = np.zeros(folds)
  fold_of = {}
  for g in sorted(sizes, key=lambda g: (-sizes[g], _digest(seed, names[g]))):
    load = sum((n * has[c] for c, n in counts[g].items()), np.zeros(folds))
    fold = int(np.lexsort((total, load))[0])
    fold_of[g] = fold
    total[fold] += sizes[g]
    for c, n in counts[g].items():
      has[c][fold] += n
  return np.asarray([fold_of[g] for g in groups.tolist()], np.int32)


def shuffle_folds(
  labels: np.ndarray, folds: np.ndarray, seed: int, ids: Sequence[str]
) -> np.ndarray:
  """Deals the folds of each class out anew among its records.

  Args:
    labels: i32 [n].
    folds: i32 [n].
    seed: of the choice.
    ids: n names, whose digests choose.

  Returns:
    i32 [n]: each fold has as many of each class as before.
  """
  digests = np.array([_digest(seed, name) for name in ids], "S32")
  out = np.empty_like(folds)
  for label in np.unique(labels):
    members = np.flatnonzero(labels == label)
    out[members[np.argsort(digests[members])]] = np.sort(folds[members])
  return out


def group_names(groups: np.ndarray, ids: Sequence[str]) -> dict[int, str]:
  """The name of each group, which no order changes: its smallest id."""
  names: dict[int, str] = {}
  for group, name in zip(groups.tolist(), ids, strict=True):
    names[group] = min(name, names.get(group, name))
  return names


def _of_groups(
  labels: np.ndarray, groups: np.ndarray, ids: Sequence[str]
) -> tuple[dict[int, collections.Counter[int]], dict[int, str]]:
  """Images of each class in each group, and the names of the groups."""
  names = group_names(groups, ids)
  counts = {group: collections.Counter[int]() for group in names}
  for group, label in zip(groups.tolist(), labels.tolist()):
    if label >= 0:
      counts[group][label] += 1
  return counts, names


def _digest(seed: int, name: str) -> str:
  """What orders names: chance that is the same on every machine."""
  # A file's name need not be text.
  text = f"{seed} {name}".encode("utf-8", "surrogatepass")
  return hashlib.blake2b(text, digest_size=16).hexdigest()


def choose_classes(
  class_names: Sequence[str], wanted: str | Sequence[str]
) -> list[int]:
  """Labels of a class subset.

  Args:
    class_names: all classes, in order.
    wanted: "all", "first:N", "last:N", "except_last:N", or names and
      zero-based indices as a sequence or joined by commas. A name wins over an
      index that is written the same.

  Returns:
    Labels in the order of `class_names`, whatever the order in `wanted`.

  Raises:
    InputError: an unknown class, a repeated one, a bad N or an empty subset.
  """
  count = len(class_names)
  option = f"config.data.classes={wanted!r}"
  if isinstance(wanted, str):
    if wanted == "all":
      return list(range(count))
    kind, colon, number = wanted.partition(":")
    if colon and kind in ("first", "last", "except_last"):
      if not number.isdigit() or not 1 <= int(number) <= count:
        raise errors.InputError(
          f"{option}: {number!r} must be a number of classes from 1 to {count}"
        )
      n = int(number)
      chosen = {
        "first": range(n),
        "last": range(count - n, count),
        "except_last": range(count - n),
      }[kind]
      if not chosen:
        raise errors.InputError(f"{option}: leaves none of {count} classes")
      return list(chosen)
    wanted = wanted.split(",")
  items = [str(item).strip() for item in wanted]
  items = [item for item in items if item]
  labels = [_label(item, class_names, option) for item in items]
  if not labels:
    raise errors.InputError(
      f"{option}: names no class; use all, first:N, last:N, except_last:N or "
      "names"
    )
  if len(set(labels)) < len(labels):
    raise errors.InputError(f"{option}: names a class twice")
  return sorted(labels)


def _label(item: str, class_names: Sequence[str], option: str) -> int:
  if item in class_names:
    return list(class_names).index(item)
  if item.isdigit() and int(item) < len(class_names):
    return int(item)
  raise errors.InputError(
    f"{option}: unknown class {item!r}; there are {len(class_names)}, from "
    f"{class_names[0]!r} (0) to {class_names[-1]!r} ({len(class_names) - 1})"
  )
