"""Writing files so that nothing is ever half-written, and taking turns."""

import contextlib
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Iterator
from types import ModuleType
from typing import Any

fcntl: ModuleType | None
try:
  import fcntl
except ImportError:  # Windows
  fcntl = None


def write_bytes(
  path: str | os.PathLike, data: bytes, durable: bool = True
) -> None:
  """Writes to a temporary name in the same folder, then renames.

  Args:
    path: the file; its folder is made where missing.
    data: all of it.
    durable: whether it must be whole after a power cut, too.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
  try:
    with os.fdopen(handle, "wb") as file:
      file.write(data)
      if durable:
        file.flush()
        os.fsync(file.fileno())
    # mkstemp makes private files; results are meant to be read by others.
    os.chmod(name, 0o666 & ~_umask())
    os.replace(name, path)
  except BaseException:
    pathlib.Path(name).unlink(missing_ok=True)
    raise


def write_text(path: str | os.PathLike, text: str) -> None:
  """UTF-8 text, atomically."""
  write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Indented JSON, atomically; NaN and infinity become null."""
  text = json.dumps(plain(value), indent=2, allow_nan=False)
  write_text(path, text + "\n")


@contextlib.contextmanager
def claim(path: str | os.PathLike) -> Iterator[bool]:
  """Claims a piece of work among the processes that see this file.

  The claim ends with the block, or with the process, however it dies. On
  Windows nothing is claimed: everyone gets it.

  Args:
    path: of the lock file; made where missing, and left there.

  Yields:
    Whether the claim is ours; False while another one has it.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, "ab") as file:
    try:
      if fcntl:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      yield False
      return
    yield True


def plain(value: Any) -> Any:
  """Arrays, NumPy scalars and tuples as what JSON knows."""
  if isinstance(value, dict):
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [plain(v) for v in value]
  if hasattr(value, "tolist"):
    return plain(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _umask() -> int:
  mask = os.umask(0)
  os.umask(mask)
  return mask
