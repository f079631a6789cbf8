"""Reads the pickle inside a PyTorch file as data: nothing of it is run.

`pickle.load` imports and calls whatever a file names. Here `pickletools`
splits the stream into opcodes and a small stack machine interprets only those
that plain containers, numbers, strings and tensors need. A global is a name
that is looked up in a table of ours, never an import, and `REDUCE` calls one
of our own functions; anything else is refused.
"""

import dataclasses
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from mtlmoe_jax import errors

STORAGE_DTYPES = {
  "DoubleStorage": np.dtype(np.float64),
  "FloatStorage": np.dtype(np.float32),
  "HalfStorage": np.dtype(np.float16),
  "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
  "LongStorage": np.dtype(np.int64),
  "IntStorage": np.dtype(np.int32),
  "ShortStorage": np.dtype(np.int16),
  "CharStorage": np.dtype(np.int8),
  "ByteStorage": np.dtype(np.uint8),
  "BoolStorage": np.dtype(np.bool_),
}


@dataclasses.dataclass(frozen=True)
class Storage:
  """A named run of `count` values of `dtype`; the values lie elsewhere."""

  key: str
  dtype: np.dtype
  count: int


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A strided view of a storage; offset and strides count values."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Global:
  """A permitted global: a constructor of ours, or the dtype of a storage."""

  name: str
  call: Callable[..., Any] | None = None
  dtype: np.dtype | None = None


class _Refused(Exception):
  """Something that does not belong in a file of weights."""


def read_pickle(file: BinaryIO, where: str) -> tuple[Any, dict[str, Storage]]:
  """Interprets one pickle, from the file's position to its `STOP`.

  Args:
    file: the stream; left just behind the pickle.
    where: what is read, for messages.

  Returns:
    The object (dicts, lists, tuples, numbers, strings, `Tensor`s) and the
    storages that it names, by key.

  Raises:
    InputError: the pickle asks for anything else.
    Exception: of many kinds, when the stream is damaged.
  """
  storages: dict[str, Storage] = {}
  try:
    return _interpret(file, storages), storages
  except _Refused as refused:
    raise errors.InputError(
      f"{where}: refused, nothing was run: its pickle holds {refused}, which "
      "is no part of a weights file; save the plain weights with "
      "torch.save(model.state_dict(), FILE) or as .safetensors"
    ) from None


def _interpret(file: BinaryIO, storages: dict[str, Storage]) -> Any:
  stack: list[Any] = []
  marks: list[int] = []
  memo: dict[int, Any] = {}

  def since_mark() -> list[Any]:
    start = marks.pop()
    items = stack[start:]
    del stack[start:]
    return items

  value: Any
  for opcode, value, _ in pickletools.genops(file):
    match opcode.name:
      case "PROTO" | "FRAME":
        pass
      case "STOP":
        return stack.pop()
      case "MARK":
        marks.append(len(stack))
      case "NONE":
        stack.append(None)
      case "NEWTRUE" | "NEWFALSE":
        stack.append(opcode.name == "NEWTRUE")
      case (
        "BININT"
        | "BININT1"
        | "BININT2"
        | "LONG1"
        | "BINFLOAT"
        | "BINUNICODE"
        | "SHORT_BINUNICODE"
      ):
        stack.append(value)
      case "EMPTY_DICT":
        stack.append({})
      case "EMPTY_LIST":
        stack.append([])
      case "EMPTY_TUPLE":
        stack.append(())
      case "TUPLE":
        stack.append(tuple(since_mark()))
      case "TUPLE1" | "TUPLE2" | "TUPLE3":
        size = int(opcode.name[-1])
        items = stack[-size:]
        if len(items) != size:
          raise ValueError("stack underflow")
        stack[-size:] = [tuple(items)]
      case "SETITEM":
        item = stack.pop()
        key = stack.pop()
        _set_items(stack[-1], [key, item])
      case "SETITEMS":
        items = since_mark()
        _set_items(stack[-1], items)
      case "APPEND":
        item = stack.pop()
        stack[-1].append(item)
      case "APPENDS":
        items = since_mark()
        stack[-1].extend(items)
      case "BINPUT" | "LONG_BINPUT":
        memo[value] = stack[-1]
      case "MEMOIZE":
        memo[len(memo)] = stack[-1]
      case "BINGET" | "LONG_BINGET":
        stack.append(memo[value])
      case "GLOBAL":
        stack.append(_global(*value.split(" ", 1)))
      case "STACK_GLOBAL":
        name = stack.pop()
        stack.append(_global(stack.pop(), name))
      case "REDUCE":
        arguments = stack.pop()
        stack.append(_reduce(stack.pop(), arguments))
      case "BINPERSID":
        storage = _storage(stack.pop())
        if storages.setdefault(storage.key, storage) != storage:
          raise ValueError("two storages of one key")
        stack.append(storage)
      case "BUILD":
        # PyTorch hangs `_metadata` on the OrderedDict; weights need none.
        stack.pop()
        if not isinstance(stack[-1], dict):
          raise _Refused(f"the state of a {type(stack[-1]).__name__}")
      case name:
        raise _Refused(f"the opcode {name}")
  raise ValueError("no end")


