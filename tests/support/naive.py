"""The mathematics of the package as loops in NumPy."""

import numpy as np


def gradient_surgery(rows):
  """Algorithm 1 of Yu et al. 2020, the others in order."""
  total = np.zeros_like(rows[0])
  for i in range(len(rows)):
    own = rows[i].copy()
    for j in range(len(rows)):
      if j != i and own @ rows[j] < 0:
        own -= (own @ rows[j]) / (rows[j] @ rows[j]) * rows[j]
    total += own
  return total
