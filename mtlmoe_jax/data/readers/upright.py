"""Boxes of the upright image, where annotations mean another frame.

A camera on its side stores a picture on its side and a number (EXIF) that says
how to turn it. Most tools annotate what people see, some what is stored. The
size that an annotation gives of the image tells which, unless people do.

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
    frame: `config.data.box_frame`: auto, upright or stored.
  """

  size: tuple[int, int]
  pixels: bool
  where: str
  frame: str = "auto"

  def is_met_by(self, size: tuple[int, int]) -> bool:
    """Whether boxes are of the upright image, of that size, without a look."""
    return self.size == size and self.frame != "stored"


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
  """A box in the frame of an image that is another one than was told.

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
  sideways = orientation in images.SIDEWAYS
  is_stored = told.frame == "stored" or (
    told.frame == "auto" and sideways and told.size == size[::-1]
  )
  meant = size[::-1] if is_stored and sideways else size
  if told.size == meant[::-1]:
    # Width and height were written the wrong way round; pixels are pixels.
    if told.pixels:
      x1, y1, x2, y2 = box
      across, down = width / meant[1], height / meant[0]
      box = (x1 * across, y1 * down, x2 * across, y2 * down)
  elif abs(height * meant[1] / (width * meant[0]) - 1) > _SAME_SHAPE:
    raise errors.InputError(
      f"{told.where}: says {width} x {height} pixels, but the image has "
      f"{size[1]} x {size[0]}: annotate this image, or put the other one back"
    )
  # Of the same shape it was scaled since.
  return turned(box, orientation) if is_stored else box
