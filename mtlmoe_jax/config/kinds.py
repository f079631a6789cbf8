"""Kinds of values: what Python and a command line may set an option to.

An option is stored in one form, that of the command line, whatever it was set
from: `config.model.k = (2, 1)` and `--config.model.k=2,1` are the same config.
`resolve` gives the typed values.
"""

import dataclasses
import numbers
import os
from collections.abc import Callable, Iterable
from typing import Any

from mtlmoe_jax import errors


@dataclasses.dataclass(frozen=True)
class Kind:
  """What an option can be set to.

  Attributes:
    stored: type of what the config holds.
    python: types of Python values that are taken, in words.
    convert: a value of these types -> what is stored; raises TypeError or
      ValueError for any other one.
    parse: text of a command line -> a value for `convert`; raises ValueError.
  """

  stored: type
  python: str
  convert: Callable[[Any], Any]
  parse: Callable[[str], Any]


def _integer(value: Any) -> int:
  # True is an int in Python, and never meant as one here.
  if isinstance(value, bool) or not isinstance(value, numbers.Integral):
    raise TypeError
  return int(value)


def _number(value: Any) -> float:
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    raise TypeError
  return float(value)


def _switch(value: Any) -> bool:
  if not isinstance(value, bool):
    raise TypeError
  return value


def _parse_switch(text: str) -> bool:
  words = {"true": True, "1": True, "false": False, "0": False}
  if text.lower() not in words:
    raise ValueError
  return words[text.lower()]


def _text(value: Any) -> str:
  if not isinstance(value, str):
    raise TypeError
  return value


def _path(value: Any) -> str:
  return "" if value is None else _text(os.fspath(value))


def _patterns(value: Any) -> tuple[str, ...]:
  return tuple(_text(item) for item in _items(value))


def _parse_patterns(text: str) -> tuple[str, ...]:
  return tuple(part for part in text.strip("()[]").split("+") if part)


def _counts(value: Any) -> str:
  if isinstance(value, str):
    return value
  return ",".join(str(_integer(item)) for item in _items(value))


def _step(value: Any) -> str:
  return value if isinstance(value, str) else str(_integer(value))


def _blocks(value: Any) -> str:
  return "" if value is None else _counts(value)


def _tasks(value: Any) -> str:
  return ",".join(_text(item) for item in _items(value))


def _classes(value: Any) -> str:
  if isinstance(value, str):
    return value
  return ",".join(
    item if isinstance(item, str) else str(_integer(item))
    for item in map(_without_comma, _items(value))
  )


def _without_comma(item: Any) -> Any:
  if isinstance(item, str) and "," in item:
    raise errors.InputError(
      f"{item!r} has a comma, which parts names: give its index from 0"
    )
  return item


def _items(value: Any) -> Iterable[Any]:
  """The items of a sequence; anything else is the one item."""
  return value if isinstance(value, (tuple, list)) else (value,)


INTEGER = Kind(int, "int", _integer, int)
NUMBER = Kind(float, "float or int", _number, float)
SWITCH = Kind(bool, "bool", _switch, _parse_switch)
TEXT = Kind(str, "str", _text, str)
PATH = Kind(str, "str, a path or None", _path, str)
PATTERNS = Kind(tuple, "tuple or list of str", _patterns, _parse_patterns)
COUNTS = Kind(str, "int, tuple or list of int, or str", _counts, str)
STEP = Kind(str, "str or int", _step, str)
BLOCKS = Kind(str, "str, int, tuple or list of int, or None", _blocks, str)
TASK_NAMES = Kind(str, "str, or tuple or list of str", _tasks, str)
WORDS = TASK_NAMES
CLASSES = Kind(str, "str, or tuple or list of str or int", _classes, str)

# The kind of an option whose declaration names none, by the default's type.
OF_TYPE = {
  kind.stored: kind for kind in (INTEGER, NUMBER, SWITCH, TEXT, PATTERNS)
}
