"""The page of a suite: verdicts first, then all that they rest on."""

from collections.abc import Callable, Iterator

from mtlmoe_jax.reports import markdown
from mtlmoe_jax.reports.plots import Picture
from mtlmoe_jax.reports.suite import (
  experts,
  pay,
  plots_answers,
  plots_cost,
  plots_curves,
  plots_experts,
  results,
  wording,
)
from mtlmoe_jax.reports.suite import findings as findings_lib
from mtlmoe_jax.reports.suite.findings import Findings
from mtlmoe_jax.reports.suite.poster import REPORTED

# The suite whose rows are all compared to its base.
ABLATION = "ablation"
_TITLES = {
  "exp1": "Experiment 1: six experts or one",
  "transfer": "Transfer to new classes",
  "exp2": "Experiment 2: class and box together",
  "experts": "What sets experts apart",
  "all": "The poster's experiments",
  ABLATION: "What each part is worth",
  pay.SUITE: "When do experts pay?",
}
# Curves in one picture: its name, its title -> variations.
_CURVES = {
  ("exp1", "Experiment 1 (the poster's figure 4)"): (
    "single moe uniform random dense matched ensemble"
  ),
  ("transfer", "Transfer (the poster's figure 5)"): (
    "moe transfer_frozen transfer_unfrozen"
  ),
  ("exp2", "Experiment 2 (the poster's figure 7)"): (
    "one_tower moe mtl_1 mtl_3 mtl_6"
  ),
}
# Pictures beside the page in Markdown; the page for a browser has all of them.
SHOWN = ("verdicts", "differences", "information", "map")

_FILTERS: dict[str, Callable[..., object]] = {
  "decimal": wording.decimal,
  "p_value": wording.p_value,
  "effect": wording.effect,
  "question": wording.question,
  "cell": wording.cell,
}


def text(
  findings: Findings,
  numbers: str,
  whole: bool = False,
  illustrated: bool = True,
) -> str:
  """The page in Markdown; a part without data is left out.

  Args:
    findings: all that it shows.
    numbers: name of the file of all numbers, STEM.json or STEM.json.xz;
      pictures are STEM_<name>.svg beside the page.
    whole: whether all pictures are on it; else it says where the rest is.
    illustrated: whether they lie beside it; else their titles stand alone.
  """
  drawn = {picture.name: picture for picture in pictures(findings)}
  metrics = (m for row in findings.rows for m in row.figures.values())
  return markdown.render(
    "suite.md.j2",
    _FILTERS,
    title=f"{_TITLES.get(findings.suite, findings.suite)}, on {findings.data}",
    findings=findings,
    rows={row.name: row for row in findings.rows},
    is_ablation=findings.suite == ABLATION,
    is_pay=findings.suite == pay.SUITE,
    pay=pay,
    known=[answer for answer in findings.answers if answer.is_known],
    seeds=max((len(metric.per_seed) for metric in metrics), default=0),
    numbers=numbers,
    stem=numbers.split(".json")[0],
    pictures=drawn,
    shown=drawn if whole else SHOWN,
    illustrated=illustrated,
    whole=whole,
    verdicts=findings_lib,
    experts=experts,
    results=results,
    reported=REPORTED,
  )


def pictures(findings: Findings) -> list[Picture]:
  """All pictures in the order of the page; those without data are left out."""
  return [picture for picture in _pictures(findings) if picture]


def _pictures(findings: Findings) -> Iterator[Picture | None]:
  if findings.suite == pay.SUITE:
    yield pay.picture(findings)
    return
  if findings.suite == ABLATION:
    yield plots_answers.by_metric(
      "differences", "Differences to the base", findings.answers
    )
    return
  yield plots_answers.answers(
    "verdicts",
    "Differences that the verdicts rest on",
    [(f"{c.number}. {c.title}", c.answers) for c in findings.claims],
  )
  for claim in findings.claims:
    yield plots_answers.answers(
      f"controls_{claim.number}",
      f"Controls of claim {claim.number}",
      [("", claim.controls)],
    )
  yield plots_answers.answers(
    "others", "Other comparisons", [("", findings.answers)]
  )
  rows = {row.name: row for row in findings.rows}
  for (name, title), names in _CURVES.items():
    lines = [
      (wording.label(rows[key]), rows[key].curves["top1"])
      for key in names.split()
      if key in rows and "top1" in rows[key].curves
    ]
    # One line alone, of a suite that shares its base, tells nothing.
    if len(lines) > 1:
      yield plots_curves.learning(f"curves_{name}", title, lines)
  # The base of a transfer tells other classes: no point among these.
  yield plots_cost.cost([r for r in findings.rows if r.name != "transfer_base"])
  studied = {
    wording.label(rows[name]) if name in rows else name: studies
    for name, studies in experts.studied(findings).items()
  }
  for draw in (
    plots_experts.use,
    plots_experts.information,
    plots_experts.removal,
    plots_experts.likeness,
  ):
    yield draw(studied)
