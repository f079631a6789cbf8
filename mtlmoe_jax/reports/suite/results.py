"""The results of all variations: figures, choice of the epoch, cost."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

from mtlmoe_jax.reports.suite import wording
from mtlmoe_jax.reports.suite.document import Block, Heading, Table, Text
from mtlmoe_jax.reports.suite.findings import Answer, VariationResult
from mtlmoe_jax.reports.suite.poster import REPORTED


def results(rows: Sequence[VariationResult]) -> Iterator[Block]:
  """A table of the last checkpoint, one of the best ones, one of the cost."""
  if not rows:
    return
  yield Heading("Results")
  yield Text(
    "At the last checkpoint: mean ± standard deviation over seeds, per cent. "
    "“One run” is the first seed's top-1 with Wilson's interval: what a single "
    "run tells by itself. The poster's figures are of its own data, split and "
    "recipe, at the best epoch on test."
  )
  yield measured(rows)
  yield from _poster(rows)
  yield from _epochs(rows)
  yield from _costs(rows)


def _grouped(
  rows: Sequence[VariationResult],
  line: Callable[[VariationResult], Sequence[str]],
) -> tuple[tuple[str, ...], ...]:
  """Lines of a table, each group under its heading."""
  lines: list[tuple[str, ...]] = []
  for group, members in itertools.groupby(rows, lambda row: row.group):
    if group:
      lines.append((group,))
    lines += [(wording.cell(row), *line(row)) for row in members]
  return tuple(lines)


def measured(
  rows: Sequence[VariationResult], answers: Sequence[Answer] = ()
) -> Table:
  """A line a row, a column a metric.

  Args:
    rows: of a suite.
    answers: differences that stand below the means of their `one`.
  """
  held = [k for k in wording.FIGURES if any(k in r.figures for r in rows)]
  differences = {(a.one, a.figure): _difference(a) for a in answers}
  columns: dict[str, Callable[[VariationResult], str]] = {}
  if any(row.name in REPORTED for row in rows):
    columns["poster"] = lambda row: _reported(row.name)
  for key in held:
    columns[wording.FIGURES[key]] = lambda row, key=key: "\n".join(
      [
        wording.spread(row.figures.get(key)),
        *differences.get((row.name, key), ()),
      ]
    )
  if answers:
    columns["time of a run"] = lambda row: wording.duration(row.seconds)
  elif any("top1" in row.wilson for row in rows):
    columns["one run"] = _one_run
  return Table(
    ("variation", *columns),
    _grouped(rows, lambda row: [cell(row) for cell in columns.values()]),
  )


def _difference(answer: Answer) -> list[str]:
  """Bold where the interval leaves zero out."""
  if not math.isfinite(answer.difference):
    return []
  by, _ = wording.scale(answer)
  mark = "**" if answer.is_clear else ""
  difference = wording.decimal(by * answer.difference, 1, "+")
  ends = wording.interval(by * answer.low, by * answer.high, 1, "+")
  return [f"{mark}{difference}{mark} {ends}".rstrip()]


def _reported(name: str) -> str:
  """The poster's figures, with all their digits."""
  if name not in REPORTED:
    return ""
  figures = REPORTED[name].figures
  return "\n".join(
    f"{wording.FIGURES[key]} {round(100 * value, 2)}"
    for key, value in figures.items()
  )


def _one_run(row: VariationResult) -> str:
  found = row.figures.get("top1")
  if found is None or "top1" not in row.wilson or not found.per_seed:
    return wording.UNKNOWN
  low, high = row.wilson["top1"]
  text = wording.percent(found.per_seed[0])
  return f"{text} {wording.interval(100 * low, 100 * high)}".strip()


def _poster(rows: Sequence[VariationResult]) -> Iterator[Block]:
  told = [row for row in rows if row.name in REPORTED]
  if told:
    yield Table(
      ("variation", "in the poster"),
      tuple((wording.cell(r), REPORTED[r.name].note) for r in told),
      "Where the poster has them.",
    )


def _epochs(rows: Sequence[VariationResult]) -> Iterator[Block]:
  chosen = [r for r in rows if r.best_on_validation or r.best_on_test]
  if not chosen:
    return
  held = [
    key
    for key in wording.FIGURES
    if any(key in r.best_on_validation or key in r.best_on_test for r in chosen)
  ]

  def line(row: VariationResult) -> list[str]:
    means = {key: found.mean for key, found in row.figures.items()}
    return [
      _each(known, held)
      for known in (means, row.best_on_validation, row.best_on_test)
    ]

  yield Heading("Which epoch is reported", 3)
  yield Text(
    "Figures of the test split at three choices of the epoch. The best epoch "
    "on test is chosen with the answers in view, so it is too high for every "
    "model; the poster reports that one."
  )
  yield Table(
    (
      "variation",
      "last",
      "best on validation",
      "best on test (the poster's way, too high)",
    ),
    _grouped(chosen, line),
  )


def _each(known: dict[str, float], held: Sequence[str]) -> str:
  """The figures, a line each; their names only where there are several."""
  lines = [
    f"{wording.FIGURES[key]} {wording.percent(known[key])}"
    if len(held) > 1
    else wording.percent(known[key])
    for key in held
    if key in known
  ]
  return "\n".join(lines) or wording.UNKNOWN


def _costs(rows: Sequence[VariationResult]) -> Iterator[Block]:
  def line(row: VariationResult) -> list[str]:
    return [
      wording.duration(row.seconds),
      _count(row.flops, 1e6),
      _parameters(row),
    ]

  known = (r.seconds for r in rows), (r.flops for r in rows)
  if not any(map(math.isfinite, itertools.chain(*known))):
    return
  yield Heading("What each costs", 3)
  yield Table(
    (
      "variation",
      "time of a run",
      "MFLOPs an image",
      "parameters, M (active)",
    ),
    _grouped(rows, line),
  )


def _parameters(row: VariationResult) -> str:
  if not math.isfinite(row.parameters):
    return wording.UNKNOWN
  text = _count(row.parameters, 1e6)
  if math.isfinite(row.parameters_active):
    text += f" ({_count(row.parameters_active, 1e6)})"
  return text


def _count(value: float, unit: float) -> str:
  """Three digits or so, whatever the size."""
  value /= unit
  return wording.decimal(value, 0 if value >= 100 else 2, ",")
