"""A mixture whose gates are constant as one network without gates.

Letters: n images, N experts, M of them with weight, F features of the stem, D
condensed width, H hidden width of a tower.
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from mtlmoe_jax import data as data_lib
from mtlmoe_jax import models
from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.evaluation import pruning
from mtlmoe_jax.metrics.predictions import Predictions
from mtlmoe_jax.utils import trees

# Weights of an expert over images may differ by so much, float32's rounding.
ROUNDING = 1e-6
# Of each tower, the layer that reads combined features: on a grid, and else.
_READERS = {"class": ("hidden", "hidden"), "box": ("cell", "hidden")}


def fold(restored: Restored, source: data_lib.Source) -> pruning.Pruned | None:
  """Makes one wide expert of those that constant gates mix, where exact.

  A weight cannot go into a condense layer, for swish follows it, but into what
  reads the sum: M condense layers side by side are one of M times the width,
  and a tower's first layer takes its rows once for each, times the weight. That
  is exact where an expert is its condense layer alone (all of the backbone in
  `model.shared_stages`); no gate is left to be computed.

  Args:
    restored: a checkpoint.
    source: images, such as those of the validation split.

  Returns:
    The same model with one expert; None where that cannot be: gates that tell
    images (or towers, `model.tower_sees_gate`) apart, experts with layers of
    their own, or outputs that would differ by more than `pruning.TOLERANCE`.
  """
  config = restored.config
  if not _can_fold(config, len(restored.class_names)):
    return None
  whole = pruning.evaluated(restored, source)
  weights = _constant(whole)
  if weights is None:
    return None
  used = np.flatnonzero(np.any([w > 0 for w in weights.values()], axis=0))
  folded = dataclasses.replace(
    restored,
    config=_config(config, len(used)),
    variables=one_head(
      restored.variables,
      {task: w[used] for task, w in weights.items()},
      used,
      on_grid=config.model.condense != "pool",
    ),
  )
  difference = pruning.largest_difference(
    whole, pruning.evaluated(folded, source)
  )
  if not difference <= pruning.TOLERANCE:
    return None
  dropped = tuple(sorted(set(range(config.model.experts)) - set(used.tolist())))
  before, after = pruning.count(restored), pruning.count(folded)
  return pruning.Pruned(
    folded, dropped, len(source), difference, (before, after)
  )


def one_head(
  variables: Mapping[str, Any],
  weights: Mapping[str, np.ndarray],
  used: np.ndarray,
  on_grid: bool,
) -> dict[str, Any]:
  """Variables of the folded model.

  Args:
    variables: `params` and `batch_stats`.
    weights: task -> f [M], of the experts in `used`.
    used: i [M].
    on_grid: whether condensed features keep their place.

  Returns:
    The same without gates; experts with a leading axis 1.
  """
  out: dict[str, Any] = {}
  for path, leaf in trees.flatten(dict(variables)).items():
    if path.startswith(("params/gate", "batch_stats/gate")):
      continue
    if path.startswith("params/experts/condense/"):
      # [N, F, D] or [N, D] -> [1, F, M D] or [1, M D].
      chosen = np.asarray(leaf)[used]
      leaf = np.concatenate(list(chosen), -1)[None]
    out[path] = leaf
  for task, w in weights.items():
    reader = _READERS[task][0 if on_grid else 1]
    path = f"params/tower_{task}/{reader}/kernel"
    kernel = np.asarray(out[path])
    rows = w[:, None, None].astype(kernel.dtype) * kernel
    out[path] = rows.reshape(-1, kernel.shape[-1])
  return trees.unflatten(out)


def _can_fold(config: ml_collections.ConfigDict, classes: int) -> bool:
  """Whether experts are condense layers, and gates tell towers nothing."""
  m = config.model
  if m.experts == 1 or m.expert_dim or m.shared_experts or m.tower_sees_gate:
    return False
  model = models.build_model(config, classes)
  return model.shared_stages >= model.backbone.sizes.last


def _constant(predictions: Predictions) -> dict[str, np.ndarray] | None:
  """Task -> f [N], the weights of every image; None where they differ."""
  weights = {}
  for task, gate in predictions.routing.items():
    mean = gate.dense.mean(0)
    if np.max(np.abs(gate.dense - mean)) > ROUNDING:
      return None
    weights[task] = mean
  return weights


def _config(
  config: ml_collections.ConfigDict, used: int
) -> ml_collections.ConfigDict:
  config = copy.deepcopy(config)
  model = config.model
  model.condense_dim *= used
  model.experts, model.k, model.upcycle_epochs = 1, "1", 0.0
  # Equal weights are looked up nowhere.
  model.gate, model.gate_input, model.gate_start = "uniform", "pixels", "auto"
  model.select = "separate"
  return config
