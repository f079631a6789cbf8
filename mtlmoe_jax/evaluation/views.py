"""Several views of each image, and what a model says of them together.

A view is a frame (the whole image or a crop of it) or a frame's mirror image.
Each kind of view is a batch of its own for the predict step, so a step sees no
more images than without views, and is compiled once. Letters: B images of a
batch, V views of each, S side of the network's input, L classes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from mtlmoe_jax import boxes as boxes_lib
from mtlmoe_jax import metrics
from mtlmoe_jax.data import Batch

WHOLE = np.array([0, 0, 1, 1], np.float32)


class View(NamedTuple):
  """One view of each image of a batch.

  Attributes:
    image: u8 [B, S, S, 3].
    window: f32 [B, 4], what it shows, xyxy normalised to the whole image.
    mirrored: whether left and right are exchanged.
  """

  image: np.ndarray
  window: np.ndarray
  mirrored: bool

  def place(self, boxes: np.ndarray) -> np.ndarray:
    """Boxes [B, 4] of this view in the frame of the whole image."""
    if self.mirrored:
      boxes = boxes_lib.flip_left_right(boxes)
    return boxes_lib.uncrop(boxes, self.window)


# Views with what the predict step gave for each.
Seen = list[tuple[View, dict[str, Any]]]


def of_batch(batch: Batch, views: str) -> list[View]:
  """The views of a batch of `eval_batches`, the whole images first.

  Args:
    batch: with `image` and, where `views` has crops, `crops` and `windows`.
    views: one of `config.VIEWS`.

  Returns:
    1, 2, 6 or 12 views.
  """
  whole = np.broadcast_to(WHOLE, (len(batch["image"]), 4))
  frames = [View(batch["image"], whole, False)]
  if "crops" in views:
    crops, windows = (batch[k].swapaxes(0, 1) for k in ("crops", "windows"))
    frames += [View(c, w, False) for c, w in zip(crops, windows)]
  if "flip" in views:
    frames += [View(v.image[:, :, ::-1], v.window, True) for v in frames]
  return frames


def forward(
  step: Callable[[Any, Batch], dict[str, Any]],
  variables: Any,
  batch: Batch,
  views: str,
) -> Seen:
  """Runs every view of a batch, without waiting for the device.

  Args:
    step: from `evaluate.make_predict_step`.
    variables: {"params", "batch_stats"}.
    batch: as `of_batch` takes it, and `valid` bool [B].
    views: one of `config.VIEWS`.
  """
  return [
    (view, step(variables, {"image": view.image, "valid": batch["valid"]}))
    for view in of_batch(batch, views)
  ]


def combine(seen: Seen) -> dict[str, Any]:
  """One answer per image, on the host.

  Args:
    seen: from `forward`.

  Returns:
    As the predict step gives it: `logits` (see `mean_logits`), `box` (see
    `boxes.merge_views`) and `routing`, which is that of the whole image. A
    single view's answer is left as it is.
  """
  answers = [jax.tree.map(np.asarray, answer) for _, answer in seen]
  if len(answers) == 1:
    return answers[0]
  found = {"routing": answers[0]["routing"]}
  if "logits" in answers[0]:
    found["logits"] = mean_logits(np.stack([a["logits"] for a in answers]))
  if "box" in answers[0]:
    found["box"] = boxes_lib.merge_views(
      np.stack([view.place(a["box"]) for (view, _), a in zip(seen, answers)]),
      np.stack([view.window for view, _ in seen]),
    )
  return found


def mean_logits(logits: np.ndarray) -> np.ndarray:
  """Logits whose softmax is the mean of the views' probabilities.

  Probabilities, not logits, are averaged, as by Krizhevsky et al. (2012,
  section 4.1): a view that shows too little may rule out the right class, and
  in a mean of logits a single such view outvotes all others.

  Args:
    logits: f32 [V, ..., L].

  Returns:
    f32 [..., L], logarithms of probabilities.
  """
  log_probs = metrics.log_softmax(np.asarray(logits, np.float64))
  mean = np.logaddexp.reduce(log_probs) - np.log(len(log_probs))
  return mean.astype(np.float32)
