"""How many parameters a model has, in all and for one image.

Letters: N experts, K experts per image and task, L classes.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import traverse_util

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.models import building
from mtlmoe_jax.models.backbones.vit import TOKEN_EXPERTS


def count_parameters(
  config: ml_collections.ConfigDict,
  num_classes: int,
  params: Mapping[str, Any] | None = None,
) -> tuple[int, int]:
  """Parameters of a config's model, found without computing anything.

  Args:
    config: the whole config.
    num_classes: L.
    params: the model's, where they are at hand: arrays or shapes. Without them
      the model is traced, which takes seconds.

  Returns:
    (total, active): active are those that an image can meet: all but the
    experts, and as many experts as the gates together can choose for it,
    min(N, sum of K), or K where they choose one set (shared experts count
    once). Of the experts of V-MoE
    layers those of one token count, as each token chooses anew.
  """
  if params is None:
    size = config.data.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
    model = building.build_model(config, num_classes)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
  return _totals(params, config)


def active_experts(config: ml_collections.ConfigDict) -> int:
  """Experts that an image can meet; see `count_parameters`."""
  n, ks = config.model.experts, config_lib.resolve(config).ks
  shared = config.model.shared_experts
  if config.model.gate in ("dense", "uniform"):
    return n
  one_set = config.model.share_gate or config.model.select == "joint"
  chosen = [k - shared for k in ks]
  return min(n, shared + (chosen[0] if one_set else sum(chosen)))


def parameter_table(
  variables: Mapping[str, Any],
  config: ml_collections.ConfigDict | None = None,
) -> str:
  """A table of parameters for the eye.

  Args:
    variables: of the model, arrays or shapes.
    config: the config of the model; adds the parameters active per image (see
      `count_parameters`).

  Returns:
    Lines with module, arrays and parameters, one per top-level module (two
    for the experts), then totals.
  """
  rows: dict[str, list[int]] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
    names = [key.key for key in path]
    name = "/".join(names[:2]) if names[0] == "experts" else names[0]
    row = rows.setdefault(name, [0, 0])
    row[0] += 1
    row[1] += math.prod(np.shape(leaf))
  rows["total"] = [sum(column) for column in zip(*rows.values())]
  lines = [f"{'module':<20}{'arrays':>8}{'parameters':>14}"]
  lines += [f"{n:<20}{a:>8,}{p:>14,}" for n, (a, p) in rows.items()]
  if config is not None:
    _, active = _totals(variables["params"], config)
    lines.append(f"{'active per image':<28}{active:>14,}")
  return "\n".join(lines)


def _totals(
  params: Mapping[str, Any], config: ml_collections.ConfigDict
) -> tuple[int, int]:
  def size(tree: Any) -> int:
    return sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(tree))

  total, experts = size(params), size(params["experts"])
  each = experts // config.model.experts
  active = total - experts + each * active_experts(config)
  moe = config.model.token_moe
  if moe.gate not in ("dense", "soft"):
    flat = traverse_util.flatten_dict(params, sep="/")
    tokens = size([v for name, v in flat.items() if TOKEN_EXPERTS in name])
    active -= tokens // moe.experts * (moe.experts - moe.k)
  return total, active
