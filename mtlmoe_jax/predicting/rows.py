"""Rows: what is told of each item, as JSON values."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtlmoe_jax.predicting.inputs import Item
from mtlmoe_jax.predicting.predictor import Prediction
from mtlmoe_jax.predicting.reading import Seen

Row = dict[str, Any]
# Decimals of boxes, in pixels and as shares.
PIXELS, SHARES = 2, 6


def row(seen: Seen, prediction: Prediction | None, passport: str) -> Row:
  """The row of one item, without the names of its pictures.

  Args:
    seen: the item, which was read or not.
    prediction: about the image as a whole; None where it was not read.
    passport: of all rows of this prediction.

  Returns:
    `id` (the path), `width`, `height` (pixels of the upright image), `class`,
    `class_index`, `probability`, `top5` (a list of `class`, `probability`),
    `box` (`pixels` and `normalised`, xyxy); with a detector's boxes `detection`
    (as `box`, with `confidence` and `category`), of a frame of a video `frame`
    and `seconds`; `experts` (task -> list of `expert`, `weight`, heaviest
    first), `error` (why it was not read, or None) and `passport`. What is not
    known is None.
  """
  height, width = seen.size or (None, None)
  made: Row = {
    "id": seen.item.path,
    "width": width,
    "height": height,
    "class": None,
    "class_index": None,
    "probability": None,
    "top5": None,
    "box": None,
  }
  if prediction is not None:
    made |= _answers(prediction)
  made |= _where(seen.item, seen.size)
  made["experts"] = {} if prediction is None else _experts(prediction)
  made["error"] = seen.error or None
  made["passport"] = passport
  return made


def _answers(prediction: Prediction) -> Row:
  p = prediction
  answers: Row = {
    "class": p.label,
    "class_index": p.class_index,
    "probability": p.probability,
  }
  if p.top5:
    answers["top5"] = [
      {"class": name, "probability": value} for name, value in p.top5
    ]
  if p.box is not None:
    answers["box"] = _corners(p.box.pixels, p.box.shares)
  return answers


def _where(item: Item, size: tuple[int, int] | None) -> Row:
  """Which part of a file an item is, where it is not all of it."""
  where: Row = {"detection": None} if item.is_blank else {}
  if item.detection is not None:
    shares = item.detection.box
    found: Row = {"pixels": None, "normalised": list(shares)}
    if size is not None:
      sides = (size[1], size[0]) * 2
      pixels = [share * side for share, side in zip(shares, sides)]
      found = _corners(pixels, shares)
    found["confidence"] = item.detection.confidence
    found["category"] = item.detection.category
    where["detection"] = found
  if item.frame is not None:
    where |= {"frame": item.frame, "seconds": item.seconds}
  return where


def _experts(prediction: Prediction) -> Row:
  return {
    task: [{"expert": e.expert, "weight": e.weight} for e in experts]
    for task, experts in prediction.experts.items()
  }


def _corners(pixels: Sequence[float], shares: Sequence[float]) -> Row:
  return {
    "pixels": np.round(pixels, PIXELS).tolist(),
    "normalised": np.round(shares, SHARES).tolist(),
  }
