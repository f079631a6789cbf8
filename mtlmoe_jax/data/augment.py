"""Box-aware augmentation of one image, in Pillow on 8-bit pixels.

The box moves exactly with the image, because the crop is a window in
fractions of a pixel and Pillow resamples from just that window.
Letters: h w height and width of an image, S side of the network's input.
"""

import math

import ml_collections
import numpy as np
from PIL import Image

from mtlmoe_jax import boxes
from mtlmoe_jax.data import images
from mtlmoe_jax.data.source import Record

TRIES = 10
# Weights of red, green and blue in brightness (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114])


def augment(
  record: Record,
  random: np.random.Generator,
  size: int,
  options: ml_collections.ConfigDict,
) -> tuple[np.ndarray, np.ndarray]:
  """Random resized crop, left-right flip and colours.

  Args:
    record: the image and its box.
    random: the only source of randomness.
    size: S, pixels.
    options: `config.data.augment`.

  Returns:
    (image u8 [S, S, 3], box f32 [4] xyxy normalised to it; zeros if the
    record has none).
  """
  image = images.shrink(record["image"], 2 * size)
  height, width = image.shape[:2]
  box = record["box"] if record["has_box"] else None
  window = random_window(random, height, width, box, options)
  flip = random.random() < options.flip
  strengths = (options.brightness, options.contrast, options.saturation)
  factors = [random.uniform(1 - v, 1 + v) for v in strengths]

  picture = Image.fromarray(image).resize(
    (size, size),
    Image.Resampling.BILINEAR,
    box=tuple((window * [width, height, width, height]).tolist()),
    reducing_gap=2.0,
  )
  if flip:
    picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  picture = recolour(picture, *factors)
  if box is None:
    return np.asarray(picture), np.zeros(4, np.float32)
  moved, _ = boxes.crop(box, window)
  moved = boxes.flip_left_right(moved) if flip else moved
  return np.asarray(picture), moved.astype(np.float32)


def random_window(
  random: np.random.Generator,
  height: int,
  width: int,
  box: np.ndarray | None,
  options: ml_collections.ConfigDict,
) -> np.ndarray:
  """A random crop that keeps the object.

  Area and aspect are drawn as in Szegedy et al. (2015, section 6). A window
  that shows less than `min_visible` of the box's area is drawn again; after
  ten tries it is the whole image.

  Args:
    random: source of randomness; how much is drawn from it depends on the
      tries.
    height: h, pixels.
    width: w, pixels.
    box: f32 [4] xyxy normalised, or None.
    options: `config.data.augment`.

  Returns:
    f64 [4] xyxy normalised to the image.
  """
  log_aspect = math.log(options.crop_aspect_max)
  for _ in range(TRIES):
    area = random.uniform(options.crop_area_min, 1)
    # Of the window in pixels, so in shares it is divided by the image's.
    aspect = math.exp(random.uniform(-log_aspect, log_aspect)) * height / width
    w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
    if w > 1 or h > 1:
      continue
    x, y = random.uniform(0, 1 - w), random.uniform(0, 1 - h)
    # Rounding must not put an edge outside the image.
    window = np.array([x, y, min(x + w, 1), min(y + h, 1)])
    if box is None or boxes.crop(box, window)[1] >= options.min_visible:
      return window
  return np.array([0.0, 0.0, 1.0, 1.0])


def recolour(
  picture: Image.Image, brightness: float, contrast: float, saturation: float
) -> Image.Image:
  """Brightness, then contrast, then saturation, as one linear map.

  Each mixes the image with black, with its mean grey and with its own
  greyscale; factor 1 changes nothing. Together they are one 3x4 matrix, so
  values are rounded and cut to 0 ... 255 only once.

  Args:
    picture: RGB.
    brightness: factor.
    contrast: factor.
    saturation: factor.

  Returns:
    RGB, same size.
  """
  if brightness == contrast == saturation == 1:
    return picture
  mean = picture.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
  grey = brightness * float(_LUMA @ mean)
  matrix = np.empty((3, 4))
  matrix[:, :3] = (brightness * contrast) * (
    saturation * np.eye(3) + (1 - saturation) * _LUMA
  )
  matrix[:, 3] = (1 - contrast) * grey
  return picture.convert("RGB", tuple(matrix.ravel().tolist()))
