"""Temperature scaling (Guo et al. 2017, section 4.2).

One number T > 0 divides all logits. It changes how sure a model is of its
answers, never which class comes first. Letters: n images, L classes.
"""

import numpy as np

from mtlmoe_jax.metrics import split

# Beyond these the images do not tell the temperature: all of them are right, or
# the model knows nothing.
T_MIN, T_MAX = 0.1, 10.0


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
  """The temperature of least negative log-likelihood, in [T_MIN, T_MAX].

  In b = 1 / T the loss, the mean of -log softmax(b z)_y, is convex. Its slope,
  the mean of E_p[z] - z_y with p = softmax(b z), therefore has one change of
  sign (found by Brent's method).

  Args:
    logits: [n, L].
    labels: i [n], the true classes.

  Returns:
    T. A bound where the loss still falls there: T_MIN when all images are
    right. 1 where T changes nothing: no images, one class, or equal logits.
  """
  logits = np.asarray(logits, np.float64)
  if not np.ptp(logits, -1).any():
    return 1.0
  true = np.take_along_axis(logits, labels[:, None], -1)[:, 0]

  def slope(b: float) -> float:
    probs = np.exp(split.log_softmax(b * logits))
    return float(np.mean((probs * logits).sum(-1) - true))

  low, high = 1 / T_MAX, 1 / T_MIN
  if slope(high) <= 0:
    return T_MIN
  if slope(low) >= 0:
    return T_MAX
  from scipy import optimize  # Not all who import this module fit.

  return 1 / optimize.brentq(slope, low, high, xtol=1e-15, rtol=1e-15)
