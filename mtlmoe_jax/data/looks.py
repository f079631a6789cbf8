"""What pixels tell of a photograph: how sharp, how dark, what it is like.

None of it is a mistake: a bird in mist is blurred and a bird at dusk is dark.
The rules below only choose what somebody should look at.

Letters: h w height and width of one image, n images, m of them that are shown.
"""

from typing import NamedTuple

import cv2
import numpy as np

from mtlmoe_jax.data import similar

# Longer side at which images are compared: noise and size weigh less.
SIDE = 256
# The sharpest of so many parts, down and across, counts: a bird before a plain
# sky is as sharp as one before leaves.
PARTS = 4
# Sharpness below which an image is shown: this share of the data set's median,
# and whatever the others are.
BLURRED_SHARE = 0.125
BLURRED = 50.0
# Luminance below the first is dark, above 1 minus it bright, if it is also
# less than half as far from black (white) as the median is.
DARK = 0.2
_HALF = 0.5
_GREY = cv2.COLOR_RGB2GRAY


class Look(NamedTuple):
  """Of one image.

  Attributes:
    height: pixels.
    width: pixels.
    sharpness: variance of the Laplacian (Pech-Pacheco et al. 2000) of the grey
      pixels, 0 to 255, at SIDE; of the sharpest part.
    luminance: mean of the grey pixels, 0 black to 1 white.
    phash: 64 bits, of `similar.phash`.
  """

  height: int
  width: int
  sharpness: float
  luminance: float
  phash: int


def look(image: np.ndarray) -> Look:
  """Looks at one image u8 [h, w, 3]."""
  height, width = image.shape[:2]
  scale = SIDE / max(height, width)
  size = (max(1, round(width * scale)), max(1, round(height * scale)))
  kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
  grey = cv2.cvtColor(cv2.resize(image, size, None, 0, 0, kind), _GREY)
  edges = cv2.Laplacian(grey, cv2.CV_32F)
  sharpness = max(
    float(part.var())
    for row in np.array_split(edges, PARTS, 0)
    for part in np.array_split(row, PARTS, 1)
    if part.size
  )
  luminance = float(grey.mean()) / 255
  return Look(height, width, sharpness, luminance, similar.phash(image))


def blurred(sharpness: np.ndarray) -> np.ndarray:
  """Positions of the images f [n] that are blurred beside the others.

  Returns:
    i64 [m], the worst first.
  """
  return _least(sharpness, max(BLURRED, BLURRED_SHARE * _median(sharpness)))


def dark(luminance: np.ndarray) -> np.ndarray:
  """Positions of the images f [n] that are dark, as `blurred`."""
  return _least(luminance, min(DARK, _HALF * _median(luminance)))


def bright(luminance: np.ndarray) -> np.ndarray:
  """Positions of the images f [n] that are bright, as `blurred`."""
  return dark(1 - np.asarray(luminance))


def _median(values: np.ndarray) -> float:
  return float(np.median(values)) if len(values) else 0.0


def _least(values: np.ndarray, limit: float) -> np.ndarray:
  """Positions of those below a limit, the least first."""
  order = np.argsort(values, kind="stable")
  return order[np.asarray(values)[order] < limit]
