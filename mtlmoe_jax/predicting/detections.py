"""What a model is shown of an object that was found, and what it says of it."""

import dataclasses

import numpy as np

from mtlmoe_jax.data import windows
from mtlmoe_jax.predicting.inputs import Detection
from mtlmoe_jax.predicting.predictor import Box, Prediction


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
  prediction: Prediction,
  seen: windows.Window,
  image_size: tuple[int, int],
  size: tuple[int, int],
) -> Prediction:
  """A prediction about a window, told of its image.

  Args:
    prediction: with the box in the window.
    seen: the window, in pixels of the image as it was read.
    image_size: (height, width) of that.
    size: (height, width) of its file.
  """
  told = dataclasses.replace(prediction, height=size[0], width=size[1])
  if prediction.box is None:
    return told
  height, width = image_size
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
  if image_size != size:
    x1, y1, x2, y2 = shares
    pixels = (x1 * size[1], y1 * size[0], x2 * size[1], y2 * size[0])
  return dataclasses.replace(told, box=Box(pixels, shares))
