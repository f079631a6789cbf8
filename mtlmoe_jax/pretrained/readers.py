"""Weights files to named arrays; no file can run code."""

import os
import pathlib

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.pretrained import safetensors_file, torch_file


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
  read = _READERS.get(path.suffix)
  if read is None:
    raise errors.InputError(
      f"weights file {path}: unknown ending {path.suffix!r}; give a "
      f"{', '.join(_READERS)} file"
    )
  if not path.is_file():
    raise errors.InputError(
      f"weights file {path} does not exist (or is a folder); check the path"
    )
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
