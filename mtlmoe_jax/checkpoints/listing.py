"""The steps of a run and what each says of itself, read without Orbax."""

import json
import pathlib
from typing import Any

_META = pathlib.PurePath("meta", "metadata")


def metas(folder: pathlib.Path) -> dict[int, dict[str, Any]]:
  """The item `meta` of each whole checkpoint.

  Args:
    folder: of the checkpoints.

  Returns:
    step -> what it says, in the order of the steps.

  Raises:
    OSError, ValueError: one cannot be read.
  """
  # A checkpoint that is being written has a longer name.
  steps = sorted(int(p.name) for p in folder.iterdir() if _is_step(p))
  found = {}
  for step in steps:
    told = json.loads((folder / str(step) / _META).read_text("utf-8"))
    if not isinstance(told, dict):
      raise ValueError(f"{folder / str(step) / _META} holds no object")
    found[step] = told
  return found


def _is_step(path: pathlib.Path) -> bool:
  return path.name.isdecimal() and path.name.isascii() and path.is_dir()
