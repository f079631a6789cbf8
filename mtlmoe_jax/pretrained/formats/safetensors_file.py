"""Reads and writes `.safetensors`: a JSON header, then raw values.

Layout (format specification of the safetensors project): 8 bytes, the header's
length N, unsigned little-endian; N bytes of JSON, `{name: {"dtype", "shape",
"data_offsets": [begin, end]}}` and an optional `__metadata__` of strings; the
values, little-endian, row-major, without gaps or overlaps.
"""

import json
import math
import os
import pathlib
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.utils import files

MAX_HEADER_BYTES = 100_000_000  # the specification's bound
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
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_METADATA = "__metadata__"


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads all tensors of a file.

  Args:
    path: the file.

  Returns:
    Read-only arrays by name, in the stored dtype.

  Raises:
    Exception: of many kinds, when the header breaks the format or does not
      fit the file.
  """
  with path.open("rb") as file:
    header, _ = _read_header(file, path.stat().st_size)
    values = file.read()
  found = {}
  at = 0
  for name, entry in sorted(header.items(), key=lambda e: _offsets(e[1])):
    dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
    begin, end = _offsets(entry)
    if any(type(n) is not int or n < 0 for n in (begin, end, *shape)):
      raise ValueError(f"{name}: a size that is no natural number")
    if begin != at or end - begin != math.prod(shape) * dtype.itemsize:
      raise ValueError(f"{name}: its bytes overlap, leave a gap or misfit")
    if end > len(values):
      raise ValueError(f"{name}: cut short")
    found[name] = np.frombuffer(values[begin:end], dtype).reshape(shape)
    at = end
  if at != len(values):
    raise ValueError("bytes behind the last tensor")
  return {name: found[name] for name in header}


def read_metadata(path: pathlib.Path) -> dict[str, str]:
  """The short texts that a file holds beside its tensors.

  Args:
    path: the file.

  Raises:
    Exception: of many kinds, when the header breaks the format.
  """
  with path.open("rb") as file:
    return _read_header(file, path.stat().st_size)[1]


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
    InputError: an array whose dtype the format does not know.
  """
  arrays = {name: np.asarray(value) for name, value in tensors.items()}
  header: dict[str, Any] = {}
  if metadata:
    header[_METADATA] = {str(k): str(v) for k, v in metadata.items()}
  # Widest first, so that every tensor starts at a multiple of its item size.
  order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
  end = 0
  for name in order:
    array = arrays[name]
    if array.dtype not in _NAMES or name == _METADATA:
      raise errors.InputError(
        f"{path}: cannot store {name!r} of dtype {array.dtype}: use one of "
        + ", ".join(str(d) for d in _NAMES)
      )
    begin, end = end, end + array.nbytes
    header[name] = {
      "dtype": _NAMES[array.dtype],
      "shape": list(array.shape),
      "data_offsets": [begin, end],
    }
  text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
  text += b" " * (-len(text) % 8)
  values = b"".join(arrays[name].tobytes() for name in order)
  files.write_bytes(path, len(text).to_bytes(8, "little") + text + values)


def _read_header(
  file: BinaryIO, size: int
) -> tuple[dict[str, Any], dict[str, str]]:
  """(entries of the tensors, metadata); the file is then at the values."""
  length = int.from_bytes(file.read(8), "little")
  if size < 8 or length > min(MAX_HEADER_BYTES, size - 8):
    raise ValueError("the header reaches past the end of the file")
  text = file.read(length)
  if not text.startswith(b"{"):
    raise ValueError("the header is no JSON object")
  header = json.loads(text, object_pairs_hook=_unique)
  metadata = header.pop(_METADATA, {})
  if any(not isinstance(text, str) for text in metadata.values()):
    raise ValueError("metadata that is no text")
  return header, metadata


def _offsets(entry: dict[str, Any]) -> tuple[int, int]:
  begin, end = entry["data_offsets"]
  return begin, end


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  if len({key for key, _ in pairs}) != len(pairs):
    raise ValueError("a name twice in the header")
  return dict(pairs)
