"""Augmented views of a training set, with features computed once, on disk.

Letters: n records, V views of each, h w side of the gates' image (0 where gates
do not see it), H W C the features.
"""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np

from mtlmoe_jax import errors

# The arrays of a folder, each [V n, ...], view after view.
COLUMNS = ("features", "image", "label", "box", "has_label", "has_box")
# There where gates see more of the backbone than the stem has, [V n, F].
GATE_FEATURES = "gate_features"


class Views:
  """Arrays of a folder, read from disk as they are needed.

  Attributes:
    records: n.
    views: V.
  """

  def __init__(self, folder: pathlib.Path, records: int) -> None:
    """Opens what `write` wrote.

    Raises:
      InputError: a missing, damaged or unfitting array.
    """
    self.records = records
    try:
      more = (folder / f"{GATE_FEATURES}.npy").is_file()
      self._arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r")
        for name in (*COLUMNS, *([GATE_FEATURES] if more else []))
      }
    except (OSError, ValueError) as error:
      raise errors.InputError(
        f"cached features {folder} cannot be read ({error}): remove the folder"
      ) from None
    rows = {len(array) for array in self._arrays.values()}
    if len(rows) != 1 or not min(rows) or min(rows) % records:
      raise errors.InputError(
        f"cached features {folder} are not of {records} records: remove the "
        "folder"
      )
    self.views = min(rows) // records

  def row(self, view: int, index: int) -> dict[str, Any]:
    """One view of a record: its columns and its index."""
    place = view * self.records + index
    row = {name: array[place] for name, array in self._arrays.items()}
    return {**row, "index": index}

  def rows(self, indices: range) -> dict[str, np.ndarray]:
    """The first view of some records as a batch, with `index` and `valid`."""
    part = slice(indices.start, indices.stop, indices.step)
    batch = {name: array[part] for name, array in self._arrays.items()}
    index = np.asarray(indices, np.int32)
    return {**batch, "index": index, "valid": np.ones(len(index), bool)}


def write(
  folder: pathlib.Path, rows: int, batches: Iterable[dict[str, np.ndarray]]
) -> None:
  """Writes the arrays of a folder, which appears when all are complete.

  Args:
    folder: does not exist; its parents may not either.
    rows: V n.
    batches: `COLUMNS`, perhaps `GATE_FEATURES`, and `valid` of the rows, in
      order; rows that are not valid are left out.

  Raises:
    InputError: features that are not finite in float16.
  """
  folder.parent.mkdir(parents=True, exist_ok=True)
  temporary = tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")
  try:
    arrays: dict[str, np.memmap] = {}
    done = 0
    for batch in batches:
      valid = batch["valid"]
      if not np.isfinite(batch["features"][valid]).all():
        raise errors.InputError(
          "features of the frozen stem are too large for float16: train "
          "without config.features.views"
        )
      count = int(valid.sum())
      for name in (*COLUMNS, GATE_FEATURES):
        if name not in batch:
          continue
        value = batch[name][valid]
        if name not in arrays:
          arrays[name] = np.lib.format.open_memmap(
            os.path.join(temporary, f"{name}.npy"),
            mode="w+",
            dtype=value.dtype,
            shape=(rows, *value.shape[1:]),
          )
        arrays[name][done : done + count] = value
      done += count
    for array in arrays.values():
      array.flush()
    del arrays
    try:
      os.rename(temporary, folder)
    except OSError:
      # Another run of the same features was quicker.
      if not folder.is_dir():
        raise
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
