"""Each object of an image as a picture of its own: a window around its box.

Letters: h w height and width of an image, s the longer side of a box, in
pixels.
"""

import hashlib
import math

import cv2
import numpy as np

from mtlmoe_jax.data.source import Record, Source, Wrapped

Window = tuple[int, int, int, int]

# Side of a window over s: drawn between these in training, one when judged.
TRAINING = (1.5, 4.0)
EVALUATION = 2.0
# How far the middle of a window is from that of its box, at most: a share of
# the box's sides. So the object that is meant is always the one in the middle,
# however many others are seen.
_PLAY = 0.25
# What is kept of an image in training: every window's part of it.
_REGION = TRAINING[1] + 2 * _PLAY
# Where a window sticks out of its image.
_GREY = (127, 127, 127)


def around(
  box: np.ndarray,
  size: tuple[int, int],
  ratio: float,
  place: tuple[float, float] = (0.0, 0.0),
) -> Window:
  """A square window that shows a box and what is around it.

  Args:
    box: f32 [4] xyxy, shares of the image.
    size: (h, w) of the image.
    ratio: side of the window over s.
    place: where the box lies in it, x and y, from -1 to 1; 0: in the middle.

  Returns:
    (x1, y1, x2, y2), whole pixels with an area; it may stick out of the image.
  """
  height, width = size
  x1, y1, x2, y2 = (float(v) for v in box * (width, height, width, height))
  side = max(1, round(ratio * max(x2 - x1, y2 - y1)))
  left = round((x1 + x2 - side) / 2 - place[0] * _PLAY * (x2 - x1))
  top = round((y1 + y2 - side) / 2 - place[1] * _PLAY * (y2 - y1))
  return left, top, left + side, top + side


def training_window(
  random: np.random.Generator, box: np.ndarray, size: tuple[int, int]
) -> Window:
  """A window as training sees an object: its side and place are drawn.

  Args:
    random: three numbers are drawn from it.
    box: f32 [4] xyxy, shares of the image.
    size: (h, w) of the image.
  """
  u, x, y = random.random(3).tolist()
  low, high = map(math.log, TRAINING)
  ratio = math.exp(low + u * (high - low))
  return around(box, size, ratio, (2 * x - 1, 2 * y - 1))


def inside(window: Window, size: tuple[int, int]) -> Window:
  """The part of a window that is in an image of (h, w)."""
  height, width = size
  x1, y1, x2, y2 = window
  return max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)


def pixels(image: np.ndarray, window: Window) -> np.ndarray:
  """What a window shows: u8 [h', w', 3], grey outside of the image.

  Args:
    image: u8 [h, w, 3].
    window: (x1, y1, x2, y2) that shows some of it.
  """
  x1, y1, x2, y2 = inside(window, (image.shape[0], image.shape[1]))
  part = image[y1:y2, x1:x2]
  left, top, right, bottom = window
  edges = (y1 - top, bottom - y2, x1 - left, right - x2)
  if not any(edges):
    return part
  return cv2.copyMakeBorder(part, *edges, cv2.BORDER_CONSTANT, value=_GREY)


def cropped(record: Record, window: Window) -> Record:
  """A record whose image is a window of it.

  Args:
    record: with a box.
    window: (x1, y1, x2, y2), whole pixels of its image.

  Returns:
    The record, its box in shares of the window, cut to it.
  """
  height, width = record["image"].shape[:2]
  x1, y1, x2, y2 = window
  corners = record["box"] * (width, height, width, height)
  shares = (corners - (x1, y1, x1, y1)) / (x2 - x1, y2 - y1, x2 - x1, y2 - y1)
  return {
    **record,
    "image": pixels(record["image"], window),
    "box": np.clip(shares, 0, 1).astype(np.float32),
  }


class Windows(Wrapped):
  """A source whose records are windows around their boxes.

  A record without a box stays as it is. In evaluation a window has one size;
  where in it the box lies depends on the record's id, for in the middle of all
  windows it would be found without looking. In training what comes out is as
  much of the image as the windows of `training_window` show.
  """

  def __init__(self, source: Source, is_training: bool) -> None:
    """Wraps a source.

    Args:
      source: whose images are seen as a whole.
      is_training: whether windows are drawn later.
    """
    super().__init__(source)
    self._source, self._is_training = source, is_training

  def __getitem__(self, index: int) -> Record:
    record = self._source[index]
    if not record["has_box"]:
      return record
    size = record["image"].shape[:2]
    if self._is_training:
      region = around(record["box"], size, _REGION)
      return cropped(record, inside(region, size))
    place = _place(record["id"])
    return cropped(record, around(record["box"], size, EVALUATION, place))


def _place(name: str) -> tuple[float, float]:
  """Two numbers from -1 to 1 that follow from a name."""
  digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
  x, y = np.frombuffer(digest, "<u4") / 2**31 - 1
  return float(x), float(y)
