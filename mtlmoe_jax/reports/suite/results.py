"""Columns of the tables of results: title -> the cell of a variation."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from mtlmoe_jax.reports.suite import wording
from mtlmoe_jax.reports.suite.findings import Answer, VariationResult
from mtlmoe_jax.reports.suite.poster import REPORTED

Columns = dict[str, Callable[[VariationResult], str]]


def groups(
  rows: Iterable[VariationResult],
) -> list[tuple[str, list[VariationResult]]]:
  """Neighbors of one group, under its heading."""
  grouped = itertools.groupby(rows, lambda row: row.group)
  return [(group, list(members)) for group, members in grouped]


def measured(
  rows: Sequence[VariationResult], answers: Sequence[Answer] = ()
) -> Columns:
  """A column a metric, at the last checkpoint.

  Args:
    rows: of a suite.
    answers: differences that stand below the means of their `one`.
  """
  differences = {(a.one, a.figure): _difference(a) for a in answers}
  columns: Columns = {}
  if any(row.name in REPORTED for row in rows):
    columns["poster"] = lambda row: _reported(row.name)
  for key in metrics([row.figures for row in rows]):

    def cell(row: VariationResult, key: str = key) -> str:
      mean = wording.spread(row.figures.get(key))
      return f"{mean}\n{differences.get((row.name, key), '')}".rstrip()

    columns[wording.FIGURES[key]] = cell
  if answers:
    columns["time of a run"] = lambda row: wording.duration(row.seconds)
  elif any("top1" in row.wilson for row in rows):
    columns["one run"] = _one_run
  return columns


def metrics(values: Sequence[Mapping[str, object]]) -> list[str]:
  """Those that any row has, in the order of the tables."""
  known = set(itertools.chain(*values))
  return [key for key in wording.FIGURES if key in known]


def _difference(answer: Answer) -> str:
  """Bold where the interval leaves zero out."""
  if not answer.is_known:
    return ""
  by, _ = wording.scale(answer)
  mark = "**" if answer.is_clear else ""
  difference = wording.decimal(by * answer.difference, 1, "+")
  ends = wording.interval(by * answer.low, by * answer.high, 1, "+")
  return f"{mark}{difference}{mark} {ends}"


def _reported(name: str) -> str:
  """The poster's numbers, with all their digits."""
  if name not in REPORTED:
    return ""
  return "\n".join(
    f"{wording.FIGURES[key]} {round(100 * value, 2)}"
    for key, value in REPORTED[name].metrics.items()
  )


def _one_run(row: VariationResult) -> str:
  top1 = row.figures.get("top1")
  if top1 is None or "top1" not in row.wilson or not top1.per_seed:
    return wording.UNKNOWN
  low, high = row.wilson["top1"]
  text = wording.percent(top1.per_seed[0])
  return f"{text} {wording.interval(100 * low, 100 * high)}".strip()


def chosen(rows: Sequence[VariationResult]) -> list[VariationResult]:
  """Those of which other epochs than the last are known."""
  return [row for row in rows if row.best_on_validation or row.best_on_test]


def epochs(rows: Sequence[VariationResult]) -> Columns:
  """A column a way to choose the epoch."""
  several = metrics(
    [r.best_on_validation for r in rows] + [r.best_on_test for r in rows]
  )

  def cell(means: Mapping[str, float]) -> str:
    # Names only where there are several.
    lines = [
      f"{wording.FIGURES[key] if len(several) > 1 else ''} "
      f"{wording.percent(means[key])}".strip()
      for key in several
      if key in means
    ]
    return "\n".join(lines) or wording.UNKNOWN

  return {
    "last": lambda r: cell({key: m.mean for key, m in r.figures.items()}),
    "best on validation": lambda r: cell(r.best_on_validation),
    "best on test (the poster's way, too high)": lambda r: cell(r.best_on_test),
  }


def costs(rows: Sequence[VariationResult]) -> Columns:
  """A column a cost; none where no cost is known."""
  if not any(math.isfinite(x) for r in rows for x in (r.seconds, r.flops)):
    return {}
  return {
    "time of a run": lambda row: wording.duration(row.seconds),
    "MFLOPs an image": lambda row: wording.millions(row.flops),
    "parameters, M (active)": _parameters,
  }


def _parameters(row: VariationResult) -> str:
  text = wording.millions(row.parameters)
  if math.isfinite(row.parameters) and math.isfinite(row.parameters_active):
    text += f" ({wording.millions(row.parameters_active)})"
  return text


def mcnemar(answer: Answer) -> str:
  """Images that only one of both has right, and p, per seed."""
  seeds = zip(answer.counts, answer.p_values)
  texts = [f"{b}/{c} ({wording.p_value(p)})" for (b, c), p in seeds]
  return "; ".join(texts) or wording.UNKNOWN
