"""From the folders of finished cells to findings.

Letters: S seeds, n images of the test split, P points of a curve, N experts.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.experiments import cells as cells_lib
from mtlmoe_jax.experiments import claims, comparison, costs
from mtlmoe_jax.metrics import intervals, matching
from mtlmoe_jax.metrics import split as metrics
from mtlmoe_jax.reports.suite import pay
from mtlmoe_jax.reports.suite.findings import (
  Curve,
  Findings,
  Measured,
  VariationResult,
)
from mtlmoe_jax.training import metric_log
from mtlmoe_jax.utils import files, progress

# Metrics of the tables, in their order.
METRICS = tuple(comparison.METRICS)
# What is followed while training.
FOLLOWED = ("top1", "miou")

Values = dict[str, np.ndarray]


def collect(
  cells: Sequence[cells_lib.Cell],
  base: ml_collections.ConfigDict,
  *,
  suite: str,
  data: str,
  preset: str,
  command: str,
) -> Findings:
  """All that finished cells tell.

  Args:
    cells: of a suite, all done.
    base: the config that they change.
    suite: of `reproduction.SUITES`, or "all".
    data: of `reproduction.DATA`.
    preset: of `reproduction.PRESETS`.
    command: that makes the page again.

  Raises:
    InputError: a result that is not there or cannot be read.
  """
  groups = _by_variation(cells)
  rows, values = {}, {}
  for name, group in groups.items():
    values[name] = comparison.values_of(group)
    rows[name] = _row(group, values[name], base)
  judged = [claims.judge(c, rows, values) for c in claims.claim_specs(data)]
  others = [
    claims.answer(q, rows, values) for q in claims.other_questions(rows)
  ]
  experts: dict[str, list[dict[str, Any]]] = {}
  for name, group in groups.items():
    studies = [study for cell in group if (study := read_study(cell))]
    if len(studies) == len(group) and studies[0]["experts"] > 1:
      experts[name] = studies
  return Findings(
    suite=suite,
    data=data,
    preset=preset,
    command=command,
    facts=tuple(_facts(groups, cells)),
    rows=tuple(rows.values()),
    claims=tuple(c for c in judged if c is not None),
    answers=tuple(a for a in others if a is not None),
    experts=experts,
    stability={
      name: _stability(studies)
      for name, studies in experts.items()
      if len(studies) > 1
    },
  )


def _by_variation(
  cells: Sequence[cells_lib.Cell],
) -> dict[str, list[cells_lib.Cell]]:
  """The cells of each variation; not those that only an ensemble needs."""
  groups: dict[str, list[cells_lib.Cell]] = {}
  for cell in cells:
    if not cell.extra:
      groups.setdefault(cell.variation.name, []).append(cell)
  return groups


def compare(
  cells: Sequence[cells_lib.Cell],
  *,
  data: str,
  command: str,
) -> Findings:
  """Variations instead of their base, of those all of whose cells are done.

  Args:
    cells: of a suite with a base.
    data: name of the data.
    command: that makes the page again.

  Raises:
    InputError: the base is not done, or two runs tested different images.
  """
  groups: dict[str, list[cells_lib.Cell]] = {}
  for cell in cells:
    groups.setdefault(cell.variation.name, []).append(cell)
  groups = {
    name: group
    for name, group in groups.items()
    if all(map(cells_lib.is_done, group))
  }
  if cells_lib.BASE not in groups:
    raise errors.InputError(
      "the suite's base has not run with all seeds: nothing to compare with"
    )
  values = {name: comparison.values_of(g) for name, g in groups.items()}
  rows = {name: _compared(g, values[name]) for name, g in groups.items()}
  answers = [
    claims.answer(
      claims.Question(row.what, name, cells_lib.BASE, metric), rows, values
    )
    for name, row in rows.items()
    if name != cells_lib.BASE
    for metric in METRICS
  ]
  result = cells_lib.read_result(groups[cells_lib.BASE][0])
  meta = result["meta"]
  return Findings(
    suite="ablation",
    data=data,
    preset="",
    command=command,
    facts=(
      f"{len(groups[cells_lib.BASE])} seeds, {result['n']} test images of "
      f"{len(meta['class_names'])} classes.",
      f"{meta['device']}, commit {meta['commit'][:7] or 'unknown'}.",
    ),
    rows=tuple(rows.values()),
    claims=(),
    answers=tuple(a for a in answers if a is not None),
    experts={},
    stability={},
  )


def answer_questions(
  cells: Sequence[cells_lib.Cell],
  questions: Sequence[claims.Question],
  *,
  suite: str,
  data: str,
  preset: str,
  command: str,
) -> Findings:
  """Answers to a suite's own questions, without costs and curves.

  Args:
    cells: of a suite, all done.
    questions: of variations; those that have not run are left out.
    suite: its name.
    data: name of the data.
    preset: of the suite.
    command: that makes the page again.

  Raises:
    InputError: a result that is not there or cannot be read.
  """
  groups = _by_variation(cells)
  values = {name: comparison.values_of(g) for name, g in groups.items()}
  rows = {
    name: _with_gate_value(_compared(group, values[name]), group)
    for name, group in groups.items()
  }
  answers = [claims.answer(q, rows, values) for q in questions]
  return Findings(
    suite=suite,
    data=data,
    preset=preset,
    command=command,
    facts=tuple(_facts(groups, cells)),
    rows=tuple(rows.values()),
    claims=(),
    answers=tuple(a for a in answers if a is not None),
    experts={},
    stability={},
  )


def _with_gate_value(
  row: VariationResult, group: Sequence[cells_lib.Cell]
) -> VariationResult:
  """What the class gate's choices are worth, where there is one."""
  results = [cells_lib.read_result(cell) for cell in group]
  each = [r.get("class/gate_value") for r in results]
  if any(value is None for value in each):
    return row
  array = np.array(each, float)
  measured = Measured(
    float(array.mean()),
    intervals.deviation(array),
    tuple(array.tolist()),
    *intervals.student_interval(array)[1:],
  )
  figures = {**row.figures, pay.GATE_VALUE: measured}
  return dataclasses.replace(row, figures=figures)


