"""What a difference between two variations is worth.

Letters: S seeds, n images, R resamples.
"""

import numpy as np

RESAMPLES = 4000


def crossed_interval(
  differences: np.ndarray, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
  """Mean of paired differences and its interval over seeds and images.

  Both the seeds and the images are a sample of what could have been. They are
  resampled independently of each other, whole rows and whole columns (the
  "pigeonhole bootstrap", Owen 2007, which errs on the wide side). S seeds
  resampled vary too little, by (S - 1) / S; so the weights of the rows are
  spread by the root of its inverse.

  Args:
    differences: f64 [S, n], one variation minus the other, of the same seed
      and image; NaN where an image has no such figure.
    level: of the interval.
    seed: of the resampling.

  Returns:
    (mean, low, high). With one seed it is over images alone.

  Raises:
    ValueError: no image has a figure.
  """
  known = ~np.isnan(differences).any(axis=0)
  if not known.any():
    raise ValueError("no image has a figure in all runs")
  values = np.asarray(differences, np.float64)[:, known]
  seeds, images = values.shape
  mean = float(values.mean())
  random = np.random.default_rng(seed)
  rows, columns = (
    random.multinomial(size, np.full(size, 1 / size), RESAMPLES) / size
    for size in (seeds, images)
  )
  if seeds > 1:
    rows = 1 / seeds + (rows - 1 / seeds) * np.sqrt(seeds / (seeds - 1))
  found = np.einsum("rs,si,ri->r", rows, values, columns, optimize=True)
  low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
  return mean, float(low), float(high)


def deviation(values: np.ndarray) -> float:
  """Standard deviation of a sample (n - 1); NaN for one value."""
  return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
