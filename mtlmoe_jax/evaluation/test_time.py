"""Several views of each image, and the one answer that they give together.

A view is a frame (the whole image or a crop of it) or a frame's mirror image.
Each kind of view is a batch of its own for the predict step, so a step sees no
more images than without views, and is compiled once. A closer view is cut
around the box that the others gave. Letters: B images of a batch, V views of
each, S side of the network's input, L classes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from mtlmoe_jax.data.frames import Batch, closer_frames
from mtlmoe_jax.metrics import split
from mtlmoe_jax.ops import boxes as boxes_lib

# What a batch may have beside images, so that it need not be computed.
KNOWN = ("features", "gate_features", "choices")
WHOLE = np.array([0, 0, 1, 1], np.float32)


class View(NamedTuple):
  """One view of each image of a batch.

  Attributes:
    image: u8 [B, S, S, 3].
    window: f32 [B, 4], what it shows, xyxy normalised to the whole image.
    mirrored: whether left and right are exchanged.
    closer: whether it was cut around a box that earlier views gave.
  """

  image: np.ndarray
  window: np.ndarray
  mirrored: bool
  closer: bool = False

  def place(self, boxes: np.ndarray) -> np.ndarray:
    """Boxes [B, 4] of this view in the frame of the whole image."""
    if self.mirrored:
      boxes = boxes_lib.flip_left_right(boxes)
    return boxes_lib.uncrop(boxes, self.window)


# Views, each with the outputs of the predict step.
Answers = list[tuple[View, dict[str, Any]]]


def first_views(batch: Batch, views: str) -> list[View]:
  """The first views of a batch of `eval_batches`, the whole images in front.

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
  return _with_mirrors(frames, views)


def closer(
  batch: Batch, boxes: np.ndarray, options: ml_collections.ConfigDict
) -> list[View]:
  """Views around the boxes that the first ones gave.

  Args:
    batch: with `large` u8 [B, 2 S, 2 S, 3], see `data.eval_frames`.
    boxes: f32 [B, 4] xyxy, normalised to the whole image.
    options: `config.eval`.

  Returns:
    1 or, with "flip" in `options.views`, 2 views.
  """
  images, windows = closer_frames(batch["large"], boxes, options.zoom_margin)
  frame = View(images, windows, mirrored=False, closer=True)
  return _with_mirrors([frame], options.views)


def _with_mirrors(frames: list[View], views: str) -> list[View]:
  if "flip" not in views:
    return frames
  mirrors = [
    v._replace(image=v.image[:, :, ::-1], mirrored=True) for v in frames
  ]
  return frames + mirrors


def forward(
  step: Callable[[Any, Batch], dict[str, Any]],
  variables: Any,
  batch: Batch,
  options: ml_collections.ConfigDict,
) -> Answers:
  """Runs every view of a batch; without zoom it waits for no device.

  Args:
    step: from `evaluate.make_predict_step`.
    variables: {"params", "batch_stats"}.
    batch: as `first_views` and `closer` take it, and `valid` bool [B]; with
      `features` of the stem where the whole image is the only view.
    options: `config.eval`.
  """

  kept: Batch = {k: batch[k] for k in ("valid", *KNOWN) if k in batch}

  def run(views: list[View]) -> Answers:
    return [
      (view, step(variables, {"image": view.image, **kept})) for view in views
    ]

  answers = run(first_views(batch, options.views))
  if "zoom" in options.views:
    answers += run(closer(batch, combine(answers)["box"], options))
  return answers


def combine(answers: Answers) -> dict[str, Any]:
  """One answer per image, on the host.

  Args:
    answers: from `forward`.

  Returns:
    As the predict step gives it: `logits` (see `mean_logits`), `box` (the mean
    of the closer views where there are any: in them the object has most pixels;
    else see `boxes.merge_views`) and `routing`, which is that of the whole
    image. A single view's answer is left as it is.
  """
  views = [view for view, _ in answers]
  outputs = [jax.tree.map(np.asarray, output) for _, output in answers]
  first = outputs[0]
  if len(outputs) == 1:
    return first
  merged = {"routing": first["routing"]}
  if "logits" in first:
    merged["logits"] = mean_logits(np.stack([o["logits"] for o in outputs]))
  if "box" in first:
    merged["box"] = _merged_box(views, [o["box"] for o in outputs])
  return merged


def _merged_box(views: list[View], boxes: list[np.ndarray]) -> np.ndarray:
  placed = [view.place(box) for view, box in zip(views, boxes)]
  second = [box for view, box in zip(views, placed) if view.closer]
  if second:
    return np.mean(second, 0)
  return boxes_lib.merge_views(
    np.stack(placed), np.stack([view.window for view in views])
  )


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
  log_probs = split.log_softmax(np.asarray(logits, np.float64))
  mean = np.logaddexp.reduce(log_probs) - np.log(len(log_probs))
  return mean.astype(np.float32)
