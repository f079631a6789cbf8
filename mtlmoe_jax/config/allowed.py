"""What an option may be: a test of one value, and the same in words."""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

_INTERVAL = re.compile(r"([\[(])([\d.]+), ([\d.]+)([\])])")


@dataclasses.dataclass(frozen=True)
class Allowed:
  """Which values are right.

  Attributes:
    text: after "must be"; empty where the type says all.
    test: of one value, stored (see `kinds`).
  """

  text: str = ""
  test: Callable[[Any], bool] = lambda value: True


ANY = Allowed()


def among(words: Iterable[str], empty: bool = False) -> Allowed:
  """One of some words.

  Args:
    words: all that are right.
    empty: whether "" is right too.
  """
  words = tuple(words)
  text = f"one of {', '.join(words)}"
  if empty:
    return Allowed(f"'' or {text}", lambda value: value in ("", *words))
  return Allowed(text, lambda value: value in words)


def at_least(low: float, unit: str = "") -> Allowed:
  """A number from `low` on."""
  text = f"at least {low} {unit}".rstrip()
  return Allowed(text, lambda value: value >= low)


def zero_or_more(zero: str = "") -> Allowed:
  """0, which means `zero`, or a larger number."""
  text = f"0 ({zero}) or more" if zero else "0 or more"
  return Allowed(text, lambda value: value >= 0)


def above(low: float) -> Allowed:
  """A number larger than `low`."""
  return Allowed(f"above {low}", lambda value: value > low)


def within(interval: str) -> Allowed:
  """A number in an interval.

  Args:
    interval: as mathematicians write it: "[0, 1)" is without 1.
  """
  match = _INTERVAL.fullmatch(interval)
  if not match:
    raise ValueError(f"no interval: {interval!r}")
  low, high = float(match[2]), float(match[3])
  with_low, with_high = match[1] == "[", match[4] == "]"

  def test(value: float) -> bool:
    above_low = value >= low if with_low else value > low
    return above_low and (value <= high if with_high else value < high)

  return Allowed(f"in {interval}", test)


def matching(pattern: str, text: str) -> Allowed:
  """Text that a regular expression matches as a whole."""
  return Allowed(text, lambda value: bool(re.fullmatch(pattern, value)))


def _compiles(patterns: tuple[str, ...]) -> bool:
  try:
    return all(re.compile(pattern) for pattern in patterns)
  except re.error:
    return False


EXPRESSIONS = Allowed("regular expressions", _compiles)
