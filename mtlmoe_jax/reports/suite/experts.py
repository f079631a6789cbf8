"""What experts learn, as numbers of the page's tables.

Letters: S seeds. A study is what was seen of one seed's experts, as in
`Findings.experts`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mtlmoe_jax.metrics import intervals
from mtlmoe_jax.reports.suite import wording
from mtlmoe_jax.reports.suite.findings import Findings
from mtlmoe_jax.reports.suite.plots_experts import (
  KINDS,
  Studies,
  Study,
  of_kind,
)

__all__ = ["KINDS", "of_kind"]


def studied(findings: Findings) -> dict[str, list[Study]]:
  """Variation -> its studies, in the order of the rows.

  A single expert has nothing to divide among, so it is left out.
  """
  names = dict.fromkeys([row.name for row in findings.rows])
  studies = {
    name: [s for s in findings.experts.get(name, ()) if s.get("gates")]
    for name in names | dict.fromkeys(findings.experts)
  }
  return {name: several for name, several in studies.items() if several}


def valued(studies: Studies) -> bool:
  """Whether it is known what any gate's choices are worth."""
  return any(
    "gate_value" in gate
    for of_seeds in studies.values()
    for study in of_seeds
    for gate in study["gates"].values()
  )


def gates(studies: Sequence[Study], task: str) -> list[dict[str, Any]]:
  """S gates of a task."""
  return [study["gates"][task] for study in studies]


def chosen(studies: Sequence[Study], task: str) -> str:
  """How many experts a task's gate chooses for an image."""
  tasks, k = studies[0].get("tasks", ()), studies[0].get("k") or ()
  return str(dict(zip(tasks, k)).get(task, wording.UNKNOWN))


def agreements(studies: Studies) -> dict[str, list[dict[str, Any]]]:
  """Variation -> S comparisons of its gates, where it has two."""
  compared = {
    name: [s["agreement"] for s in of_seeds if s.get("agreement")]
    for name, of_seeds in studies.items()
  }
  return {name: pairs for name, pairs in compared.items() if pairs}


def over_seeds(
  items: Iterable[Mapping[str, Any]], key: str, digits: int, by: float = 1
) -> str:
  """Mean and, of several that differ, their deviation.

  Args:
    items: a dict a seed.
    key: of the number in them.
    digits: behind the point.
    by: what the number is multiplied by.
  """
  values = [by * wording.number(item.get(key)) for item in items]
  known = [value for value in values if math.isfinite(value)]
  text = wording.decimal(wording.mean(known), digits)
  if len(set(known)) > 1:
    deviation = intervals.deviation(np.asarray(known))
    text += f" ± {wording.decimal(deviation, digits)}"
  return text


def kinds(studies: Studies) -> list[tuple[str, int, int]]:
  """Kinds of groups that the gates were compared to.

  Returns:
    Name, over variations, gates and seeds the number of informations, and of
    those above their null.
  """
  counts = []
  for kind in KINDS:
    informations = [
      gate[kind]
      for of_seeds in studies.values()
      for study in of_seeds
      for gate in study["gates"].values()
      if kind in gate
    ]
    pairs = [
      (wording.number(i["bits"]), wording.number(i["null_high"]))
      for i in informations
    ]
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    if informations:
      counts.append((kind, len(pairs), sum(b > high for b, high in pairs)))
  return counts
