"""Boxes of a detector: which windows of which images a model is shown."""

import dataclasses
import pathlib
from typing import NamedTuple

import ml_collections
import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data import windows
from mtlmoe_jax.evaluation.prediction import Box, Corners, Prediction


class Detection(NamedTuple):
  """An object that was found.

  Attributes:
    path: the image.
    box: xyxy, shares of the upright image.
  """

  path: pathlib.Path
  box: Corners


def read(
  path: str, images: str, config: ml_collections.ConfigDict
) -> list[Detection]:
  """Reads a detector's boxes, in any layout of annotations.

  Args:
    path: the file, or a folder of files; MegaDetector's JSON for example.
    images: folder of the images; "": below `path`, or beside it.
    config: of the run; `data.min_confidence` counts.

  Returns:
    The detections, image by image.

  Raises:
    InputError: it cannot be read, or names no box.
  """
  # Here, not above: most predictions have no use for the layouts.
  from mtlmoe_jax.data.layouts import auto
  from mtlmoe_jax.data.readers.file_source import FileSource
  from mtlmoe_jax.data.readers.problems import Problems

  data = ml_collections.ConfigDict(config.data)
  data.objects, data.class_from, data.empty = "each", "annotations", ""
  whole = auto.open_layout(
    data, "auto", path, images, True, Problems(), "boxes"
  )
  source = whole.source
  if not isinstance(source, FileSource) or not source.has_box.any():
    raise errors.InputError(f"--boxes={path}: names no box of an image")
  return [
    Detection(source.paths[i], tuple(source.upright(i)[1].tolist()))
    for i in np.flatnonzero(source.has_box).tolist()
  ]


def window(detection: Detection, image: np.ndarray) -> windows.Window:
  """The window that is judged: the box in its middle.

  Args:
    detection: of the image.
    image: u8 [h, w, 3].
  """
  height, width = image.shape[:2]
  box = np.asarray(detection.box, np.float32)
  return windows.around(box, (height, width), windows.EVALUATION)


def in_image(
  prediction: Prediction, seen: windows.Window, size: tuple[int, int]
) -> Prediction:
  """A prediction about a window, told of its image.

  Args:
    prediction: with the box in the window.
    seen: the window, in pixels of the image.
    size: (height, width) of the image.
  """
  height, width = size
  if prediction.box is None:
    return dataclasses.replace(prediction, width=width, height=height)
  x, y = seen[:2]
  x1, y1, x2, y2 = prediction.box.pixels
  pixels = (
    *(min(max(x1 + x, 0.0), width), min(max(y1 + y, 0.0), height)),
    *(min(max(x2 + x, 0.0), width), min(max(y2 + y, 0.0), height)),
  )
  shares = (
    *(pixels[0] / width, pixels[1] / height),
    *(pixels[2] / width, pixels[3] / height),
  )
  box = Box(pixels, shares)
  return dataclasses.replace(prediction, width=width, height=height, box=box)
