"""Resampling of 8-bit pixels: bilinear with antialiasing, by OpenCV.

OpenCV's bilinear `resize` is quick but looks at no more than two neighbours,
so pixels that lie between are lost when it shrinks. Here the image is smoothed
just as much as it shrinks before: together they are as wide as the triangle
filter that Pillow stretches over the pixels, at less than half its time.
Letters: h w height and width of an image, S side of the network's input.
"""

import cv2
import numpy as np

# The threads of the pipeline share the cores; each image needs but one.
cv2.setNumThreads(1)


def shrink(image: np.ndarray, side: int) -> np.ndarray:
  """Scales an image down until its shorter side is `side`.

  Args:
    image: u8 [h, w, 3].
    side: pixels.

  Returns:
    u8 [h', w', 3] with min(h', w') <= side, each pixel the mean of those it
    replaces; the same array if it already was.
  """
  height, width = image.shape[:2]
  if min(height, width) <= side:
    return image
  scale = side / min(height, width)
  new = (max(side, round(width * scale)), max(side, round(height * scale)))
  return cv2.resize(image, new, interpolation=cv2.INTER_AREA)


def resize(
  image: np.ndarray,
  size: int,
  window: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
  """The network's frame: an image, or a window of it, squashed to a square.

  An image whose shorter side is above 2 S is shrunk to that first (`shrink`),
  so a cached, already shrunk image gives the same pixels as the file itself.
  Normalised boxes stay as they are.

  Args:
    image: u8 [h, w, 3].
    size: S, pixels.
    window: (x1, y1, x2, y2) in whole pixels of the shrunk image; None: all.

  Returns:
    u8 [S, S, 3].
  """
  return sample(shrink(image, 2 * size), size, window)


def sample(
  image: np.ndarray,
  size: int,
  window: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
  """`resize` of an image that is shrunk already, as `CachedSource` does.

  Args:
    image: u8 [h, w, 3] with min(h, w) <= 2 S.
    size: S, pixels.
    window: (x1, y1, x2, y2) in whole pixels; None: all.

  Returns:
    u8 [S, S, 3].
  """
  if window is not None:
    x1, y1, x2, y2 = window
    image = image[y1:y2, x1:x2]
  height, width = image.shape[:2]
  if max(height, width) > 2 * size:
    # Sides that shrink further than three taps can smooth for.
    width, height = min(width, 2 * size), min(height, 2 * size)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
  if max(height, width) > size:
    image = cv2.sepFilter2D(
      image,
      -1,
      _taps(width / size),
      _taps(height / size),
      borderType=cv2.BORDER_REPLICATE,
    )
  return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def _taps(scale: float) -> np.ndarray:
  """Three weights that widen bilinear interpolation for shrinking by `scale`.

  A triangle of half-width s has variance s^2 / 6. Interpolation is one of
  half-width 1; (a, 1 - 2a, a) adds 2a. The sum is right at a = (s^2 - 1) / 12,
  which at s = 2 is (1, 2, 1) / 4: nothing of the finest stripes is left.
  """
  a = max(0.0, (scale**2 - 1) / 12)
  return np.array([a, 1 - 2 * a, a])
