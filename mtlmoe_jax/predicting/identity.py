"""By what a row is known again when a prediction goes on."""

import collections
import hashlib
import json
import os
from collections.abc import Sequence

from mtlmoe_jax.predicting.inputs import Item


def keys(items: Sequence[Item]) -> list[str]:
  """A text for each item, all different."""
  counts: collections.Counter[str] = collections.Counter()
  found = []
  for item in items:
    key = "|".join(
      (
        item.path,
        "" if item.frame is None else str(item.frame),
        "" if item.detection is None else str(item.detection.box),
      )
    )
    counts[key] += 1
    found.append(f"{key}|{counts[key]}")
  return found


def signatures(
  items: Sequence[Item],
  names: Sequence[str],
  stems: Sequence[str],
  size: int,
) -> list[str]:
  """For each item a digest of its batch: files, and names of pictures.

  The last bits of an answer depend on its place in the batch, and perhaps on
  what else is there: a row of another batch is not the same.

  Args:
    items: all of them.
    names: of each, from `keys`.
    stems: names of the pictures of each.
    size: images of a batch.
  """
  found: list[str] = []
  last, state = "", ""
  for begin in range(0, len(items), size):
    digest = hashlib.sha256()
    batch = range(begin, min(begin + size, len(items)))
    for number in batch:
      if items[number].path != last:
        last = items[number].path
        state = _state(last)
      # Any name, also one that is no Unicode.
      digest.update(json.dumps([names[number], state, stems[number]]).encode())
    found += [digest.hexdigest()[:16]] * len(batch)
  return found


def _state(path: str) -> str:
  """Size and time of a file; "" where there is none."""
  try:
    stat = os.stat(path)
  except OSError:
    return ""
  return f"{stat.st_size} {stat.st_mtime_ns}"
