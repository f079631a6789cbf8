"""A model for prediction whose norms are part of its kernels.

Stored statistics are a factor and an offset of each channel. A program that
gets kernels and statistics multiplies all kernels in every call: of one image
of 224 pixels that is a fifth of a Lite0's time (row `forward_folded` of
`benchmarks/forward.py`). Whoever predicts many times does it once.
"""

from collections.abc import Mapping
from typing import Any

import jax

from mtlmoe_jax.models.mtlmoe import MTLMoE
from mtlmoe_jax.models.normalization import EPSILON, uses_stored
from mtlmoe_jax.ops import folding


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
  epsilon = foldable(model)
  leaves = jax.tree.leaves(dict(variables))
  if epsilon is None or any(map(_on_several_devices, leaves)):
    return model, dict(variables)
  return model.clone(norm="folded"), folding.folded(variables, epsilon)


def foldable(model: Any) -> float | None:
  """The epsilon of a model's norms; None where they cannot be folded."""
  if (
    not isinstance(model, MTLMoE)
    or model.norm == "folded"
    or not uses_stored(model.norm, train=False)
  ):
    return None
  epsilon = model.backbone.sizes.epsilon
  return EPSILON if epsilon is None else epsilon


def _on_several_devices(leaf: Any) -> bool:
  return isinstance(leaf, jax.Array) and len(leaf.devices()) > 1
