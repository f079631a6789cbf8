"""What the parts of a data set share that they should not."""

import collections

import ml_collections
import numpy as np

from mtlmoe_jax.data import similar
from mtlmoe_jax.data.opening import Data

# Pairs that are named.
_SHOWN = 3
# Inside of a part a pair is no leak.
_ORDER = ("train", "validation", "test")


def told(config: ml_collections.ConfigDict, data: Data) -> list[str]:
  """Lines about groups and near-duplicates across parts.

  Args:
    config: the whole config; `data.threads` and `data.group_by` are used.
    data: of it.

  Returns:
    Nothing where the data set is none of files.
  """
  if data.files is None:
    return []
  part_of = {name: part for part, ids in data.ids().items() for name in ids}
  parts = [part_of.get(name, "") for name in data.files.ids]
  lines = []
  if config.data.group_by and data.groups is not None:
    lines.append(_groups_line(config.data.group_by, data.groups, parts))
  return [*lines, *_near_duplicates(data, parts, config.data.threads)]


def _groups_line(spec: str, groups: np.ndarray, parts: list[str]) -> str:
  sides = [
    set(groups[[part == name for part in parts]].tolist())
    for name in ("train", "test")
  ]
  both = len(sides[0] & sides[1])
  what = "LEAK: they are judged too well" if both else "none leaks"
  return (
    f"groups of config.data.group_by={spec!r} in both train and test: {both} "
    f"of {len(np.unique(groups))} ({what})"
  )


def _near_duplicates(data: Data, parts: list[str], threads: int) -> list[str]:
  assert data.files is not None
  # Several records may be of one file.
  first = {path: i for i, path in reversed([*enumerate(data.files.paths)])}
  used = sorted(i for i in first.values() if parts[i])
  hashes, known = similar.hashes([data.files.paths[i] for i in used], threads)
  used = [i for i, is_known in zip(used, known) if is_known]
  place_of = np.array([_ORDER.index(parts[i]) for i in used], np.int64)
  counts = collections.Counter[tuple[str, str]]()
  named = collections.defaultdict[tuple[str, str], list[str]](list)
  for left, right, _ in similar.pairs(hashes[known]):
    both = np.sort(np.stack([place_of[left], place_of[right]]), axis=0)
    for a, b in np.unique(both, axis=1).T.tolist():
      here = np.flatnonzero((both[0] == a) & (both[1] == b))
      place = _ORDER[a], _ORDER[b]
      counts[place] += len(here)
      for k in here[: _SHOWN - len(named[place])]:
        i, j = used[left[k]], used[right[k]]
        if parts[i] != place[0]:
          i, j = j, i
        named[place].append(f"{data.files.ids[i]} ~ {data.files.ids[j]}")
  there = [part for part in _ORDER if part in parts]
  places = [(a, b) for n, a in enumerate(there) for b in there[n + 1 :]]
  lines = [
    f"near-duplicates (at most {similar.THRESHOLD} of 64 bits of their "
    "perceptual hashes differ):"
  ]
  for place in [*places, *((part, part) for part in there)]:
    a, b = place
    what = f"within {a}" if a == b else f"between {a} and {b}"
    line = f"  {what}: {counts[place]} pairs"
    if named[place]:
      more = ", ..." if counts[place] > _SHOWN else ""
      line += f" ({', '.join(named[place])}{more})"
    lines.append(line)
  if any(counts[place] for place in places):
    lines.append(
      "  LEAK: hold them out together with config.data.group_by='similar'"
    )
  return lines
