"""Everything that a config makes a training step of, put together.

The one recipe of model, variables, optimizer, state, places and step: training,
forecasts, benchmarks and tests all take it from here.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import optax

from mtlmoe_jax import models
from mtlmoe_jax.devices import sharding
from mtlmoe_jax.training import initialization, upcycling
from mtlmoe_jax.training.optimizer import frozen_names, make_optimizer
from mtlmoe_jax.training.state import TrainState, create_state
from mtlmoe_jax.training.step import Step, make_train_step
from mtlmoe_jax.utils import trees


@dataclasses.dataclass
class Assembly:
  """What trains.

  Attributes:
    model: of the config.
    mesh: the devices.
    frozen: names of the parameters that do not learn.
    optimizer: over the flat parameters that do.
    schedule: their learning rate.
    step: the pure step; `compiled` gives it for the devices.
    first_step: the same while one expert stands for all, see `upcycling`.
    shardings: where each leaf of the state lives.
    state: before the first step. A compiled step gives its memory away, so
      whoever trains puts the new one here. Placed shapes if abstract.
  """

  model: models.MTLMoE
  mesh: jax.sharding.Mesh
  frozen: frozenset[str]
  optimizer: optax.GradientTransformation
  schedule: optax.Schedule
  step: Step
  first_step: Step
  shardings: Any
  state: TrainState

  @property
  def variables(self) -> initialization.Variables:
    """`params` and `batch_stats` of the state, as the model takes them."""
    return {
      "params": trees.unflatten(self.state.params),
      "batch_stats": self.state.batch_stats,
    }

  def compiled(
    self, seed: int | None = None, first: bool = False
  ) -> Callable[[Any, Any], Any]:
    """The step as `sharding.jit_step` makes it.

    Args:
      first: whether it is `first_step`.
      seed: kept out of the compiled program, so that runs which differ in it
        alone share one; None: that of the config, in it.
    """
    step = self.first_step if first else self.step
    return sharding.jit_step(step, self.shardings, self.mesh, seed)


def assemble(
  config: ml_collections.ConfigDict,
  num_classes: int,
  mesh: jax.sharding.Mesh,
  steps: int,
  steps_per_epoch: int,
  *,
  variables: initialization.Variables | None = None,
  abstract: bool = False,
) -> Assembly:
  """Puts together what one run trains with.

  Args:
    config: the whole config, checked.
    num_classes: L.
    mesh: over the devices; virtual ones do if abstract.
    steps: length of training, for the schedules.
    steps_per_epoch: to turn epochs of warm-up into steps.
    variables: what the parameters start from; None: new ones.
    abstract: nothing is computed and no memory is taken: the state is shapes,
      types and places.

  Raises:
    InputError: a pattern of frozen parameters that matches nothing.
  """
  model = models.build_model(config, num_classes)
  if variables is None:
    variables = (
      initialization.abstract_variables(model, config)
      if abstract
      else initialization.init_variables(model, config, mesh)
    )
  params = trees.flatten(variables["params"])
  frozen = frozen_names(params, config)
  trainable, _ = trees.split(params, frozen)
  optimizer, schedule = make_optimizer(
    config, trainable, steps, steps_per_epoch
  )

  def make(variables: initialization.Variables) -> TrainState:
    return create_state(variables, optimizer, frozen, config.optimizer.ema > 0)

  def make_step(model: models.MTLMoE) -> Step:
    return make_train_step(model, optimizer, schedule, frozen, config, steps)

  shapes = jax.eval_shape(make, variables)
  shardings = sharding.tree_shardings(shapes, mesh)
  return Assembly(
    model=model,
    mesh=mesh,
    frozen=frozen,
    optimizer=optimizer,
    schedule=schedule,
    step=make_step(model),
    first_step=upcycling.all_alike(
      make_step(model.clone(upcycling=True)), model.gating.experts
    ),
    shardings=shardings,
    state=(
      placed(shapes, shardings)
      if abstract
      else jax.jit(make, out_shardings=shardings)(variables)
    ),
  )


def placed(tree: Any, shardings: Any) -> Any:
  """Shapes and types of a tree's leaves, with their places.

  Args:
    tree: of arrays or shapes.
    shardings: of each leaf.
  """
  return jax.tree.map(
    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    tree,
    shardings,
  )
