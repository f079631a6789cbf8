"""What a difference between two variations is worth.

Letters: S seeds, n images, R resamples, C clusters.
"""

import functools

import numpy as np
from scipy import stats

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
      and image; NaN where an image has no such metric.
    level: of the interval.
    seed: of the resampling.

  Returns:
    (mean, low, high). With one seed it is over images alone.

  Raises:
    ValueError: no image has a metric.
  """
  known = ~np.isnan(differences).any(axis=0)
  if not known.any():
    raise ValueError("no image has a metric in all runs")
  values = np.asarray(differences, np.float64)[:, known]
  seeds, images = values.shape
  mean = float(values.mean())
  rows, columns = (
    counts / size
    for counts, size in zip(_resampled(seeds, images, seed), values.shape)
  )
  if seeds > 1:
    rows = 1 / seeds + (rows - 1 / seeds) * np.sqrt(seeds / (seeds - 1))
  means = np.einsum("rs,si,ri->r", rows, values, columns, optimize=True)
  low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
  return mean, float(low), float(high)


def clustered_interval(
  differences: np.ndarray,
  clusters: np.ndarray,
  level: float = 0.95,
  seed: int = 0,
) -> tuple[float, float, float]:
  """Mean of paired differences of images that come in clusters.

  Whole clusters are resampled (Field and Welsh 2007): frames of one scene are
  one piece of evidence, not as many as they are. Repetitions are resampled
  independently of them, as seeds are in `crossed_interval`.

  Args:
    differences: f64 [S, n], one variation minus the other, of the same
      repetition and image.
    clusters: [n], which cluster each image is of.
    level: of the interval.
    seed: of the resampling.

  Returns:
    (mean over images, low, high); NaN without an image.
  """
  seeds, images = differences.shape
  if not images:
    return (float("nan"),) * 3
  place = np.unique(clusters, return_inverse=True)[1]
  sums = np.stack([np.bincount(place, row) for row in differences])
  sizes = np.bincount(place)
  random = np.random.default_rng(seed)
  count = len(sizes)
  means = np.empty(RESAMPLES)
  for i in range(RESAMPLES):  # At once they are R C numbers.
    drawn = random.integers(count, size=count)
    rows = random.multinomial(seeds, np.full(seeds, 1 / seeds)) / seeds
    if seeds > 1:
      rows = 1 / seeds + (rows - 1 / seeds) * np.sqrt(seeds / (seeds - 1))
    means[i] = rows @ sums[:, drawn].sum(1) / sizes[drawn].sum()
  low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
  return float(np.mean(differences)), float(low), float(high)


# A page has hundreds of differences over the same images.
@functools.lru_cache(maxsize=1)
def _resampled(seeds: int, images: int, seed: int) -> tuple[np.ndarray, ...]:
  """How often each is in each sample: i32 [R, S] and [R, n]."""
  random = np.random.default_rng(seed)
  return tuple(
    random.multinomial(size, np.full(size, 1 / size), RESAMPLES).astype("i4")
    for size in (seeds, images)
  )


def deviation(values: np.ndarray) -> float:
  """Standard deviation of a sample (n - 1); NaN for one value."""
  return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def mcnemar(one: int, other: int) -> float:
  """Exact two-sided p of McNemar's test (1947): do two answer equally well?

  Of the images that only one of them has right, each is right about half where
  they are equally good; the p-value is the binomial one.

  Args:
    one: images that only the first has right.
    other: images that only the second has right.
  """
  if one + other == 0:
    return 1.0
  return float(stats.binomtest(one, one + other).pvalue)


def student_interval(
  values: np.ndarray, level: float = 0.95
) -> tuple[float, float, float]:
  """Mean of a few numbers and its interval by Student's t (1908).

  Args:
    values: f64 [S].
    level: of the interval.

  Returns:
    (mean, low, high). With one number there is no interval: it is without
    ends.
  """
  mean = float(np.mean(values))
  if len(values) < 2:
    return mean, -np.inf, np.inf
  # `stats.t.interval` is NaN where all are equal.
  quantile = stats.t.ppf((1 + level) / 2, len(values) - 1)
  reach = float(quantile * stats.sem(values))
  return mean, mean - reach, mean + reach
