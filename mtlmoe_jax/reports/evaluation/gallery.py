"""The images of a report, with the predictions that were made for them.

Plain values for the templates. Letters: n images of the split, L classes, N
experts.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mtlmoe_jax import data as data_lib
from mtlmoe_jax.metrics.predictions import Predictions
from mtlmoe_jax.reports import html

# These counts keep a report below 8 MB whatever the images are.
SAMPLE = 24
WORST = 12
PAIRS = 6
STORED = 224  # longer side of a stored image, pixels
SHOWN = 172  # longer side as it is shown


@dataclasses.dataclass(frozen=True)
class Card:
  """One image; None where there is nothing to tell.

  Attributes:
    id: name of the image.
    address: its pixels.
    width: as shown, pixels.
    height: as shown, pixels.
    boxes: (kind "t" true or "p" predicted, xyxy in shares).
    predicted: the most probable class and the probability given to it.
    truth: the true class where it is not the predicted one.
    truth_probability: that the model gives to it.
    correct: whether the predicted class is the true one.
    iou: of the two boxes.
    gates: (task, ((expert, weight), ...)) of gates with a choice.
  """

  id: str
  address: str
  width: int
  height: int
  boxes: list[tuple[str, list[float]]]
  predicted: tuple[str, float] | None
  truth: str | None
  truth_probability: float | None
  correct: bool | None
  iou: float | None
  gates: list[tuple[str, list[tuple[int, float]]]]


@dataclasses.dataclass(frozen=True)
class Gallery:
  """Images under a title."""

  title: str
  note: str
  cards: list[Card]


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two classes that are confused.

  Attributes:
    truth: the true class.
    predicted: the class it is taken for.
    count: images so confused.
    images: of the true class.
    mistake: the surest one; None without images to show.
    example: the surest image of the other class; None where none is right.
  """

  truth: str
  predicted: str
  count: int
  images: int
  mistake: Card | None
  example: Card | None


def galleries(
  p: Predictions, source: data_lib.Source, names: Sequence[str]
) -> list[Gallery]:
  """An even sample, the worst classified and the worst boxes.

  Args:
    p: predictions of n images.
    source: the same n images.
    names: L class names.
  """
  chosen = [("A sample of the predictions", "", spread(len(p), SAMPLE))]
  if p.probabilities is not None and p.has_label.any():
    of_true = np.where(
      p.has_label,
      p.probabilities[np.arange(len(p)), np.maximum(p.labels, 0)],
      np.inf,
    )
    worst = np.argsort(of_true, kind="stable")[:WORST]
    worst = worst[np.isfinite(of_true[worst])]
    note = "The least probability given to the true class."
    chosen.append(("Worst classified first", note, worst))
  if p.iou is not None and p.has_box.any():
    worst = np.argsort(p.iou, kind="stable")[:WORST]  # NaN comes last
    worst = worst[p.has_box[worst]]
    chosen.append(("Worst boxes first", "The least IoU.", worst))
  return [
    Gallery(title, note, [_card(p, int(i), source, names) for i in index])
    for title, note, index in chosen
  ]


def _card(
  p: Predictions, i: int, source: data_lib.Source, names: Sequence[str]
) -> Card:
  image = source[i]["image"]
  height, width = SHOWN * np.divide(image.shape[:2], max(image.shape[:2]))
  boxes = [
    (kind, corners[i].tolist())
    for kind, corners in (("t", p.true_boxes), ("p", p.boxes))
    if corners is not None and (kind == "p" or p.has_box[i])
  ]
  probability = None if p.probabilities is None else p.probabilities[i]
  predicted = None if p.predicted is None else int(p.predicted[i])
  correct = truth = truth_probability = None
  if p.has_label[i]:
    label = int(p.labels[i])
    correct = None if predicted is None else predicted == label
    if not correct:
      truth = names[label]
      if probability is not None:
        truth_probability = float(probability[label])
  return Card(
    id=p.ids[i],
    address=html.jpeg_uri(image, STORED),
    width=round(width),
    height=round(height),
    boxes=boxes,
    predicted=None
    if predicted is None or probability is None
    else (names[predicted], float(probability[predicted])),
    truth=truth,
    truth_probability=truth_probability,
    correct=correct,
    iou=float(p.iou[i]) if p.iou is not None and p.has_box[i] else None,
    gates=[
      (
        task,
        [
          (int(e), float(gate.dense[i][e]))
          for e in np.flatnonzero(gate.dense[i])
        ],
      )
      for task, gate in p.routing.items()
      if gate.probs.shape[1] > 1
    ],
  )


def confused_pairs(
  p: Predictions,
  counts: np.ndarray,
  source: data_lib.Source | None,
  names: Sequence[str],
) -> list[Pair]:
  """The most confused pairs, with the surest mistake and a right example.

  Args:
    p: predictions of n images.
    counts: i [L, L], images of true class r predicted as c.
    source: the same n images; None shows none.
    names: L class names.
  """
  wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
  order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]

  def surest(mask: np.ndarray, predicted: int) -> Card | None:
    if source is None or p.probabilities is None or not mask.any():
      return None
    best = np.argmax(np.where(mask, p.probabilities[:, predicted], -1))
    return _card(p, int(best), source, names)

  return [
    Pair(
      names[true],
      names[predicted],
      int(counts[true, predicted]),
      int(counts[true].sum()),
      surest(
        p.has_label & (p.labels == true) & (p.predicted == predicted), predicted
      ),
      surest(p.correct & (p.labels == predicted), predicted),
    )
    for true, predicted in zip(*np.unravel_index(order, counts.shape))
    if wrong[true, predicted]
  ]


def spread(n: int, count: int) -> np.ndarray:
  """At most `count` positions spread evenly over range(n)."""
  return np.unique(np.linspace(0, n - 1, min(n, count)).round().astype(int))
