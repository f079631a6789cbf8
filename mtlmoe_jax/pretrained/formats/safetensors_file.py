"""Reads and writes `.safetensors`, by the library of that name.

The library checks that the header fits the file. It takes the last of two
entries of one name; here that is refused, for two readers could see two
files.
"""

import json
import os
import pathlib
from typing import Any

import ml_dtypes
import numpy as np
import safetensors.numpy

from mtlmoe_jax import errors
from mtlmoe_jax.utils import files

_DTYPES = {
  "F64": np.dtype(np.float64),
  "F32": np.dtype(np.float32),
  "F16": np.dtype(np.float16),
  "BF16": np.dtype(ml_dtypes.bfloat16),
  "I64": np.dtype(np.int64),
  "I32": np.dtype(np.int32),
  "I16": np.dtype(np.int16),
  "I8": np.dtype(np.int8),
  "U64": np.dtype(np.uint64),
  "U32": np.dtype(np.uint32),
  "U16": np.dtype(np.uint16),
  "U8": np.dtype(np.uint8),
  "BOOL": np.dtype(np.bool_),
}
_METADATA = "__metadata__"


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads all tensors of a file.

  Args:
    path: the file.

  Returns:
    Read-only arrays by name, in the stored dtype and order.

  Raises:
    Exception: of several kinds, when the header breaks the format or does not
      fit the file.
  """
  data = path.read_bytes()
  tensors = dict(safetensors.deserialize(data))
  length = int.from_bytes(data[:8], "little")
  header = json.loads(data[8 : 8 + length], object_pairs_hook=_unique)
  return {name: _array(tensors[name]) for name in header if name != _METADATA}


def _array(tensor: dict[str, Any]) -> np.ndarray:
  values = memoryview(tensor["data"]).toreadonly()
  return np.frombuffer(values, _DTYPES[tensor["dtype"]]).reshape(
    tensor["shape"]
  )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  if len({key for key, _ in pairs}) != len(pairs):
    raise ValueError("a name twice in the header")
  return dict(pairs)


def read_metadata(path: pathlib.Path) -> dict[str, str]:
  """The short texts that a file holds beside its tensors.

  Args:
    path: the file.

  Raises:
    SafetensorError: the header breaks the format.
  """
  with safetensors.safe_open(path, "numpy") as file:
    return file.metadata() or {}


def save_safetensors(
  path: str | os.PathLike[str],
  tensors: dict[str, Any],
  metadata: dict[str, str] | None = None,
) -> None:
  """Writes arrays to a file, atomically.

  Args:
    path: the file; replaced if it is there.
    tensors: arrays (NumPy or JAX) by name.
    metadata: short texts such as the source and the licence.

  Raises:
    InputError: an array whose dtype `read_safetensors` does not know.
  """
  # The library writes memory as it lies: rows must follow each other.
  arrays = {k: np.asarray(v, order="C") for k, v in tensors.items()}
  for name, array in arrays.items():
    if array.dtype not in _DTYPES.values() or name == _METADATA:
      raise errors.InputError(
        f"{path}: cannot store {name!r} of dtype {array.dtype}: use one of "
        + ", ".join(map(str, _DTYPES.values()))
      )
  texts = {str(k): str(v) for k, v in (metadata or {}).items()}
  data = safetensors.numpy.save(arrays, texts or None)
  files.write_bytes(path, data)
