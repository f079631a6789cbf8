"""How alike two representations of the same images are.

Letters: n images, p and q features, N experts.
"""

import numpy as np

# Of a matrix of products, what remains by rounding alone where all is constant.
_ROUNDING = 1e-10


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
  """Linear centered kernel alignment (Kornblith et al. 2019, eq. 4).

  With the unbiased estimate of HSIC (Song et al. 2012; Nguyen et al. 2021, eq.
  3) and not the plain one (Kornblith et al., eq. 3): with fewer images than
  features, as here, the plain one is near 1 even for features that have nothing
  to do with each other.

  Args:
    x: [n, p].
    y: [n, q], of the same images.

  Returns:
    Up to 1, equal but for rotation and scale; about 0 (also below) for
    independent features; 0 where either does not depend on the image.

  Raises:
    ValueError: fewer than 4 images, or not the same number.
  """
  return float(np.sum(_direction(x) * _direction(y)))


def matrix(outputs: np.ndarray) -> np.ndarray:
  """`linear_cka` of each expert with each other: [N, n, p] -> f64 [N, N]."""
  directions = np.stack([_direction(x).ravel() for x in outputs])
  return directions @ directions.T


def _direction(x: np.ndarray) -> np.ndarray:
  """Products of the images, doubly centred and of length 1: f64 [n, n].

  The unbiased HSIC is the inner product of two such matrices, "U-centred" with
  a diagonal of zeros, up to a factor that CKA divides out (Székely and Rizzo
  2014, definition 2).
  """
  n = len(x)
  if n < 4:
    raise ValueError(f"{n} images: the unbiased estimate needs at least 4")
  x = np.asarray(x, np.float64)
  x = x - x[0]  # First, so that what is constant is exactly 0.
  x = x - x.mean(0)
  x = x / max(np.abs(x).max(initial=0), np.finfo(np.float64).tiny)
  products = x @ x.T
  size = np.linalg.norm(products)
  np.fill_diagonal(products, 0)
  rows = products.sum(0) / (n - 2)
  centred = products - rows - rows[:, None] + rows.sum() / (n - 1)
  np.fill_diagonal(centred, 0)
  length = np.linalg.norm(centred)
  if length <= _ROUNDING * size:
    return np.zeros_like(centred)
  return centred / length