def _compared(
  group: Sequence[cells_lib.Cell], values: Values
) -> VariationResult:
  """A row with what its runs took, where it was trained."""
  row = _measures(group, values)
  if not group[0].trains:
    return row
  results = [_result(cell) for cell in group]
  unknown = float("nan")
  return dataclasses.replace(
    row,
    seconds=float(np.mean([r.get("wall_seconds", unknown) for r in results])),
    parameters=float(results[0].get("parameters", unknown)),
    parameters_active=float(results[0].get("parameters_active", unknown)),
  )


def study_path(cell: cells_lib.Cell) -> pathlib.Path:
  """Where what is known of a cell's experts is kept."""
  return cell.folder / "study.json"


def read_study(cell: cells_lib.Cell) -> dict[str, Any] | None:
  """The values of `study.study`; None where it has not run."""
  path = study_path(cell)
  if not path.is_file():
    return None
  try:
    return json.loads(path.read_text("utf-8"))
  except ValueError as error:
    raise errors.InputError(
      f"{path} cannot be read ({error}): remove it and start again"
    ) from None


def _measures(
  group: Sequence[cells_lib.Cell], values: Values
) -> VariationResult:
  """A row of what was measured on the test split: no costs, no curves."""
  cell = group[0]
  measured = {
    name: _measured(values[name])
    for name in METRICS
    if not np.isnan(values[name]).all()
  }
  scores = [cells_lib.read_result(c) for c in group]
  if all(s.get("ciou_score") is not None for s in scores):
    each = tuple(float(s["ciou_score"]) for s in scores)
    deviation = intervals.deviation(np.array(each))
    mean, low, high = intervals.student_interval(np.array(each))
    measured["ciou_score"] = Measured(mean, deviation, each, low, high)
  wilson = {}
  for name in comparison.SHARES:
    known = values[name][0][~np.isnan(values[name][0])]
    if len(known):
      wilson[name] = metrics.wilson(float(known.sum()), len(known))
  unknown = float("nan")
  return VariationResult(
    name=cell.variation.name,
    what=cell.variation.what,
    group=cell.variation.group,
    figures=measured,
    wilson=wilson,
    best_on_validation={},
    best_on_test={},
    seconds=unknown,
    flops=unknown,
    parameters=unknown,
    parameters_active=unknown,
    curves={},
  )


