"""What training carries from step to step."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from mtlmoe_jax.utils import trees
from mtlmoe_jax.utils.trees import Flat


class TrainState(flax.struct.PyTreeNode):
  """Parameters, statistics and the optimizer's memory.

  Attributes:
    step: i32, steps taken.
    bad_steps: i32, consecutive steps skipped for a non-finite gradient.
    params: flat {name: array}, trainable and frozen.
    batch_stats: nested statistics of the norms.
    opt_state: optax's state over the trainable parameters.
    ema: flat averages of the trainable parameters; empty when off.
  """

  step: jax.Array
  bad_steps: jax.Array
  params: Flat
  batch_stats: Any
  opt_state: Any
  ema: Flat


def create_state(
  variables: dict[str, Any],
  optimizer: optax.GradientTransformation,
  frozen: frozenset[str],
  use_ema: bool,
) -> TrainState:
  """A state at step 0 around a model's variables."""
  params = trees.flatten(variables["params"])
  trainable, _ = trees.split(params, frozen)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    bad_steps=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=variables.get("batch_stats", {}),
    opt_state=optimizer.init(trainable),
    # Copies: a donated state must not hold one buffer twice.
    ema=jax.tree.map(jnp.copy, trainable) if use_ema else {},
  )


def eval_variables(state: TrainState) -> dict[str, Any]:
  """The model variables to evaluate with: averaged where an average is kept."""
  return {
    "params": trees.unflatten({**state.params, **state.ema}),
    "batch_stats": state.batch_stats,
  }
