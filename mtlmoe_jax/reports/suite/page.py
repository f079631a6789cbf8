"""The page of a suite: verdicts first, then all that they rest on."""

import math
from collections.abc import Iterator, Sequence

from mtlmoe_jax.reports.suite import experts as expert_story
from mtlmoe_jax.reports.suite import (
  plots_answers,
  plots_cost,
  plots_curves,
  wording,
)
from mtlmoe_jax.reports.suite import results as result_story
from mtlmoe_jax.reports.suite.document import (
  Block,
  Code,
  Document,
  Heading,
  Picture,
  Table,
  Text,
)
from mtlmoe_jax.reports.suite.findings import (
  CONFIRMED,
  MARGIN,
  OPEN,
  REFUTED,
  Answer,
  Claim,
  Findings,
)

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
  """The page; a part without data is left out."""
  title = _TITLES.get(findings.suite, findings.suite)
  title = f"{title}, on {findings.data}"
  head: list[Block] = [
    Text("Written by"),
    Code(findings.command),
    Text(" ".join((_setting(findings), *findings.facts))),
  ]
  if findings.suite == ABLATION:
    return Document(title, (*head, *_ablation(findings)))
  blocks: list[Block] = [
    *head,
    *_verdicts(findings),
    Heading("How to read this"),
    Text(_reading(findings)),
    *(block for claim in findings.claims for block in _claim(claim)),
    *_others(findings.answers),
    *result_story.results(findings.rows),
    *_curves(findings),
    *_cost(findings),
    *expert_story.experts(findings),
  ]
  return Document(title, tuple(blocks))


def _ablation(findings: Findings) -> Iterator[Block]:
  """Every row beside the base, with the difference to it."""
  text = "Mean ± standard deviation over seeds, per cent"
  known = [a for a in findings.answers if math.isfinite(a.difference)]
  if known:
    clear = sum(answer.is_clear for answer in known)
    text += (
      ", then the difference to the base, percentage points, with its 95 % "
      "interval, paired by seed and image and resampled over both "
      "(`metrics/intervals.py`). **Bold**: the interval leaves zero out, which "
      f"{clear} of {len(known)} do; where nothing made a difference, about "
      f"{len(known) * 0.05:.0f} would"
    )
  yield Text(f"{text}.")
  picture = plots_answers.by_metric(
    "differences", "Differences to the base", findings.answers
  )
  if picture:
    yield picture
  yield result_story.measured(findings.rows, findings.answers)


def _setting(findings: Findings) -> str:
  if not findings.preset:
    return f"Data `{findings.data}`."
  return f"Data `{findings.data}`, preset `{findings.preset}`."


def _reading(findings: Findings) -> str:
  seeds = max(
    (
      len(found.per_seed)
      for row in findings.rows
      for found in row.figures.values()
    ),
    default=0,
  )
  few = f"With {seeds} seeds" if seeds > 1 else "With one seed"
  margin = wording.decimal(100 * MARGIN, 0)
  return (
    "Shares and IoU are per cent, differences percentage points. Brackets are "
    "95 % intervals, resampled over seeds and over images, paired by both "
    "where two variations are compared; of epochs, Student's over seeds. "
    f"**{CONFIRMED}**: the interval of the difference leaves zero out, "
    f"on the claim's side. **{REFUTED}**: all of it is below the "
    f"smallest gain that matters, {margin} point (for epochs: none). "
    f"**{OPEN}**: neither; the effect may be there, but this many runs "
    f"and images do not show it. {few} the spread over seeds is itself known "
    "only roughly, and of many comparisons one in twenty leaves zero out by "
    "chance."
  )


def _verdicts(findings: Findings) -> Iterator[Block]:
  if not findings.claims:
    return
  yield Heading("Verdicts")
  yield Table(
    ("claim", "the poster", "verdict", "what was found here"),
    tuple(
      (
        _short(claim),
        claim.poster,
        f"**{claim.verdict}**",
        claim.reason,
      )
      for claim in findings.claims
    ),
  )
  picture = plots_answers.answers(
    "verdicts",
    "Differences that the verdicts rest on",
    [(_short(claim), claim.answers) for claim in findings.claims],
  )
  if picture:
    yield picture


def _short(claim: Claim) -> str:
  return f"{claim.number}. {claim.title}"


def _claim(claim: Claim) -> Iterator[Block]:
  yield Heading(f"Claim {claim.number}: {claim.title}")
  yield Text(
    f"The poster: {claim.poster.rstrip('.')}. Here: **{claim.verdict}**: "
    f"{claim.reason}"
  )
  if claim.answers:
    yield _table(claim.answers, "What decides it.")
  if claim.controls:
    yield _table(claim.controls, "Controls: they tell why.")
    picture = plots_answers.answers(
      f"controls_{claim.number}",
      f"Controls of claim {claim.number}",
      [("", claim.controls)],
    )
    if picture:
      yield picture


def _others(answers: Sequence[Answer]) -> Iterator[Block]:
  if not answers:
    return
  yield Heading("Other comparisons")
  known = [a for a in answers if math.isfinite(a.difference)]
  clear = sum(a.low > 0 or a.high < 0 for a in known)
  yield Text(
    f"Of {len(known)} differences {clear} have an interval that leaves zero "
    "out; where nothing made a difference, about "
    f"{wording.decimal(0.05 * len(known), 1)} would."
  )
  yield _table(answers, "")
  picture = plots_answers.answers(
    "others", "Other comparisons", [("", answers)]
  )
  if picture:
    yield picture


def _table(answers: Sequence[Answer], caption: str) -> Table:
  header = ["question", "difference [95 %]"]
  counted = any(answer.counts for answer in answers)
  if counted:
    header.append("only one/only other right, per seed (McNemar's p)")
  rows = []
  for answer in answers:
    row = [
      f"{wording.question(answer)}\n(`{answer.one}` - `{answer.other}`)",
      wording.effect(answer),
    ]
    if counted:
      row.append(_counts(answer))
    rows.append((*row, f"**{answer.verdict}**"))
  return Table((*header, "verdict"), tuple(rows), caption)


def _counts(answer: Answer) -> str:
  return (
    "; ".join(
      f"{b}/{c} ({wording.p_value(p)})"
      for (b, c), p in zip(answer.counts, answer.p_values)
    )
    or wording.UNKNOWN
  )


def _curves(findings: Findings) -> Iterator[Block]:
  rows = {row.name: row for row in findings.rows}
  pictures: list[Picture] = []
  for name, title, names in _CURVES:
    lines = [
      (wording.label(rows[key]), rows[key].curves["top1"])
      for key in names
      if key in rows and "top1" in rows[key].curves
    ]
    # One line alone, of a suite that shares its base, tells nothing.
    if len(lines) > 1:
      picture = plots_curves.learning(f"curves_{name}", title, lines)
      pictures += [picture] if picture else []
  if not pictures:
    return
  yield Heading("While training")
  yield Text(
    "Top-1 accuracy on the test split, watched but not used: mean of the "
    "seeds, the band from the lowest to the highest. Training time leaves "
    "compilation out."
  )
  yield from pictures


def _cost(findings: Findings) -> Iterator[Block]:
  # The base of a transfer tells other classes: no point among these.
  rows = [row for row in findings.rows if row.name != "transfer_base"]
  picture = plots_cost.cost("cost", rows)
  if picture:
    yield Heading("Against what it costs")
    yield Text(
      "Each point is a variation at its last checkpoint, its bar the 95 % "
      "interval. Work is that of a forward pass of one image, a multiply-add "
      "counted twice; where it is equal, points stand side by side."
    )
    yield picture
