"""A trained model, or the backbone of one expert, as arrays for a file.

Letters: N experts.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from mtlmoe_jax import errors
from mtlmoe_jax.models import backbones
from mtlmoe_jax.pretrained import names, parts
from mtlmoe_jax.pretrained.formats import readers

NAMES = ("ours", "timm")


def whole_model(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """All arrays by path, such as `params/experts/backbone/stem_conv/kernel`.

  Args:
    variables: collections `params` and, with batch norm, `batch_stats`.
  """
  flat = traverse_util.flatten_dict(dict(variables), sep="/")
  return {path: np.asarray(value) for path, value in flat.items()}


def one_backbone(
  variables: Mapping[str, Any], expert: int, backbone: str, convention: str
) -> dict[str, np.ndarray]:
  """The whole backbone that an image meets in one expert.

  Args:
    variables: of the model.
    expert: 0 ... N - 1.
    backbone: its name.
    convention: "ours" or "timm" (for its network with `num_classes=0`).

  Returns:
    Arrays by name, of the stem and of the expert.

  Raises:
    InputError: no such expert, or arrays that timm's network does not have.
  """
  model = whole_model(variables)
  experts = next(
    len(value)
    for path, value in model.items()
    if path.startswith("params/experts/")
  )
  if not 0 <= expert < experts:
    raise errors.InputError(
      f"--expert={expert}: the model has experts 0 ... {experts - 1}"
    )
  common, own = parts.whole_backbone(model)
  arrays = common | {name: value[expert] for name, value in own.items()}
  if convention == "ours":
    return arrays
  sizes = backbones.get_backbone(backbone).sizes
  statistics = any(name.startswith("batch_stats/") for name in arrays)
  if sizes.epsilon is not None and not statistics:
    raise errors.InputError(
      "--names=timm: the model was trained with config.model.norm='group', "
      f"which timm's {backbone} does not have; use --names=ours"
    )
  return names.as_timm(arrays, sizes)


def metadata(facts: Mapping[str, Any]) -> dict[str, str]:
  """What a file says of itself, so that it can be loaded again.

  Args:
    facts: JSON values; `backbone` and `preprocessing` are compared when the
      weights are loaded.
  """
  return {readers.FACTS: json.dumps(dict(facts))}
