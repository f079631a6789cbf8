"""The library in a few names: `load`, `train`, `evaluate`.

  import mtlmoe_jax as mm

  model = mm.load("runs/demo")
  for p in model.predict(["a.jpg", "b.jpg"]):
    print(p.label, f"{p.probability:.2f}", p.box.pixels, p.experts["class"])
  print(model.evaluate("test").metrics["top1"])

Letters: h w size of an image, n images of a call, L classes.
"""

import dataclasses
import json
import operator
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import ml_collections

from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import Restored, restore_for_prediction
from mtlmoe_jax.evaluation.programs import make_step
from mtlmoe_jax.metrics.predictions import Evaluation
from mtlmoe_jax.predicting import stream
from mtlmoe_jax.predicting.predictor import (
  Box,
  ClassProbability,
  ExpertWeight,
  Prediction,
  Predictor,
)
from mtlmoe_jax.predicting.stream import ImageLike

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
    """Predicts images: one, or many, of which a few batches are in memory.

    Answers are those of `mtlmoe predict` to the bit, where it is given the same
    images. Any number of threads may ask at once. A batch has 1, 2, 4, ...
    images, as many as are needed; each of these sizes is compiled once.

    Args:
      images: a path, the bytes of a file, an array u8 [h, w, 3] RGB or a
        picture of Pillow; or many of them, mixed as you like, from a list or
        from a generator; or an array u8 [n, h, w, 3]. Of a generator no more
        than a batch is asked for before its answers come.
      views: of each image, one of `config.VIEWS`; "" for `config.eval.views`.
      batch_size: images at a time, at most; 0 for `config.eval.batch_size`, on
        a CPU 16 where that is more.

    Returns:
      An iterator with a prediction for each image, in their order.

    Raises:
      InputError: no images, unknown views, a batch size that is no whole
        number or negative; while iterating, after the answers about all images
        before it: a file that is no image, or an array of another type or
        shape.
    """
    try:
      batch_size = operator.index(batch_size)
    except TypeError:
      raise errors.InputError(
        f"batch_size={batch_size!r}: must be a whole number"
      ) from None
    if batch_size < 0:
      raise errors.InputError(f"batch_size={batch_size}: must be at least 1")
    predictor = Predictor(self._restored, views=views, step=self._step)
    return stream.predict(predictor, images, batch_size)

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
