"""Reads `.pth` / `.pt` files without PyTorch and without running pickles.

Two containers exist: since PyTorch 1.6 a zip archive with `NAME/data.pkl` and
one member `NAME/data/KEY` per storage; before that five pickles in a row
(magic number, protocol, system, object, storage keys) followed by each
storage as an 8-byte count and its values. Both are little-endian.
"""

import io
import math
import pathlib
import zipfile
from typing import Any

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.pretrained.formats import pickle_data

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
# Where training scripts keep the weights inside a larger checkpoint.
_CONTAINER_KEYS = ("state_dict", "model", "model_state_dict")


def read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads the tensors of a state dict, in the file's order.

  Args:
    path: a file that `torch.save` wrote, zip or legacy format. A checkpoint
      that holds the state dict under `state_dict`, `model` or
      `model_state_dict` is opened.

  Returns:
    Arrays by name, contiguous, in the stored dtype (bfloat16 as
    `ml_dtypes.bfloat16`).

  Raises:
    InputError: not such a file, cut short, a tensor that reaches outside of
      its storage, or a pickle that asks for more than tensors.
    Exception: of many kinds, when the file is damaged.
  """
  data = path.read_bytes()
  zipped = data[:4] == b"PK\x03\x04"
  tree, values = _read_zip(data, path) if zipped else _read_legacy(data, path)
  return {
    name: _materialize(tensor, values, f"{path}: {name!r}")
    for name, tensor in _state_dict(tree, path).items()
  }


def _read_zip(
  data: bytes, path: pathlib.Path
) -> tuple[Any, dict[str, np.ndarray]]:
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    members = {m.filename: m for m in archive.infolist()}
    roots = [n[: -len("data.pkl")] for n in members if n.endswith("/data.pkl")]
    if len(roots) != 1:
      raise errors.InputError(
        f"{path}: a zip archive that torch.save did not write (no "
        "NAME/data.pkl); give a .pth, .safetensors or .npz file"
      )

    def load(name: str) -> bytes:
      member = members[roots[0] + name]
      # PyTorch never compresses; a compressed member may be a zip bomb.
      if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
      return archive.read(member)

    # Absent from the files of PyTorch before 2.1, which are little-endian.
    if roots[0] + "byteorder" in members:
      _check_order(load("byteorder") == b"little", path)
    tree, storages = pickle_data.read_pickle(
      io.BytesIO(load("data.pkl")), str(path)
    )
    return tree, {
      key: _values(load(f"data/{key}"), 0, storage, path)
      for key, storage in storages.items()
    }


def _read_legacy(
  data: bytes, path: pathlib.Path
) -> tuple[Any, dict[str, np.ndarray]]:
  file = io.BytesIO(data)
  if data[:2] != b"\x80\x02" or _load(file, path) != MAGIC_NUMBER:
    raise errors.InputError(
      f"{path}: not a file of torch.save (it starts with {data[:8]!r}); "
      "give a .pth, .safetensors or .npz file"
    )
  if (protocol := _load(file, path)) != PROTOCOL_VERSION:
    raise errors.InputError(f"{path}: unknown PyTorch protocol {protocol!r}")
  _check_order(_load(file, path)["little_endian"] is True, path)
  tree, storages = pickle_data.read_pickle(file, str(path))
  values = {}
  keys = _load(file, path)
  at = file.tell()
  for key in keys:
    storage = storages[key]
    count = int.from_bytes(data[at : at + 8], "little")
    if len(data) >= at + 8 and count != storage.count:
      raise ValueError(f"storage {key} has {count} values, not {storage.count}")
    values[key] = _values(data, at + 8, storage, path)
    at += 8 + values[key].nbytes
  return tree, values


def _load(file: io.BytesIO, path: pathlib.Path) -> Any:
  return pickle_data.read_pickle(file, str(path))[0]


def _check_order(little: bool, path: pathlib.Path) -> None:
  if not little:
    raise errors.InputError(
      f"{path}: written on a big-endian machine; save it again on another"
    )


def _values(
  data: bytes, start: int, storage: pickle_data.Storage, path: pathlib.Path
) -> np.ndarray:
  size = storage.count * storage.dtype.itemsize
  if len(data) - start < size:
    raise errors.InputError(
      f"{path}: cut short: storage {storage.key!r} needs {size} bytes and "
      f"{max(len(data) - start, 0)} are there; fetch it again"
    )
  return np.frombuffer(data[start : start + size], storage.dtype)


def _state_dict(tree: Any, path: pathlib.Path) -> dict[str, pickle_data.Tensor]:
  """The tensors of the state dict, here or one level below."""
  if isinstance(tree, dict):
    for candidate in (tree, *(tree.get(key) for key in _CONTAINER_KEYS)):
      if isinstance(candidate, dict):
        tensors = {
          k: v
          for k, v in candidate.items()
          if isinstance(v, pickle_data.Tensor) and isinstance(k, str)
        }
        if tensors:
          return tensors
  raise errors.InputError(
    f"{path}: holds no state dict (a dict of named tensors); save the "
    "weights with torch.save(model.state_dict(), FILE)"
  )


def _materialize(
  tensor: pickle_data.Tensor, storages: dict[str, np.ndarray], where: str
) -> np.ndarray:
  """The values of a strided view, copied to a contiguous array."""
  values = storages[tensor.storage.key]
  shape, strides, offset = tensor.shape, tensor.strides, tensor.offset
  count = math.prod(shape)
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides))
  # The first test also bars expanded tensors (stride 0), whose copy could be
  # far larger than the file.
  if count > values.size or (count and last >= values.size):
    raise errors.InputError(
      f"{where}: shape {shape}, strides {strides} and offset {offset} reach "
      f"outside of its storage of {values.size} values; fetch it again"
    )
  if not count:
    return np.empty(shape, values.dtype)
  steps = [s * values.itemsize for s in strides]
  view = np.lib.stride_tricks.as_strided(values[offset:], shape, steps)
  return view.copy()
