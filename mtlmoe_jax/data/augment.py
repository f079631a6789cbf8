"""Box-aware augmentation of one image, on 8-bit pixels.

The box moves exactly with the image: the crop is a window of whole pixels, and
just that window is resampled.
Letters: h w height and width of an image, S side of the network's input.
"""

import math

import cv2
import ml_collections
import numpy as np

from mtlmoe_jax.data import resampling
from mtlmoe_jax.data.source import Record

TRIES = 10
# Weights of red, green and blue in brightness (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114])
# x1, y1, x2, y2.
Corners = tuple[float, float, float, float]


def augment(
  record: Record,
  random: np.random.Generator,
  size: int,
  options: ml_collections.ConfigDict,
  window: tuple[int, int, int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Random resized crop, left-right flip and colors.

  Args:
    record: the image, its shorter side at most 2 S (so a `CachedSource` has
      it), and its box.
    random: the only source of randomness.
    size: S, pixels.
    options: `config.data.augment`.
    window: (x1, y1, x2, y2) in whole pixels, in place of a random crop.

  Returns:
    (image u8 [S, S, 3], box f32 [4] xyxy normalised to it; zeros if the
    record has none).
  """
  image = record["image"]
  height, width = image.shape[:2]
  box = record["box"] if record["has_box"] else None
  if window is None:
    window = random_window(random, height, width, box, options)
  chance, *colors = random.random(4).tolist()
  flip = chance < options.flip
  strengths = (options.brightness, options.contrast, options.saturation)
  factors = [
    1 + v * (2 * u - 1) for v, u in zip(strengths, colors, strict=True)
  ]

  image = resampling.sample(image, size, window)
  if flip:
    image = cv2.flip(image, 1)
  image = recolor(image, *factors)
  if box is None:
    return image, np.zeros(4, np.float32)
  x1, y1, x2, y2 = cut(scaled(box, height, width), window)[0]
  moved = (1 - x2, y1, 1 - x1, y2) if flip else (x1, y1, x2, y2)
  return image, np.array(moved, np.float32)


def random_window(
  random: np.random.Generator,
  height: int,
  width: int,
  box: np.ndarray | None,
  options: ml_collections.ConfigDict,
) -> tuple[int, int, int, int]:
  """A random crop that keeps the object.

  Area and aspect are drawn as in Szegedy et al. (2015, section 6), sides and
  place are rounded to whole pixels. A window that shows less than
  `min_visible` of the box's area is drawn again; after ten tries it is the
  whole image.

  Args:
    random: source of randomness; how much is drawn from it depends on the
      tries.
    height: h, pixels.
    width: w, pixels.
    box: f32 [4] xyxy normalised, or None.
    options: `config.data.augment`.

  Returns:
    (x1, y1, x2, y2) in pixels.
  """
  log_aspect = math.log(options.crop_aspect_max)
  corners = None if box is None else scaled(box, height, width)
  for _ in range(TRIES):
    # At once: each call for a number takes as long as the sums below.
    u = random.random(4).tolist()
    share = options.crop_area_min + (1 - options.crop_area_min) * u[0]
    area, aspect = share * height * width, math.exp(log_aspect * (2 * u[1] - 1))
    w = max(1, round(math.sqrt(area * aspect)))
    h = max(1, round(math.sqrt(area / aspect)))
    if w > width or h > height:
      continue
    x, y = int(u[2] * (width - w + 1)), int(u[3] * (height - h + 1))
    window = (x, y, x + w, y + h)
    if corners is None or cut(corners, window)[1] >= options.min_visible:
      return window
  return (0, 0, width, height)


def scaled(box: np.ndarray, height: int, width: int) -> Corners:
  """A normalised box [4] in pixels."""
  x1, y1, x2, y2 = box.tolist()
  return x1 * width, y1 * height, x2 * width, y2 * height


def cut(box: Corners, window: Corners) -> tuple[Corners, float]:
  """`boxes.crop` for one box and one window of an image.

  In plain numbers: arrays of four take as long as resampling the image does,
  and hold Python's lock while other threads would go on.

  Args:
    box: xyxy in pixels.
    window: xyxy in pixels, with an area.

  Returns:
    (the box normalised to the window and clipped to it, the share of the
    box's area that lies inside; 0 for a box without area).
  """
  x1, y1, x2, y2 = window
  left, right = (min(max(x, x1), x2) for x in box[::2])
  top, bottom = (min(max(y, y1), y2) for y in box[1::2])
  w, h = x2 - x1, y2 - y1
  inside = (left - x1) / w, (top - y1) / h, (right - x1) / w, (bottom - y1) / h
  area = (box[2] - box[0]) * (box[3] - box[1])
  return inside, (right - left) * (bottom - top) / area if area > 0 else 0.0


def recolor(
  image: np.ndarray, brightness: float, contrast: float, saturation: float
) -> np.ndarray:
  """Brightness, then contrast, then saturation, as one linear map.

  Each mixes the image with black, with its mean grey and with its own
  greyscale; factor 1 changes nothing. Together they are one 3x4 matrix, so
  values are rounded and cut to 0 ... 255 only once.

  Args:
    image: u8 [S, S, 3] RGB.
    brightness: factor.
    contrast: factor.
    saturation: factor.

  Returns:
    u8 [S, S, 3] RGB.
  """
  if brightness == contrast == saturation == 1:
    return image
  grey = brightness * float(_LUMA @ cv2.mean(image)[:3])
  matrix = np.empty((3, 4))
  matrix[:, :3] = (brightness * contrast) * (
    saturation * np.eye(3) + (1 - saturation) * _LUMA
  )
  matrix[:, 3] = (1 - contrast) * grey
  return cv2.transform(image, matrix)
