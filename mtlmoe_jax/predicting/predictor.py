"""What a trained model makes of images that are in memory.

Letters: B images of a batch, h w size of an image, L classes, N experts, K
selected per image.
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.data import frames
from mtlmoe_jax.evaluation import calibrate, test_time
from mtlmoe_jax.evaluation.programs import KeptStep, PredictStep, make_step
from mtlmoe_jax.metrics.predictions import Choices, choices_of, softmax, top

Corners = tuple[float, float, float, float]
# Of one image, by name: see `data.frames.eval_frames`.
Frames = dict[str, np.ndarray]
# A batch that the device works on.
Started = test_time.Answers

# Images at a time on a CPU, where more are no quicker.
_CPU_BATCH = 16


class ClassProbability(NamedTuple):
  """A class and how probable it is.

  Attributes:
    label: name of the class.
    probability: in [0, 1].
  """

  label: str
  probability: float


class ExpertWeight(NamedTuple):
  """An expert and what it weighs in the sum of one task.

  Attributes:
    expert: its number, from 0.
    weight: of its output.
  """

  expert: int
  weight: float


class Box(NamedTuple):
  """Where the object is: x1, y1, x2, y2 in the image as it was given.

  Attributes:
    pixels: in pixels of the image.
    shares: in fractions of its width and height, in [0, 1].
  """

  pixels: Corners
  shares: Corners


@dataclasses.dataclass(frozen=True)
class Prediction:
  """What the model makes of one image.

  Attributes:
    id: path of the image, or its number among the images of the call.
    width: of the image, pixels.
    height: of the image, pixels.
    label: name of the most probable class; None without the class task, as
      `class_index` and `probability`.
    class_index: its number in `class_names`.
    probability: of that class, at the temperature of the run.
    top5: the five most probable classes, best first; none without the class
      task.
    box: where the object is; None without the box task.
    experts: of each task, the K experts that its gate selected, heaviest first.
    weights: of each task, the weights of all N experts, 0 where not selected.
  """

  id: str
  width: int
  height: int
  label: str | None
  class_index: int | None
  probability: float | None
  top5: tuple[ClassProbability, ...]
  box: Box | None
  experts: Mapping[str, tuple[ExpertWeight, ...]]
  weights: Mapping[str, tuple[float, ...]]


class Predictor:
  """A restored model with its compiled forward pass.

  Attributes:
    config: of the run, with the views that were asked for.
    temperature: of its probabilities; None without calibration.
    class_names: L names.
  """

  def __init__(
    self,
    restored: Restored,
    *,
    views: str = "",
    step: PredictStep | None = None,
  ):
    """Builds the model.

    Args:
      restored: from `checkpoints.restore_for_eval`.
      views: of each image; "" for `config.eval.views`.
      step: from `evaluate.make_predict_step`, to share what is compiled.

    Raises:
      InputError: unknown views, or views that the model has no box for.
    """
    self.config: ml_collections.ConfigDict = copy.deepcopy(restored.config)
    if views:
      self.config.eval.views = views
    config_lib.check_config(self.config)
    self.temperature = calibrate.temperature(restored, self.config)
    self.class_names = restored.class_names
    self._variables = restored.variables
    self._step = step or make_step(restored)

  def prepare(self, size: int) -> None:
    """Begins to make the program of a batch of so many, in another thread."""
    if isinstance(self._step, KeptStep) and self.config.eval.views == "whole":
      self._step.prepare(size)

  def batch_size(self, count: int, most: int = 0) -> int:
    """How many images a compiled batch has.

    The same for every way to ask, so that answers are the same to the bit. A
    power of two, so that few sizes are compiled and at most half is empty.

    Args:
      count: images there are.
      most: at a time; 0: `config.eval.batch_size`, on a CPU at most 16.
    """
    return min(self.largest_batch(most), 1 << max(0, count - 1).bit_length())

  def largest_batch(self, most: int = 0) -> int:
    """What `batch_size` gives for very many images."""
    if most:
      return most
    size = int(self.config.eval.batch_size)
    return min(size, _CPU_BATCH) if jax.default_backend() == "cpu" else size

  def frames(self, image: np.ndarray) -> Frames:
    """What the network sees of an image; may run in any thread.

    Args:
      image: u8 [h, w, 3] RGB.
    """
    return frames.eval_frames(image, self.config)

  def start(self, images: Sequence[Frames | None], size: int) -> Started:
    """Has the device begin with a batch; does not wait for it.

    Args:
      images: at most B, from `frames`; None leaves a place empty, and at least
        one is none such.
      size: B; the batch is filled up, so that one size is compiled once.
    """
    some = next(image for image in images if image is not None)
    batch = {
      name: np.zeros((size, *pixels.shape), pixels.dtype)
      for name, pixels in some.items()
    }
    valid = np.zeros(size, bool)
    for i, image in enumerate(images):
      if image is not None:
        valid[i] = True
        for name, pixels in image.items():
          batch[name][i] = pixels
    return test_time.forward(
      self._step, self._variables, {**batch, "valid": valid}, self.config.eval
    )

  def finish(
    self, started: Started, about: Sequence[tuple[str, int, int] | None]
  ) -> list[Prediction | None]:
    """Waits for a batch.

    Args:
      started: from `start`.
      about: (id, height, width) of each image, in pixels; None where a place
        was left empty.

    Returns:
      A prediction for each image that there was.
    """
    outputs = test_time.combine(started)
    return [
      None
      if one is None
      else self._prediction(*one, jax.tree.map(lambda x, i=i: x[i], outputs))
      for i, one in enumerate(about)
    ]

  def _prediction(
    self, id_: str, height: int, width: int, row: Mapping[str, Any]
  ) -> Prediction:
    """One row of the model's outputs in the terms of a user."""
    top5: tuple[ClassProbability, ...] = ()
    best, box = None, None
    if "logits" in row:
      probabilities = softmax(row["logits"], self.temperature or 1.0)
      order = top(row["logits"])
      best = int(order[0])
      top5 = tuple(
        ClassProbability(self.class_names[c], float(probabilities[c]))
        for c in order
      )
    if "box" in row:
      shares = np.asarray(row["box"], np.float64)
      pixels = shares * [width, height, width, height]
      box = Box(tuple(pixels.tolist()), tuple(shares.tolist()))
    routing = choices_of(row["routing"])
    return Prediction(
      id=id_,
      width=width,
      height=height,
      label=top5[0].label if top5 else None,
      class_index=best,
      probability=top5[0].probability if top5 else None,
      top5=top5,
      box=box,
      experts={task: _heaviest_first(c) for task, c in routing.items()},
      weights={task: _of_all_experts(c) for task, c in routing.items()},
    )


def _heaviest_first(choices: Choices) -> tuple[ExpertWeight, ...]:
  """Choices of one image, arrays [K]."""
  pairs = zip(choices.experts, choices.weights)
  return tuple(
    ExpertWeight(int(expert), float(weight))
    for expert, weight in sorted(pairs, key=lambda pair: -pair[1])
  )


def _of_all_experts(choices: Choices) -> tuple[float, ...]:
  """The weights of one image spread over all N experts."""
  batch = Choices(
    choices.experts[None], choices.weights[None], choices.probs[None]
  )
  return tuple(batch.dense[0].tolist())
