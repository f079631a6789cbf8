"""One expert first, then copies of it ("sparse upcycling").

Komatsuzaki et al. 2023, "Sparse Upcycling: Training Mixture-of-Experts from
Dense Checkpoints". Until then a step trains the first expert on every image and
gives all others its parameters, statistics and optimizer state: the state is
that of the mixture at any time, with equal experts.

Letters: N experts.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp

from mtlmoe_jax.devices import sharding
from mtlmoe_jax.training.state import TrainState
from mtlmoe_jax.training.step import Step

# Experts of images, not those of tokens in a V-MoE layer of the stem.
EXPERTS = re.compile(r"(^|/)(?<!moe/)experts/")


def all_alike(step: Step, experts: int) -> Step:
  """A step of N equal experts that costs what one costs.

  Args:
    step: of a model whose `upcycling` is on, for a state with one expert.
    experts: N.

  Returns:
    The step for a state with N experts, of which the first counts.
  """

  def wrapped(
    state: TrainState, *rest: Any
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    one = _map_experts(lambda x: x[:1], state)
    new, metrics = step(one, *rest)
    return _map_experts(lambda x: jnp.repeat(x, experts, 0), new), metrics

  return wrapped


def _map_experts(fn: Any, state: TrainState) -> TrainState:
  """Every leaf of an expert, wherever it is in the state."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: (
      fn(leaf) if EXPERTS.search(sharding.path_name(path)) else leaf
    ),
    state,
  )
