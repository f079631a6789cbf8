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
from mtlmoe_jax.reports.plots import display_name

# These counts keep a report below 8 MB whatever the images are.
SAMPLE = 24
WORST = 12
PAIRS = 6
STORED = 224  # longer side of a stored image, pixels
SHOWN = 172  # longer side as it is shown


@dataclasses.dataclass(frozen=True)
class Card:
  """One image; a text is "" where there is nothing to tell.

  Attributes:
    id: name of the image.
    address: its pixels.
    width: as shown, pixels.
    height: as shown, pixels.
    boxes: (kind "t" true or "p" predicted, x, y, width, height), shares.
    mark: "ok", "no" or, without a label, "mute".
    predicted: the most probable class.
    probability: that the model gives to it.
    truth: the true class where it is not the predicted one.
    truth_probability: in brackets.
    iou: of the two boxes.
    gates: (task, ((expert, weight), ...)) of gates with a choice.
  """

  id: str
  address: str
  width: int
  height: int
  boxes: list[tuple[str, str, str, str, str]]
  mark: str = "mute"
  predicted: str = ""
  probability: str = ""
  truth: str = ""
  truth_probability: str = ""
  iou: str = ""
  gates: Sequence[tuple[str, list[tuple[int, float]]]] = ()


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
  boxes, texts = [], {}
  if p.has_box[i]:
    boxes.append(_rectangle("t", p.true_boxes[i]))
  if p.boxes is not None:
    boxes.append(_rectangle("p", p.boxes[i]))
  if p.predicted is not None and p.probabilities is not None:
    texts["predicted"] = display_name(names[p.predicted[i]], 40)
    texts["probability"] = f"{p.probabilities[i, p.predicted[i]]:.2f}"
    if p.correct is not None and p.has_label[i]:
      texts["mark"] = "ok" if p.correct[i] else "no"
  if p.has_label[i] and (p.correct is None or not p.correct[i]):
    texts["truth"] = display_name(names[p.labels[i]], 40)
    if p.probabilities is not None:
      texts["truth_probability"] = f" ({p.probabilities[i, p.labels[i]]:.2f})"
  if p.iou is not None and p.has_box[i]:
    texts["iou"] = f"{p.iou[i]:.2f}"
  gates = [
    (task, [(int(e), float(w)) for e, w in enumerate(gate.dense[i]) if w > 0])
    for task, gate in p.routing.items()
    if gate.probs.shape[1] > 1
  ]
  return Card(
    id=p.ids[i],
    address=html.jpeg_uri(image, STORED),
    width=round(width),
    height=round(height),
    boxes=boxes,
    gates=gates,
    **texts,
  )


def _rectangle(kind: str, box: np.ndarray) -> tuple[str, str, str, str, str]:
  x1, y1, x2, y2 = (float(v) for v in box)
  sides = (x1, y1, max(x2 - x1, 0), max(y2 - y1, 0))
  x, y, width, height = (f"{v:.4f}" for v in sides)
  return kind, x, y, width, height


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
      display_name(names[true], 60),
      display_name(names[predicted], 60),
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
