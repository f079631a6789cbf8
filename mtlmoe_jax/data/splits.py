"""Which record goes where: split schemes, class subsets, validation.

Letters: n records.
"""

from collections.abc import Sequence

import numpy as np

from mtlmoe_jax import errors

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
  labels: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """A seeded part of each class is held out.

  Of a class with n_c >= 2 images round(share n_c) are held out, at least one
  and at most n_c - 1; a class with one image keeps it. Records without a label
  (-1) are kept.

  Args:
    labels: i32 [n].
    share: in (0, 1).
    seed: of the choice; the choice of one class does not depend on others.

  Returns:
    (kept, held_out) positions, each in the order given.
  """
  held_out = np.zeros(len(labels), bool)
  for label in np.unique(labels[labels >= 0]):
    members = np.flatnonzero(labels == label)
    if len(members) >= 2:
      count = min(max(1, round(share * len(members))), len(members) - 1)
      random = np.random.default_rng([seed, int(label)])
      held_out[random.permutation(members)[:count]] = True
  return np.flatnonzero(~held_out), np.flatnonzero(held_out)


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