def _set_items(target: Any, items: list[Any]) -> None:
  # Keys are plain, for the hash of a deeply nested one may crash the process.
  if type(target) is not dict or any(
    not isinstance(key, str | int | float | None) for key in items[::2]
  ):
    raise _Refused("a mapping that is not a dict of plain keys")
  target.update(zip(items[::2], items[1::2], strict=True))


def _ordered_dict() -> dict[Any, Any]:
  return {}


def _size(values: tuple[int, ...]) -> tuple[int, ...]:
  # Returned as it is: copies of copies could fill the memory.
  if type(values) is not tuple:
    raise ValueError("a shape that is no tuple")
  return values


def _rebuild_tensor(
  storage: Storage,
  offset: int,
  shape: tuple[int, ...],
  strides: tuple[int, ...],
  *rest: Any,
) -> Tensor:
  """`torch._utils._rebuild_tensor_v2`; `rest`: autograd flags and hooks."""
  numbers = (offset, *_size(shape), *_size(strides))
  if not isinstance(storage, Storage) or any(
    type(n) is not int or n < 0 for n in numbers
  ):
    raise ValueError("a tensor without storage, shape or strides")
  if len(shape) != len(strides) or len(rest) > 3:
    raise ValueError("a tensor whose shape and strides differ in length")
  return Tensor(storage, offset, shape, strides)


def _rebuild_parameter(data: Tensor, *rest: Any) -> Tensor:
  if not isinstance(data, Tensor) or len(rest) != 2:
    raise ValueError("a parameter that is no tensor")
  return data


_GLOBALS: dict[str, Callable[..., Any]] = {
  "collections.OrderedDict": _ordered_dict,
  "torch.Size": _size,
  "torch._utils._rebuild_tensor": _rebuild_tensor,
  "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
  "torch._utils._rebuild_parameter": _rebuild_parameter,
}


def _global(module: str, name: str) -> _Global:
  full = f"{module}.{name}"
  if full in _GLOBALS:
    return _Global(full, call=_GLOBALS[full])
  if module == "torch" and name in STORAGE_DTYPES:
    return _Global(full, dtype=STORAGE_DTYPES[name])
  raise _Refused(f"a call of {full!r}")


def _reduce(function: Any, arguments: Any) -> Any:
  if not isinstance(function, _Global) or function.call is None:
    raise _Refused(f"a call of {getattr(function, 'name', '?')!r}")
  if type(arguments) is not tuple:
    raise ValueError("arguments that are no tuple")
  return function.call(*arguments)


def _storage(identity: Any) -> Storage:
  """The persistent id ('storage', type, key, device, count[, view])."""
  kind, storage_type, key, _, count, *view = identity
  if kind != "storage" or not isinstance(storage_type, _Global):
    raise _Refused("a persistent id that is no storage")
  if storage_type.dtype is None or any(v is not None for v in view):
    raise _Refused("a storage of a kind no longer written")
  if type(key) is not str or type(count) is not int or count < 0:
    raise ValueError("a storage without key or size")
  return Storage(key, storage_type.dtype, count)
