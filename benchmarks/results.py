"""What came out of rows, and their way into JSON files and back.

A file is a list with an object per row, the fields of `Result`. An hour's run
that was cut short goes on from its file (`--merge`), since each row keeps where
it was measured, and figures of two machines are never put on one page.
"""

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import origin
from mtlmoe_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Result:
  """One row's figures. Three numbers are quartiles: low, median, high.

  Attributes:
    name: of the row.
    ratio: against the quickest peer, the median over rounds.
    low: its first quartile over rounds.
    high: its third quartile.
    rounds: how many there were.
    at_least: the bar for the ratio, or None.
    what: the row in a line.
    quantity: "seconds", or what else was compared.
    ours: label of our contestant.
    peer: label of the quickest peer.
    ratios: label of each peer -> quartiles of the ratio against it.
    values: label of each contestant -> quartiles of its rounds' medians.
    infos: label -> what its builder told.
    origin: where and how it was measured, of `origin.describe`.
  """

  name: str
  ratio: float
  low: float
  high: float
  rounds: int
  at_least: float | None
  what: str
  quantity: str
  ours: str
  peer: str
  ratios: dict[str, list[float]]
  values: dict[str, list[float]]
  infos: dict[str, dict[str, Any]]
  origin: dict[str, str]

  def median(self, label: str) -> float:
    """Median of a contestant's rounds' medians."""
    return self.values[label][1]

  def line(self) -> str:
    """For the eye; further lines for further peers."""
    out = [_line(self.name, self.peer, self.ratios[self.peer], self.at_least)]
    for label, ratio in self.ratios.items():
      if label != self.peer:
        out.append(_line("", label, ratio, None))
    return "\n".join(out)


def _line(
  name: str, label: str, ratio: Sequence[float], at_least: float | None
) -> str:
  low, middle, high = ratio
  bar = "" if at_least is None else f"  (at least {at_least:g})"
  return (
    f"{name:32}{middle:8.2f}  [{low:.2f} ... {high:.2f}]  against {label}{bar}"
  )


def round_ratios(
  peer: Sequence[Sequence[float]], ours: Sequence[Sequence[float]]
) -> list[float]:
  """Each round's ratio, median(peer) / median(ours), of bursts by round."""
  return [
    statistics.median(p) / statistics.median(o) for p, o in zip(peer, ours)
  ]


def spread(values: Sequence[float]) -> list[float]:
  """First quartile, median and third quartile, interpolated linearly."""
  if len(values) == 1:
    return [values[0]] * 3
  return statistics.quantiles(values, n=4, method="inclusive")


def read(path: str) -> list[Result]:
  """The rows of a file that `--json` wrote.

  Raises:
    InputError: it cannot be read or holds something else.
  """
  try:
    entries = json.loads(pathlib.Path(path).read_text("utf-8"))
    return [Result(**entry) for entry in entries]
  except (OSError, ValueError, TypeError) as error:
    raise InputError(
      f"--merge {path}: {error}; use files that --json of this version wrote"
    ) from None


def merge(
  paths: Iterable[str], names: Sequence[str], here: dict[str, str] | None
) -> dict[str, Result]:
  """The rows of several files, by name.

  Args:
    paths: files that `--json` wrote.
    names: of the program's rows.
    here: this run's origin, if it will measure as well.

  Raises:
    InputError: a row is unknown or there twice, or two were not measured on
      the same machine with the same versions and settings.
  """
  out, reference = {}, here
  for path in paths:
    for result in read(path):
      place = f"--merge {path}: {result.name}"
      if result.name not in names:
        raise InputError(f"{place} is no row of this program and precision")
      if result.name in out:
        raise InputError(f"{place} is in another file too; merge one of them")
      reference = reference or result.origin
      key = origin.difference(result.origin, reference)
      if key:
        raise InputError(
          f"{place} was measured with {key} {result.origin.get(key)!r}, other "
          f"rows with {reference.get(key)!r}: measure all on one machine, alike"
        )
      out[result.name] = result
  return out
