"""Digests: of a model's variables, and of files that may have changed."""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def digest(arrays: Mapping[str, Any]) -> str:
  """SHA-256 of named arrays, whatever file they came from.

  Of each array, in the order of the names: name, dtype, shape and its bytes
  (rows one after the other, little-endian).

  Args:
    arrays: name -> array, of NumPy or on a device.

  Returns:
    64 hex digits.
  """
  total = hashlib.sha256()
  for name in sorted(arrays):
    array = np.asarray(arrays[name])
    little = array.dtype.newbyteorder("<")
    array = np.ascontiguousarray(array, little).reshape(array.shape)
    head = f"{name}\0{array.dtype.name}\0{array.shape}\0"
    total.update(head.encode())
    # Extension types (bfloat16) give no buffer of their own.
    total.update(array.reshape(-1).view(np.uint8).data)
  return total.hexdigest()


def identity(folder: pathlib.Path) -> str:
  """Whether the files of a folder may have changed, without reading them.

  Args:
    folder: searched to any depth.

  Returns:
    64 hex digits of names, sizes and times of the last change.

  Raises:
    OSError: the folder cannot be read.
  """
  rows = []
  for path in sorted(folder.rglob("*")):
    if path.is_file():
      facts = path.stat()
      name = path.relative_to(folder).as_posix()
      rows.append(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\n")
  return hashlib.sha256("".join(rows).encode()).hexdigest()
