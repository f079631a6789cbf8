"""Weights files to named arrays; no file can run code."""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.pretrained.formats import safetensors_file, torch_file

# The key of a `.safetensors` file's metadata that holds ours, as JSON.
FACTS = "mtlmoe_jax"
# What is saved in place of a file when a download goes wrong.
_NO_WEIGHTS = {
  b"<!doctype": "a web page",
  b"<html": "a web page",
  b"version https://git-lfs": "a pointer of Git LFS",
}


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads a file of named arrays; its ending tells the format.

  Args:
    path: a `.safetensors`, `.npz`, `.pth` or `.pt` file.

  Returns:
    Arrays by the names of the file, in the stored dtypes.

  Raises:
    InputError: no such file, another ending, or a damaged or unsafe file.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise errors.InputError(
      f"weights file {path} does not exist (or is a folder); check the path"
    )
  read = _READERS.get(path.suffix)
  if read is None:
    raise errors.InputError(
      f"weights file {path}: unknown ending {path.suffix!r}; give a "
      f"{', '.join(_READERS)} file"
    )
  with path.open("rb") as file:
    start = file.read(64).lstrip().lower()
  for mark, what in _NO_WEIGHTS.items():
    if start.startswith(mark):
      raise errors.InputError(
        f"weights file {path} is {what}, not weights: fetch the file itself"
      )
  return _guarded(read, path)


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
  """What an exported file says of itself (see `export`); else nothing.

  Raises:
    InputError: a damaged file.
  """
  path = pathlib.Path(path)
  if path.suffix != ".safetensors":
    return {}
  metadata = _guarded(safetensors_file.read_metadata, path)
  return _guarded(lambda _: dict(json.loads(metadata.get(FACTS, "{}"))), path)


def _guarded(read: Callable[[pathlib.Path], Any], path: pathlib.Path) -> Any:
  try:
    return read(path)
  except errors.InputError:
    raise
  # A damaged or hostile file breaks a parser in any of its places.
  except Exception as error:
    text = " ".join(f"{type(error).__name__}: {error}".split())[:160]
    raise errors.InputError(
      f"weights file {path} is damaged or no {path.suffix} file ({text}); "
      "fetch it again"
    ) from None


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
  with np.load(path, allow_pickle=False) as archive:
    return {name: archive[name] for name in archive.files}


_READERS = {
  ".safetensors": safetensors_file.read_safetensors,
  ".npz": _read_npz,
  ".pth": torch_file.read_torch,
  ".pt": torch_file.read_torch,
}
