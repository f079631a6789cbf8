"""What a model said of every image of one split.

Letters: n images of the split, L classes, N experts, K selected per image.
Every array runs over the whole split, in the order of the source.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from mtlmoe_jax.config import TASKS
from mtlmoe_jax.ops import boxes as boxes_lib


@dataclasses.dataclass(frozen=True)
class Choices:
  """What one task's gate chose for every image.

  Attributes:
    experts: i32 [n, K], the selected experts.
    weights: f32 [n, K], their weights in the combination.
    probs: f32 [n, N], softmax of the noise-free logits over all experts.
  """

  experts: np.ndarray
  weights: np.ndarray
  probs: np.ndarray

  @functools.cached_property
  def dense(self) -> np.ndarray:
    """The weights spread over all experts, zero where not selected: [n, N]."""
    out = np.zeros(self.probs.shape, np.float64)
    rows = np.arange(len(out))[:, None]
    np.add.at(out, (rows, self.experts), self.weights)
    return out

  @functools.cached_property
  def load(self) -> np.ndarray:
    """Images that each expert was selected for, whatever the weight: [N]."""
    return np.bincount(self.experts.reshape(-1), minlength=self.probs.shape[1])


@dataclasses.dataclass(frozen=True)
class Predictions:
  """What the model said of every image, beside what is true.

  Attributes:
    ids: n stable names.
    labels: i32 [n], -1 where none.
    has_label: bool [n].
    logits: f32 [n, L], or None without the class task.
    boxes: f32 [n, 4] normalised xyxy, or None without the box task.
    true_boxes: f32 [n, 4] normalised xyxy, zeros where none.
    has_box: bool [n].
    routing: choices of each task's gate.
    temperature: divides the logits before they become probabilities; None: 1.
  """

  ids: list[str]
  labels: np.ndarray
  has_label: np.ndarray
  logits: np.ndarray | None
  boxes: np.ndarray | None
  true_boxes: np.ndarray
  has_box: np.ndarray
  routing: dict[str, Choices]
  temperature: float | None = None

  def __len__(self) -> int:
    return len(self.ids)

  @functools.cached_property
  def probabilities(self) -> np.ndarray | None:
    """f64 [n, L], or None without the class task."""
    if self.logits is None:
      return None
    return softmax(self.logits, self.temperature or 1.0)

  @functools.cached_property
  def predicted(self) -> np.ndarray | None:
    """i64 [n], the most probable class; the first of equals."""
    return None if self.logits is None else np.argmax(self.logits, axis=-1)

  @functools.cached_property
  def correct(self) -> np.ndarray | None:
    """bool [n]; False where there is no label."""
    if self.predicted is None:
      return None
    return (self.predicted == self.labels) & self.has_label

  @functools.cached_property
  def iou(self) -> np.ndarray | None:
    """f64 [n], NaN where there is no true box."""
    if self.boxes is None:
      return None
    values = np.asarray(boxes_lib.iou(self.boxes, self.true_boxes), np.float64)
    return np.where(self.has_box, values, np.nan)


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Metrics of one split and the predictions they come from.

  Attributes:
    metrics: name -> number (or list over experts); task gates as `class/...`.
    predictions: every image.
    seconds: wall time, including compilation.
  """

  metrics: dict[str, Any]
  predictions: Predictions
  seconds: float


def choices_of(
  routing: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, Choices]:
  """The gates' choices, as the predict step gives them, in the tasks' order."""
  # jit gives dicts back sorted by key.
  return {task: Choices(**routing[task]) for task in TASKS if task in routing}


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
  """Softmax of logits / temperature in float64: [..., L] -> [..., L]."""
  # SciPy's, which takes longer to import than a picture to predict.
  scaled = np.asarray(logits, np.float64) / temperature
  shares = np.exp(scaled - np.max(scaled, axis=-1, keepdims=True))
  return shares / np.sum(shares, axis=-1, keepdims=True)


def top(scores: np.ndarray, k: int = 5) -> np.ndarray:
  """Classes of one row [L], most probable first: i64 [min(k, L)].

  Args:
    scores: probabilities or logits.
    k: how many.
  """
  return np.argsort(-scores, kind="stable")[:k]
