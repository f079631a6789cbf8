"""The library in a few names: `load`, `train`, `evaluate`.

  import mtlmoe_jax as mm

  model = mm.load("runs/demo")
  for p in model.predict(["a.jpg", "b.jpg"]):
    print(p.label, f"{p.probability:.2f}", p.box.pixels, p.experts["class"])
  print(model.evaluate("test").metrics["top1"])

Letters: h w size of an image, n images of a call, L classes.
"""

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import ml_collections
import numpy as np
from PIL import Image

from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import Restored, restore_for_prediction
from mtlmoe_jax.data import images as images_lib
from mtlmoe_jax.evaluation.prediction import (
  Box,
  ClassProbability,
  ExpertWeight,
  Prediction,
  Predictor,
  make_step,
)
from mtlmoe_jax.metrics.predictions import Evaluation

__all__ = [
  "Box",
  "ClassProbability",
  "Evaluation",
  "ExpertWeight",
  "Model",
  "Prediction",
  "Result",
  "evaluate",
  "load",
  "train",
]

# A path, pixels u8 [h, w, 3], or a picture of Pillow.
ImageLike = str | os.PathLike[str] | np.ndarray | Image.Image


def load(workdir: str | os.PathLike[str], step: str | int = "best") -> "Model":
  """A trained model, read from the folder of its run.

  Args:
    workdir: the folder of a run, or its `checkpoints` folder.
    step: "best" (on validation; the latest where none was scored), "latest",
      or a step number.

  Raises:
    InputError: no such workdir, no checkpoint, or no such step.
  """
  return Model(restore_for_prediction(pathlib.Path(workdir), step))


class Model:
  """A trained model."""

  def __init__(self, restored: Restored):
    """Wraps what `checkpoints.restore_for_prediction` gives; see `load`."""
    self._restored = restored
    self._step = make_step(restored)
    # Images of the batches compiled so far.
    self._sizes: list[int] = []

  def __repr__(self) -> str:
    model = self.config.model
    return (
      f"Model({str(self.workdir)!r}, step={self.step}, "
      f"{model.experts} x {model.backbone}, {len(self.class_names)} classes)"
    )

  @property
  def config(self) -> ml_collections.ConfigDict:
    """The config of its run."""
    return self._restored.config

  @property
  def class_names(self) -> tuple[str, ...]:
    """L names."""
    return self._restored.class_names

  @property
  def variables(self) -> dict[str, Any]:
    """{"params", "batch_stats"}, averaged parameters where they were kept."""
    return self._restored.variables

  @property
  def step(self) -> int:
    """The checkpoint's step."""
    return self._restored.step

  @property
  def workdir(self) -> pathlib.Path:
    """The folder of its run."""
    return self._restored.workdir

  def predict(
    self,
    images: ImageLike | Iterable[ImageLike],
    *,
    views: str = "",
    batch_size: int = 0,
  ) -> Iterator[Prediction]:
    """Predicts images: one, or many, of which a batch at a time is in memory.

    The first call compiles for as many images as it has, at most a batch; the
    first call that has more compiles once again, for a whole batch.

    Args:
      images: a path, an array u8 [h, w, 3] RGB or a picture of Pillow; or many
        of them, mixed as you like; or an array u8 [n, h, w, 3].
      views: of each image, one of `config.VIEWS`; "" for `config.eval.views`.
      batch_size: images at a time; 0 for `config.eval.batch_size`.

    Returns:
      An iterator with a prediction for each image, in their order.

    Raises:
      InputError: no images, unknown views, a negative batch size; while
        iterating: a file that is no image, or an array of another type or
        shape.
    """
    if batch_size < 0:
      raise errors.InputError(f"batch_size={batch_size}: must be at least 1")
    predictor = Predictor(self._restored, views=views, step=self._step)
    pending = enumerate(_many(images))
    # Here, so that a mistake in the first one is told at once.
    first = [_decoded(*pair) for pair in itertools.islice(pending, 1)]
    if not first:
      raise errors.InputError("no images given: predict needs at least one")
    size = batch_size or self.config.eval.batch_size
    return self._batches(predictor, first, pending, size)

  def _batches(
    self,
    predictor: Predictor,
    first: list[tuple[str, np.ndarray]],
    pending: Iterator[tuple[int, ImageLike]],
    most: int,
  ) -> Iterator[Prediction]:
    """Predicts `first` and all that is pending, at most so many at a time."""
    more = itertools.islice(pending, most - 1)
    batch = first + [_decoded(*pair) for pair in more]
    size = self._compiled_size(len(batch), most)
    while batch:
      yield from predictor.predict(batch, size)
      batch = [_decoded(*pair) for pair in itertools.islice(pending, size)]

  def _compiled_size(self, count: int, most: int) -> int:
    """How many images a batch has, so that little is compiled anew."""
    fitting = [size for size in self._sizes if count <= size <= most]
    size = min(fitting, default=most if self._sizes else count)
    if size not in self._sizes:
      self._sizes.append(size)
    return size

  def evaluate(
    self,
    split: str = "test",
    path: str | os.PathLike[str] | None = None,
    *,
    views: str = "",
    batch_size: int = 0,
    out: str | os.PathLike[str] | None = None,
    progress: bool = False,
  ) -> Evaluation:
    """Evaluates a split of the run's data.

    Args:
      split: "test", "validation" or "train".
      path: where the data set is now; None: as when the model was trained.
      views: of each image, one of `config.VIEWS`; "" for `config.eval.views`.
      batch_size: images at a time; 0 for `config.eval.batch_size`.
      out: folder that gets <split>/metrics.json, predictions.csv and
        report.html; None writes nothing.
      progress: whether to show on stderr how far it is.

    Returns:
      Its `metrics` (name -> number) and `predictions` of every image.

    Raises:
      InputError: unknown views, an unknown or empty split, or data of other
        classes.
    """
    # Here, not above: to predict needs no pipeline and no plots.
    from mtlmoe_jax.evaluation import evaluate as evaluate_lib

    return evaluate_lib.evaluate_restored(
      self._restored,
      None if out is None else pathlib.Path(out),
      split,
      data_path="" if path is None else str(path),
      batch_size=batch_size,
      views=views,
      progress=progress,
    )


