"""The poster's four claims, each as questions that numbers answer.

Letters: S seeds, n images, P points of a curve.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mtlmoe_jax.experiments import comparison, reproduction
from mtlmoe_jax.metrics import intervals
from mtlmoe_jax.reports.suite import wording
from mtlmoe_jax.reports.suite.findings import (
  CONFIRMED,
  MARGIN,
  OPEN,
  REFUTED,
  Answer,
  Claim,
  VariationResult,
)

# Of the final accuracy of the run without transfer: what both should reach.
GOAL = 0.95


@dataclasses.dataclass(frozen=True)
class Question:
  """A comparison of two variations.

  Attributes:
    text: for people: "six experts instead of one".
    one: name of a variation.
    other: what it is compared to.
    metric: name; "epochs" is how much earlier `one` reaches the goal.
  """

  text: str
  one: str
  other: str
  metric: str = "top1"


@dataclasses.dataclass(frozen=True)
class ClaimSpec:
  """A claim and the questions that decide it.

  Attributes:
    number: 1 ... 4.
    title: the claim.
    poster: what the poster reports.
    questions: each must be confirmed for the claim to be.
    controls: that tell why.
  """

  number: int
  title: str
  poster: str
  questions: tuple[Question, ...]
  controls: tuple[Question, ...]


# Why a mixture is better than one expert, or is not.
_MIXTURE_CONTROLS = (
  Question("the gate instead of equal weights", "moe", "uniform"),
  Question("the gate instead of chance", "moe", "random"),
  Question("two chosen experts instead of all six", "moe", "dense"),
  Question(
    "six experts instead of one with as many parameters",
    "moe",
    "matched",
  ),
  Question(
    "six experts instead of six networks trained apart",
    "moe",
    "ensemble",
  ),
  Question("six networks trained apart, not one", "ensemble", "single"),
  Question(
    "six experts instead of one that is told what their gate knows",
    "moe",
    "single_told",
  ),
  Question("informed gates instead of gates of pixels", "moe", "moe_pixels"),
)


def claim_specs(data: str) -> tuple[ClaimSpec, ...]:
  """The four claims.

  Args:
    data: of `reproduction.DATA`.
  """
  tower = reproduction.one_tower(data)
  return (
    ClaimSpec(
      1,
      "A mixture of experts beats a single expert",
      "96.7 % against 95.0 % (figure 4), 4.4 times the time",
      (Question("six experts instead of one", "moe", "single"),),
      _MIXTURE_CONTROLS,
    ),
    ClaimSpec(
      2,
      "Transfer speeds learning up",
      "93.3 % after 1.2 hours instead of 2.2 (figure 5)",
      (
        Question(
          f"epochs saved to {GOAL:.0%} of the accuracy without transfer",
          "transfer_unfrozen",
          "moe",
          "epochs",
        ),
      ),
      (
        Question("transfer or not, after training", "transfer_unfrozen", "moe"),
      ),
    ),
    ClaimSpec(
      3,
      "Freezing experts and condense hurts",
      "81.7 % instead of 93.3 % (figure 5)",
      (
        Question(
          "all trained instead of experts and condense frozen",
          "transfer_unfrozen",
          "transfer_frozen",
        ),
      ),
      (
        Question(
          "frozen experts of other classes, or no transfer",
          "transfer_frozen",
          "moe",
        ),
      ),
    ),
    ClaimSpec(
      4,
      "A second task helps the first, and more experts help",
      "+1.4 points for the second task (figure 7); 79.2, 80.4, 80.1 % for 1, 3 "
      "and 6 experts (table)",
      (
        Question("class and box instead of the class alone", "mtl_6", tower),
        Question("six experts instead of one", "mtl_6", "mtl_1"),
        Question("three experts instead of one", "mtl_3", "mtl_1"),
      ),
      (
        Question(
          "box and class, not the box alone", "mtl_6", "box_alone", "miou"
        ),
        Question("six experts, not one: boxes", "mtl_6", "mtl_1", "miou"),
        Question("three experts, not one: boxes", "mtl_3", "mtl_1", "miou"),
        Question("six experts, not three", "mtl_6", "mtl_3"),
        Question(
          "six experts, not one that is told what their gate knows",
          "mtl_6",
          "mtl_1_told",
        ),
        Question(
          "half the batch, as the poster's six experts had",
          "mtl_6_half_batch",
          "mtl_6",
        ),
        Question("true boxes instead of shuffled ones", "mtl_6", "shuffled"),
        Question("shuffled boxes instead of none", "shuffled", tower),
        Question("gradient surgery", "pcgrad", "mtl_6"),
        Question("learned task weights", "uncertainty", "mtl_6"),
      ),
    ),
  )


# What is compared to the two-tower six, in suite "experts": with either gates,
# with those of pixels, with informed ones.
ATTEMPTS = (
  *("k_1", "k_6", "unbalanced", "bias", "quiet", "sharp", "apart", "one_gate"),
  "wide_gate",
  *("pixels", "zeros", "uncopied", "untold", "noisy", "information", "joint"),
)


def other_questions(rows: Mapping[str, VariationResult]) -> list[Question]:
  """What setting experts apart costs or gains."""
  return [
    Question(rows[name].what, name, "mtl_6", metric)
    for name in ATTEMPTS
    if name in rows
    for metric in ("top1", "miou")
  ]


def verdict(low: float, high: float, margin: float = MARGIN) -> str:
  """What an interval of "one minus other" says of "one is better".

  Confirmed: the interval is above zero. Refuted: below zero, or below the
  margin, so that what gain there may be is not worth having.

  Args:
    low: of the interval.
    high: of the interval; NaN where there is none.
    margin: smallest difference that matters.
  """
  if low > 0:
    return CONFIRMED
  if high < margin:
    return REFUTED
  return OPEN


def answer(
  question: Question,
  rows: Mapping[str, VariationResult],
  values: Mapping[str, Mapping[str, np.ndarray]],
) -> Answer | None:
  """A question's answer; None where one of its variations has not run.

  Args:
    question: the two variations, and the metric.
    rows: by variation.
    values: variation -> metric -> f64 [S, n], NaN where an image has none.
  """
  one, other = question.one, question.other
  if one not in rows or other not in rows:
    return None
  if question.metric == "epochs":
    return _speed(question, rows)
  first, second = (values[name][question.metric] for name in (one, other))
  if np.isnan(first).all() or np.isnan(second).all():
    return None
  interval = intervals.crossed_interval(first - second)
  counts: list[tuple[int, int]] = []
  if question.metric in comparison.SHARES:
    counts = [_discordant(a, b) for a, b in zip(first, second)]
  return Answer(
    question.text,
    one,
    other,
    question.metric,
    "",
    *interval,
    tuple(counts),
    tuple(intervals.mcnemar(*pair) for pair in counts),
    verdict(*interval[1:]),
  )


def _discordant(one: np.ndarray, other: np.ndarray) -> tuple[int, int]:
  return int(np.sum(one > other)), int(np.sum(other > one))


def _speed(
  question: Question, rows: Mapping[str, VariationResult]
) -> Answer | None:
  """Epochs that the run with transfer needs less, paired by seed."""
  one, other = (
    rows[n].curves.get("top1") for n in (question.one, question.other)
  )
  if one is None or other is None:
    return None
  goals = GOAL * other.values[:, -1]
  saved = [
    reached(other.epochs, b, goal) - reached(one.epochs, a, goal)
    for a, b, goal in zip(one.values, other.values, goals)
  ]
  interval = intervals.student_interval(np.array(saved))
  return Answer(
    question.text,
    question.one,
    question.other,
    "top1",
    "epochs",
    *interval,
    (),
    (),
    verdict(*interval[1:], margin=0.0),
  )


def reached(epochs: np.ndarray, values: np.ndarray, goal: float) -> float:
  """When a curve first is at its goal, straight between its points.

  Args:
    epochs: f64 [P].
    values: f64 [P].
    goal: of the metric.

  Returns:
    Epochs; the first point's if it is there at once, the last one's if it never
    is.
  """
  there = np.flatnonzero(values >= goal)
  if not len(there):
    return float(epochs[-1])
  if not there[0]:
    return float(epochs[0])
  ends = slice(there[0] - 1, there[0] + 1)
  return float(np.interp(goal, values[ends], epochs[ends]))


def judge(
  claim: ClaimSpec,
  rows: Mapping[str, VariationResult],
  values: Mapping[str, Mapping[str, np.ndarray]],
) -> Claim | None:
  """A claim's verdict; None unless all that decides it has run.

  Confirmed where every question is, refuted where one is, else not decidable.

  Args:
    claim: what is claimed.
    rows: by variation.
    values: as in `answer`.
  """
  known = [answer(q, rows, values) for q in claim.questions]
  answers = [a for a in known if a is not None]
  if len(answers) < len(known):
    return None
  controls = [answer(q, rows, values) for q in claim.controls]
  verdicts = [a.verdict for a in answers]
  if all(v == CONFIRMED for v in verdicts):
    final = CONFIRMED
  else:
    final = REFUTED if REFUTED in verdicts else OPEN
  return Claim(
    claim.number,
    claim.title,
    claim.poster,
    final,
    _reason(answers),
    tuple(answers),
    tuple(c for c in controls if c is not None),
  )


def _reason(answers: Sequence[Answer]) -> str:
  return "; ".join(
    f"{a.question}: {_describe(a)}, {a.verdict}" for a in answers
  )


def _describe(answer: Answer) -> str:
  """`+1.2 points [-0.3, +2.7]`; of one seed's epochs there is no interval."""
  by, unit = wording.scale(answer)
  text = f"{wording.decimal(by * answer.difference, 1, '+')} {unit}"
  interval = wording.interval(by * answer.low, by * answer.high, 1, "+")
  return f"{text} {interval or '(one seed)'}"
