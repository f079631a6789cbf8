"""A model for prediction whose norms are part of its kernels.

Stored statistics are a factor and an offset of each channel. A program that
gets kernels and statistics multiplies all kernels in every call: of one image
of 224 pixels that is a fifth of a Lite0's time (row `forward_folded` of
`benchmarks/forward.py`). Whoever predicts many times does it once.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mtlmoe_jax.models.mtlmoe import MTLMoE
from mtlmoe_jax.models.normalization import EPSILON, fold, uses_stored
from mtlmoe_jax.utils import trees


def fold_norms(
  model: MTLMoE, variables: Mapping[str, Any]
) -> tuple[MTLMoE, dict[str, Any]]:
  """The same model without batch norms; it predicts alike, but cannot train.

  NumPy computes it: a program would have to be compiled at every start.

  Args:
    model: what `models.build_model` gives.
    variables: its `params` and `batch_stats`, NumPy's arrays or JAX's.

  Returns:
    The model and its variables, outputs equal to float32's rounding. Both as
    they are where nothing can be folded: another norm, none with stored
    statistics, or variables on several devices.
  """
  same = model, dict(variables)
  if model.norm == "folded" or not uses_stored(model.norm, train=False):
    return same
  leaves = jax.tree.leaves(dict(variables))
  if any(_on_several_devices(leaf) for leaf in leaves):
    return same
  epsilon = model.backbone.sizes.epsilon
  folded = fold(variables, EPSILON if epsilon is None else epsilon, _join)
  before = trees.flatten(dict(variables))
  placed = {
    path: leaf if before.get(path) is leaf else jax.device_put(leaf)
    for path, leaf in trees.flatten(folded).items()
  }
  # An empty collection stays: a caller may ask for it all the same.
  folded = {"batch_stats": {}, **trees.unflatten(placed)}
  return model.clone(norm="folded"), folded


def _join(
  kernel: Any, norm: Mapping[str, Any], epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
  """As `normalization.fold` does it by default, with NumPy."""
  of = {name: np.asarray(value) for name, value in norm.items()}
  factor = of["scale"] / np.sqrt(of["var"] + np.float32(epsilon))
  wide = factor[..., None, None, None, :]
  return np.asarray(kernel) * wide, of["bias"] - of["mean"] * factor


def _on_several_devices(leaf: Any) -> bool:
  return isinstance(leaf, jax.Array) and len(leaf.devices()) > 1