def _many(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
  """Images one by one, whether one or many are given."""
  if isinstance(images, str | os.PathLike | Image.Image):
    return [images]
  if hasattr(images, "__array__"):
    array = np.asarray(images)
    return array if array.ndim > 3 else [array]
  if isinstance(images, Iterable):
    return images
  raise errors.InputError(
    f"a {type(images).__name__} is no image: predict takes paths, arrays u8 "
    "[h, w, 3] and pictures of Pillow, one or many"
  )


def _decoded(number: int, image: ImageLike) -> tuple[str, np.ndarray]:
  """(its id, u8 [h, w, 3]) of one image.

  Raises:
    InputError: it is none.
  """
  if isinstance(image, str | os.PathLike):
    return str(image), data_lib.load_image(image)
  if isinstance(image, Image.Image):
    return str(number), images_lib.from_pillow(image, f"image {number}")
  if not hasattr(image, "__array__"):
    raise errors.InputError(
      f"image {number} is a {type(image).__name__}: predict takes paths, "
      "arrays u8 [h, w, 3] and pictures of Pillow"
    )
  image = np.asarray(image)
  if image.ndim != 3 or image.shape[-1] != 3 or not image.size:
    raise errors.InputError(
      f"image {number} has shape {image.shape}: an array must be [h, w, 3], RGB"
    )
  if image.dtype != np.uint8:
    raise errors.InputError(
      f"image {number} is of {image.dtype}: an array must be of uint8, with "
      "values from 0 to 255"
    )
  return str(number), image


def evaluate(
  workdir: str | os.PathLike[str],
  split: str = "test",
  path: str | os.PathLike[str] | None = None,
  *,
  step: str | int = "best",
  **options: Any,
) -> Evaluation:
  """`load(workdir, step).evaluate(split, path, **options)`."""
  return load(workdir, step).evaluate(split, path, **options)


@dataclasses.dataclass(frozen=True)
class Result:
  """What a training gave.

  Attributes:
    workdir: the folder of the run.
    finished: whether it came to its end; False after a SIGTERM, when the same
      call goes on.
    metrics: what result.json holds; empty when it is not finished.
  """

  workdir: pathlib.Path
  finished: bool
  metrics: Mapping[str, Any]

  def load(self, step: str | int = "best") -> Model:
    """The trained model, as `load(workdir, step)`."""
    return load(self.workdir, step)


def train(
  config: ml_collections.ConfigDict, workdir: str | os.PathLike[str]
) -> Result:
  """Trains, evaluates on the test split once, and writes result.json.

  Args:
    config: such as `mtlmoe_jax.config.default()`.
    workdir: a new folder, or that of the same run: then it goes on from the
      latest checkpoint, exactly as if it had never stopped.

  Raises:
    InputError: anything wrong with config, data, weights or workdir.
  """
  from mtlmoe_jax.training import loop

  folder = pathlib.Path(workdir)
  finished = loop.train(config, str(folder)) == 0
  metrics: dict[str, Any] = {}
  if finished:
    metrics = json.loads((folder / "result.json").read_text("utf-8"))
  return Result(folder, finished, metrics)