def _row(
  group: Sequence[cells_lib.Cell],
  values: Values,
  base: ml_collections.ConfigDict,
) -> VariationResult:
  row, cell = _measures(group, values), group[0]
  if not cell.trains:
    return row
  results = [_result(c) for c in group]
  logs = [metric_log.read(c.folder) for c in group]
  classes = len(cells_lib.read_result(cell)["meta"]["class_names"])
  config = cells_lib.config_of(cell, base)
  best = [_best(rows, config.checkpoint.best) for rows in logs]
  return dataclasses.replace(
    row,
    best_on_validation=_means([b[0] for b in best]),
    best_on_test=_means([b[1] for b in best]),
    seconds=float(np.mean([r["wall_seconds"] for r in results])),
    flops=costs.forward_flops(config, classes),
    parameters=float(results[0]["parameters"]),
    parameters_active=float(results[0]["parameters_active"]),
    curves=_curves(logs),
  )


def _result(cell: cells_lib.Cell) -> dict[str, Any]:
  return json.loads((cell.folder / "result.json").read_text("utf-8"))


def _measured(values: np.ndarray) -> Measured:
  known = values[:, ~np.isnan(values).any(axis=0)]
  each = known.mean(axis=1)
  mean, low, high = intervals.crossed_interval(known)
  deviation = intervals.deviation(each)
  return Measured(mean, deviation, tuple(map(float, each)), low, high)


def _of_split(
  rows: Sequence[Mapping[str, Any]], split: str
) -> dict[int, Mapping[str, Any]]:
  """Rows of one split by step; of a resumed run's repeated ones the last."""
  return {row["step"]: row for row in rows if row["split"] == split}


def _best(
  rows: Sequence[Mapping[str, Any]], score: str
) -> tuple[dict[str, float], dict[str, float]]:
  """Test metrics at validation's best epoch; each metric's best on the test."""
  test, validation = (_of_split(rows, s) for s in ("test", "validation"))
  on_test = {
    name: max(row[name] for row in test.values())
    for name in METRICS
    if test and all(row.get(name) is not None for row in test.values())
  }
  on_validation = {}
  if validation and test:
    # The later one among equals, as checkpoints are chosen.
    step = max(validation, key=lambda s: (validation[s][score], s))
    on_validation = {name: test[step][name] for name in on_test}
  return on_validation, on_test


def _means(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
  if not all(each):
    return {}
  return {name: float(np.mean([e[name] for e in each])) for name in each[0]}


def _curves(logs: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Curve]:
  tests = [_of_split(rows, "test") for rows in logs]
  steps = sorted(set.intersection(*(set(test) for test in tests)))
  if not steps:
    return {}
  rows = [[test[step] for step in steps] for test in tests]
  seconds = np.mean([[r["train_seconds"] for r in run] for run in rows], axis=0)
  epochs = np.array([row["epoch"] for row in rows[0]], np.float64)
  return {
    name: Curve(
      epochs, seconds, np.array([[r[name] for r in run] for run in rows])
    )
    for name in FOLLOWED
    if all(row.get(name) is not None for run in rows for row in run)
  }


def _stability(studies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Per task: whether the gates of different seeds part the images alike."""
  return {
    task: matching.stability([np.array(s["weights"][task]) for s in studies])
    for task in studies[0]["weights"]
  }


def _facts(
  groups: Mapping[str, Sequence[cells_lib.Cell]],
  cells: Sequence[cells_lib.Cell],
) -> list[str]:
  # The base of a transfer has other classes and images.
  group = next(g for n, g in groups.items() if n != "transfer_base")
  result = cells_lib.read_result(group[0])
  meta = result["meta"]
  trained = [cell for cell in cells if cell.trains]
  results = [_result(cell) for cell in trained]
  seconds = sum(r["wall_seconds"] for r in results)
  commits = sorted({r["commit"][:7] for r in results if r["commit"]})
  return [
    f"{len(group)} seeds, {result['n']} test images of "
    f"{len(meta['class_names'])} classes.",
    f"{len(trained)} trained models in {progress.duration(seconds)} of "
    f"computation on {results[0]['device']}.",
    f"Commit {', '.join(commits) or 'unknown'}.",
  ]


def seconds_of(cell: cells_lib.Cell) -> float:
  """What a finished run took; 0 for one that is not finished."""
  return _result(cell)["wall_seconds"] if cells_lib.is_done(cell) else 0.0


def write_study(cell: cells_lib.Cell, values: Mapping[str, Any]) -> None:
  """Keeps the values of `study.study`, whole or not at all."""
  files.write_json(study_path(cell), dict(values))
