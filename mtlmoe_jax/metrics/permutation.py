"""What chance alone would give: metrics beside those of permuted images.

Letters: n images, N experts.
"""

import math
from typing import Any

import numpy as np

from mtlmoe_jax.metrics import split

# Permutations are summed in another order: what is equal may round apart.
_ROUNDING = 1e-9


def permutation_test(observed: float, null: np.ndarray) -> dict[str, float]:
  """Where a metric stands among those of permutations.

  Args:
    observed: the metric; large where there is something to see.
    null: f64 [permutations], the same of permuted data.

  Returns:
    `null_mean`, `null_high` (95 % of the null lie below) and `p`, the chance
    of a metric as large without anything to see. The data as they are count as
    one of the permutations, so that p is never 0 (Phipson and Smyth 2010,
    eq. 2).
  """
  beyond = int(np.sum(null >= observed - _ROUNDING))
  return {
    "null_mean": float(np.mean(null)),
    "null_high": float(np.quantile(null, 0.95)),
    "p": (1 + beyond) / (1 + len(null)),
  }


def information(
  weights: np.ndarray,
  groups: np.ndarray,
  permutations: int = 200,
  seed: int = 0,
) -> dict[str, Any]:
  """What the choice of experts tells of a group: their mutual information.

  An image counts for its experts in proportion to their weights. Images
  without a group or without any weight are left out.

  Args:
    weights: [n, N], not negative, 0 where not selected.
    groups: i [n], for example the class or the pose; negative: none.
    permutations: how many.
    seed: of the permutations.

  Returns:
    `bits`, its null (`permutation_test`), and `share`: how much of the groups'
    entropy it is, (bits - null_mean) / entropy, 0 where there is but one group.
  """
  weights = np.asarray(weights, np.float64)
  keep = (groups >= 0) & (weights.sum(1) > 0)
  weights, groups = weights[keep], groups[keep]
  nats, null = split.information_and_null(weights, groups, permutations, seed)
  bits = nats / math.log(2)
  tested = permutation_test(bits, null / math.log(2))
  _, counts = np.unique(groups, return_counts=True)
  limit = float(split.entropy(counts / max(len(groups), 1))) / math.log(2)
  share = (bits - tested["null_mean"]) / limit if limit else 0.0
  return {"bits": bits, **tested, "share": share}
