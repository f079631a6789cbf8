"""A model without the experts that its gates never choose.

Letters: n images, N experts, K selected per image, F features.
"""

import copy
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.evaluation import evaluate
from mtlmoe_jax.metrics.predictions import Predictions
from mtlmoe_jax.utils import trees

# Outputs may differ by so much, the rounding of sums of fewer terms.
TOLERANCE = 1e-4
# Arrays whose last axis is the experts'.
_OF_GATES = re.compile(
  r"(params|batch_stats)/gate(_class|_box)?/"
  r"(logits/|bend/|noise_std/|cosine/prototypes|selection_bias)"
)
_OF_EXPERTS = re.compile(r"(params|batch_stats)/experts/")


@dataclasses.dataclass(frozen=True)
class Pruned:
  """What is left of a model.

  Attributes:
    restored: with fewer experts, in its config too.
    dropped: the experts that went.
    images: how many chose none of them.
    difference: largest difference of an output, over all of these images.
    parameters: before and after.
  """

  restored: Restored
  dropped: tuple[int, ...]
  images: int
  difference: float
  parameters: tuple[int, int]

  @property
  def saved(self) -> str:
    """What it saved, in words."""
    before, after = (f"{number / 1e6:.2f}" for number in self.parameters)
    return (
      f"{before} to {after} million parameters, outputs equal to "
      f"{self.difference:.1g}"
    )


def prune(restored: Restored, source: data_lib.Source) -> Pruned:
  """Drops the experts that no image of a source goes to.

  With more than one expert an image, weights are normalized over those chosen
  (noisy_top_k): nothing else changes. Where a weight is a share of all experts
  (one expert an image, top_k, dense) those that are left would weigh more, and
  unless the others' shares are next to nothing that is refused, as the outputs
  would not be equal. If one expert is left, the gates say nothing any more: the
  model is one network.

  Args:
    restored: a checkpoint.
    source: images, such as those of the validation split.

  Returns:
    The model without them; `dropped` is empty where all are used.

  Raises:
    InputError: outputs would differ, towers see the gate, or a V-MoE stem.
  """
  config = restored.config
  experts = config.model.experts
  whole = evaluated(restored, source)
  used = {
    int(i)
    for choices in whole.routing.values()
    for i in np.unique(choices.experts)
  }
  dropped = tuple(i for i in range(experts) if i not in used)
  before = count(restored)
  if not dropped:
    return Pruned(restored, (), len(source), 0.0, (before, before))
  if config.model.tower_sees_gate == experts:
    raise errors.InputError(
      f"--prune: experts {_names(dropped)} are never chosen, but the towers "
      "are told the gate's probabilities of all "
      f"(config.model.tower_sees_gate={experts}): nothing can be dropped"
    )
  smaller = dataclasses.replace(
    restored,
    config=_config(config, dropped),
    variables=without(restored.variables, dropped, config.model.shared_experts),
  )
  difference = largest_difference(whole, evaluated(smaller, source))
  if not difference <= TOLERANCE:
    raise errors.InputError(
      f"--prune: experts {_names(dropped)} are never chosen, but without them "
      f"outputs change by up to {difference:.2g}: with "
      f"config.model.gate={config.model.gate!r} and "
      f"config.model.k={config.model.k!r} a weight is a share of all experts; "
      "nothing was dropped"
    )
  after = count(smaller)
  return Pruned(smaller, dropped, len(source), difference, (before, after))


def without(
  variables: Mapping[str, Any], dropped: Sequence[int], shared: int = 0
) -> dict[str, Any]:
  """Variables of the same model without some experts.

  Args:
    variables: `params` and `batch_stats`.
    dropped: experts, from 0.
    shared: how many of the first ones gates do not choose from; none of them
      is dropped.
  """
  of_gates = [expert - shared for expert in dropped]
  out: dict[str, Any] = {}
  for path, leaf in trees.flatten(dict(variables)).items():
    if _OF_EXPERTS.match(path):
      leaf = np.delete(np.asarray(leaf), dropped, axis=0)
    elif _OF_GATES.match(path):
      leaf = np.delete(np.asarray(leaf), of_gates, axis=-1)
    out[path] = leaf
  return trees.unflatten(out)


def _config(
  config: ml_collections.ConfigDict, dropped: Sequence[int]
) -> ml_collections.ConfigDict:
  config = copy.deepcopy(config)
  ks = config_lib.resolve(config).ks
  left = config.model.experts - len(dropped)
  config.model.experts = left
  config.model.k = tuple(min(k, left) for k in ks)
  return config


def evaluated(restored: Restored, source: data_lib.Source) -> Predictions:
  """What a checkpoint says of the whole images of a source."""
  config = copy.deepcopy(restored.config)
  config.eval.views = "whole"
  model = models.build_model(config, len(restored.class_names))
  return evaluate.evaluate_source(
    evaluate.make_predict_step(model), restored.variables, source, config
  ).predictions


def largest_difference(one: Predictions, other: Predictions) -> float:
  """The largest difference of a logit or a corner."""
  pairs = ((one.logits, other.logits), (one.boxes, other.boxes))
  return max(
    float(np.max(np.abs(a - b)))
    for a, b in pairs
    if a is not None and b is not None
  )


def count(restored: Restored) -> int:
  """Parameters."""
  params = trees.flatten(dict(restored.variables["params"]))
  return sum(int(np.prod(np.shape(leaf))) for leaf in params.values())


def _names(dropped: Sequence[int]) -> str:
  return ", ".join(map(str, dropped))
