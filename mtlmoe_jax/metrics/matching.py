"""Whether two runs part the images alike, whatever they number their experts.

Letters: n images, N experts.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import optimize

from mtlmoe_jax.metrics.permutation import permutation_test


def match(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """The numbering of the experts of one run in terms of another's.

  The one-to-one assignment with the largest sum of correlations over the
  images (Hungarian method, Kuhn 1955); an expert whose weight never changes is
  correlated with none.

  Args:
    one: [n, N], the weights that a gate gives to the experts.
    other: [n, N], of another run, of the same images in the same order.

  Returns:
    i64 [N]: expert i of `one` is expert permutation[i] of `other`.

  Raises:
    ValueError: not the same numbers of images and experts.
  """
  _check(one, other)
  return _assign(_standardised(one), _standardised(other))


def agreement(
  one: np.ndarray, other: np.ndarray, permutations: int = 200, seed: int = 0
) -> dict[str, float]:
  """How many images two runs send to the same expert, once matched.

  Matching alone makes some agree. So the null has the images of one run
  permuted and the experts matched again.

  Args:
    one: as in `match`.
    other: as in `match`.
    permutations: how many.
    seed: of the permutations.

  Returns:
    `agreement`, the share of images whose heaviest expert (of equals the first)
    is the same, and its null (`permutation_test`).

  Raises:
    ValueError: as in `match`.
  """
  _check(one, other)
  weights, tops = _standardised(one), np.argmax(one, axis=1)
  others, other_tops = _standardised(other), np.argmax(other, axis=1)

  def same(order: np.ndarray) -> float:
    permutation = _assign(weights, others[order])
    return float(np.mean(permutation[tops] == other_tops[order]))

  images = np.arange(len(one))
  random = np.random.default_rng(seed)
  drawn = [same(random.permutation(images)) for _ in range(permutations)]
  observed = same(images)
  return {
    "agreement": observed,
    **permutation_test(observed, np.asarray(drawn)),
  }


def stability(
  runs: Sequence[np.ndarray], permutations: int = 200, seed: int = 0
) -> dict[str, Any]:
  """`agreement` of every two of several runs.

  Args:
    runs: at least two, each [n, N] as in `match`.
    permutations: how many for each pair.
    seed: of the permutations.

  Returns:
    `agreement` and `null_mean`, means over the pairs; `null_high` and `p`, the
    largest of any pair; `pairs`, how many.

  Raises:
    ValueError: fewer than two runs, or as in `match`.
  """
  if len(runs) < 2:
    raise ValueError(f"{len(runs)} runs: there is no pair to compare")
  pairs = [
    agreement(one, other, permutations, seed)
    for one, other in itertools.combinations(runs, 2)
  ]
  return {
    **{
      name: float(np.mean([pair[name] for pair in pairs]))
      for name in ("agreement", "null_mean")
    },
    **{name: max(pair[name] for pair in pairs) for name in ("null_high", "p")},
    "pairs": len(pairs),
  }


def _check(one: np.ndarray, other: np.ndarray) -> None:
  if np.shape(one) != np.shape(other):
    raise ValueError(
      f"weights of shapes {np.shape(one)} and {np.shape(other)}: must be of "
      "the same images and as many experts"
    )


def _standardised(weights: np.ndarray) -> np.ndarray:
  """Columns of mean 0 and length 1; of zeros where nothing changes."""
  weights = np.asarray(weights, np.float64)
  weights = weights - weights[:1]  # What is constant is exactly 0.
  weights = weights - weights.mean(0)
  length = np.linalg.norm(weights, axis=0)
  return weights / np.where(length > 0, length, 1)


def _assign(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """`match` of standardised weights."""
  _, columns = optimize.linear_sum_assignment(one.T @ other, maximize=True)
  return columns
