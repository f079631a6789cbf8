"""Boxes of the upright image, where annotations mean another frame.

A camera on its side stores a picture on its side and a number (EXIF) that says
how to turn it. Most tools annotate what people see, some what is stored. The
size that an annotation gives of the image tells which.

Letters: h w height and width of an image.
"""

from typing import NamedTuple

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.data.readers.problems import Corners

# Sides of an image that was scaled are rounded.
_SAME_SHAPE = 0.02


class Told(NamedTuple):
  """What an annotation says of the frame of its boxes.

  Attributes:
    size: (h, w) of it.
    pixels: whether boxes were in pixels of it; else in shares.
    where: the place that says so.
  """

  size: tuple[int, int]
  pixels: bool
  where: str


def turned(box: Corners, orientation: int) -> Corners:
  """A box of the stored image in the frame of the upright one.

  Args:
    box: xyxy, shares of the stored image.
    orientation: EXIF's, 1 to 8.

  Returns:
    xyxy, shares of the upright image.
  """
  x1, y1, x2, y2 = box
  return {
    1: (x1, y1, x2, y2),
    2: (1 - x2, y1, 1 - x1, y2),
    3: (1 - x2, 1 - y2, 1 - x1, 1 - y1),
    4: (x1, 1 - y2, x2, 1 - y1),
    5: (y1, x1, y2, x2),
    6: (1 - y2, x1, 1 - y1, x2),
    7: (1 - y2, 1 - x2, 1 - y1, 1 - x1),
    8: (y1, 1 - x2, y2, 1 - x1),
  }[orientation]


def settled(
  box: Corners, told: Told, size: tuple[int, int], orientation: int
) -> Corners:
  """A box in the frame of an image that has another size than was told.

  Args:
    box: xyxy, shares of the frame that was told.
    told: what the annotation says.
    size: (h, w) of the upright image.
    orientation: EXIF's, 1 to 8.

  Returns:
    xyxy, shares of the upright image.

  Raises:
    InputError: the annotation is of an image of another shape.
  """
  height, width = told.size
  if told.size == size[::-1]:
    if orientation in images.SIDEWAYS:
      return turned(box, orientation)
    # Width and height were written the wrong way round; pixels are pixels.
    if not told.pixels:
      return box
    x1, y1, x2, y2 = box
    across, down = width / size[1], height / size[0]
    return (x1 * across, y1 * down, x2 * across, y2 * down)
  if abs(height * size[1] / (width * size[0]) - 1) <= _SAME_SHAPE:
    return box  # Scaled since.
  raise errors.InputError(
    f"{told.where}: says {width} x {height} pixels, but the image has "
    f"{size[1]} x {size[0]}: annotate this image, or put the other one back"
  )
