"""Parameters as flat dicts {"experts/condense/kernel": array}.

So masks, rules and comparisons of parameters are plain functions of names.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Flat = dict[str, Any]


def flatten(tree: Any) -> Flat:
  """Nested dict -> {"a/b/c": leaf}; empty dicts leave nothing."""
  return dict(_leaves(tree, ""))


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
  for name, value in tree.items():
    if isinstance(value, Mapping):
      yield from _leaves(value, f"{prefix}{name}/")
    else:
      yield f"{prefix}{name}", value


def unflatten(flat: Flat) -> Any:
  """{"a/b/c": leaf} -> nested dict."""
  tree: dict[str, Any] = {}
  for path, leaf in flat.items():
    *above, name = path.split("/")
    place = tree
    for part in above:
      place = place.setdefault(part, {})
    place[name] = leaf
  return tree


def matching(names: Iterable[str], patterns: Iterable[str]) -> frozenset[str]:
  """Names that one of the regular expressions matches from their start."""
  patterns = tuple(patterns)
  return frozenset(n for n in names if any(re.match(p, n) for p in patterns))


def shared(one: Any, other: Any) -> frozenset[str]:
  """Names of the leaves that two nested dicts both hold, the same objects."""
  theirs = flatten(other)
  return frozenset(
    n for n, leaf in flatten(one).items() if leaf is theirs.get(n)
  )


def split(flat: Flat, names: frozenset[str]) -> tuple[Flat, Flat]:
  """(the part without these names, the part with them) of a flat dict."""
  without = {n: v for n, v in flat.items() if n not in names}
  return without, {n: v for n, v in flat.items() if n in names}
