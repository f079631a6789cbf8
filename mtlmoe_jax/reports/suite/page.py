"""The page of a suite: verdicts first, then all that they rest on."""

import math
from collections.abc import Collection, Iterator, Sequence

from mtlmoe_jax.reports.suite import (
  experts,
  markdown,
  plots_answers,
  plots_cost,
  plots_curves,
  plots_experts,
  results,
  wording,
)
from mtlmoe_jax.reports.suite import findings as findings_lib
from mtlmoe_jax.reports.suite.document import Document, Picture
from mtlmoe_jax.reports.suite.findings import Answer, Claim, Findings
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
}
# Curves in one picture: name, title, variations.
_CURVES = (
  (
    "exp1",
    "Experiment 1 (the poster's figure 4)",
    ("single", "moe", "uniform", "random", "dense", "matched", "ensemble"),
  ),
  (
    "transfer",
    "Transfer (the poster's figure 5)",
    ("moe", "transfer_frozen", "transfer_unfrozen"),
  ),
  (
    "exp2",
    "Experiment 2 (the poster's figure 7)",
    ("one_tower", "moe", "mtl_1", "mtl_3", "mtl_6"),
  ),
)


def document(findings: Findings) -> Document:
  """Findings and all their pictures; those without data are left out."""
  pictures = (p for p in _pictures(findings) if p is not None)
  return Document(findings, list(pictures))


def text(
  document: Document,
  stem: str,
  shown: Collection[str] = (),
  illustrated: bool = True,
) -> str:
  """The page in Markdown; a part without data is left out.

  Args:
    document: of `document`.
    stem: name of all files: pictures are `<stem>_<name>.svg` beside the page.
    shown: names of the pictures on it, and it says where the rest is; () for
      a page with all of them.
    illustrated: whether they lie beside it; else their titles stand alone.
  """
  findings = document.findings
  pictures = {picture.name: picture for picture in document.pictures}
  title = _TITLES.get(findings.suite, findings.suite)
  return markdown.render(
    "suite.md.j2",
    title=f"{title}, on {findings.data}",
    findings=findings,
    rows={row.name: row for row in findings.rows},
    is_ablation=findings.suite == ABLATION,
    known=_known(findings.answers),
    seeds=_seeds(findings),
    stem=stem,
    pictures=pictures,
    shown=shown or pictures,
    illustrated=illustrated,
    is_whole=not shown,
    verdicts=findings_lib,
    experts=experts,
    results=results,
    reported=REPORTED,
  )


def _known(answers: Sequence[Answer]) -> list[Answer]:
  return [answer for answer in answers if math.isfinite(answer.difference)]


def _seeds(findings: Findings) -> int:
  """The most that any metric has."""
  metrics = (m for row in findings.rows for m in row.figures.values())
  return max((len(metric.per_seed) for metric in metrics), default=0)


def short(claim: Claim) -> str:
  """What a claim is called in the table and the picture of verdicts."""
  return f"{claim.number}. {claim.title}"


def _pictures(findings: Findings) -> Iterator[Picture | None]:
  if findings.suite == ABLATION:
    yield plots_answers.by_metric(
      "differences", "Differences to the base", findings.answers
    )
    return
  yield plots_answers.answers(
    "verdicts",
    "Differences that the verdicts rest on",
    [(short(claim), claim.answers) for claim in findings.claims],
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
  for name, title, names in _CURVES:
    lines = [
      (wording.label(rows[key]), rows[key].curves["top1"])
      for key in names
      if key in rows and "top1" in rows[key].curves
    ]
    # One line alone, of a suite that shares its base, tells nothing.
    if len(lines) > 1:
      yield plots_curves.learning(f"curves_{name}", title, lines)
  # The base of a transfer tells other classes: no point among these.
  compared = [row for row in findings.rows if row.name != "transfer_base"]
  yield plots_cost.cost("cost", compared)
  studied = {
    wording.label(rows[name]) if name in rows else name: studies
    for name, studies in experts.studied(findings).items()
  }
  yield plots_experts.use("use", studied)
  if experts.kinds(studied):
    yield plots_experts.information("information", studied)
  yield plots_experts.removal("removal", studied)
  yield plots_experts.likeness("cka", studied)
