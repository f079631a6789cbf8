"""Results of a suite as plain values: pages are made of these alone.

Letters: S seeds, n images of the test split, P points of a curve, N experts.
"""

import dataclasses
import math
from typing import Any

import numpy as np

# Verdicts.
CONFIRMED, REFUTED, OPEN = "confirmed", "refuted", "not decidable"
# A gain whose interval lies below this is none that anybody would pay several
# times the computation for.
MARGIN = 0.01


@dataclasses.dataclass(frozen=True)
class Measured:
  """One metric of one variation.

  Attributes:
    mean: over seeds and images.
    deviation: of the seeds' means (n - 1); NaN with one seed.
    per_seed: S means.
    low: of the 95 % interval over images and seeds.
    high: the same.
  """

  mean: float
  deviation: float
  per_seed: tuple[float, ...]
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Curve:
  """A metric of the test split while training.

  Attributes:
    epochs: f64 [P].
    seconds: f64 [P] of training, compilation left out; mean over seeds.
    values: f64 [S, P].
  """

  epochs: np.ndarray
  seconds: np.ndarray
  values: np.ndarray


@dataclasses.dataclass(frozen=True)
class VariationResult:
  """One variation: a line of the table.

  Attributes:
    name: of the variation.
    what: for people.
    group: heading it stands under.
    figures: name -> of the last checkpoint; top1, miou, acc_iou_50, top1_loc,
      ciou_score, those that it has.
    wilson: name -> (low, high) of the shares among `figures`, of the first
      seed alone: what one run of n images tells by itself.
    best_on_validation: name -> mean over seeds of the test metric at the epoch
      that was best on validation; empty without validation.
    best_on_test: name -> the same at the epoch with the best test metric, as
      the poster has it: too high.
    seconds: of a run, mean over seeds.
    flops: of a forward pass of one image, multiply-adds counted twice; NaN
      where unknown.
    parameters: of the model.
    parameters_active: those that one image meets.
    curves: name -> curve, where the test split was watched.
  """

  name: str
  what: str
  group: str
  figures: dict[str, Measured]
  wilson: dict[str, tuple[float, float]]
  best_on_validation: dict[str, float]
  best_on_test: dict[str, float]
  seconds: float
  flops: float
  parameters: float
  parameters_active: float
  curves: dict[str, Curve]


@dataclasses.dataclass(frozen=True)
class Answer:
  """One comparison of two variations in one metric.

  Attributes:
    question: for people: "six experts instead of one".
    one: name of the variation.
    other: name of what it is compared to.
    figure: name of the metric.
    unit: of the difference: "" (a share) or "epochs".
    difference: one minus other, or NaN where there is none.
    low: of its 95 % interval.
    high: the same.
    counts: per seed (images that only `one` has right, only `other`); empty
      where the metric is no share.
    p_values: per seed, McNemar's exact test; the same length.
    verdict: "confirmed", "refuted" or "not decidable".
  """

  question: str
  one: str
  other: str
  figure: str
  unit: str
  difference: float
  low: float
  high: float
  counts: tuple[tuple[int, int], ...]
  p_values: tuple[float, ...]
  verdict: str

  @property
  def is_known(self) -> bool:
    """Whether there is a difference."""
    return math.isfinite(self.difference)

  @property
  def is_clear(self) -> bool:
    """Whether the interval leaves zero out."""
    return self.low > 0 or self.high < 0


@dataclasses.dataclass(frozen=True)
class Claim:
  """One of the poster's claims, put to the test.

  Attributes:
    number: 1 ... 4.
    title: the claim.
    poster: what the poster reports for it.
    verdict: as in `Answer`, of the answers that decide it.
    reason: a sentence.
    answers: that decide it.
    controls: answers that tell why.
  """

  number: int
  title: str
  poster: str
  verdict: str
  reason: str
  answers: tuple[Answer, ...]
  controls: tuple[Answer, ...]


@dataclasses.dataclass(frozen=True)
class Findings:
  """All that a page shows.

  Attributes:
    suite: of `reproduction.SUITES` or "all".
    data: name of the data.
    preset: "cpu" or "paper".
    command: that makes the pages again.
    facts: sentences: seeds, images, classes, device, commit.
    rows: a line a variation.
    claims: those that the suite can judge.
    answers: other comparisons, with the base of their suite.
    experts: variation name -> a study a seed, plain dicts; see `study.study`.
    stability: variation name -> task -> `matching.stability` over seeds.
  """

  suite: str
  data: str
  preset: str
  command: str
  facts: tuple[str, ...]
  rows: tuple[VariationResult, ...]
  claims: tuple[Claim, ...]
  answers: tuple[Answer, ...]
  experts: dict[str, list[dict[str, Any]]]
  stability: dict[str, dict[str, Any]]
