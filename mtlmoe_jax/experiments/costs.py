"""What a cell costs, known before it runs."""

import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data as data_lib
from mtlmoe_jax import models
from mtlmoe_jax.training import schedule
from mtlmoe_jax.utils import files

# FLOPs a second of one CPU core in training, with all that is around the matrix
# products: a guess for a list, replaced by what finished cells took.
CORE = 2e10
# A training step is a forward and a backward pass of twice its cost.
TRAINING = 3


def forward_flops(config: ml_collections.ConfigDict, num_classes: int) -> float:
  """FLOPs of one image's forward pass; a multiply-add is two.

  Counted by XLA on the lowered, not optimised, program. The experts that an
  image meets are those that the gates together can choose for it, as in
  `models.count_parameters`.

  Args:
    config: the whole config.
    num_classes: L.
  """
  return _flops(config, num_classes, False)


def trained_flops(config: ml_collections.ConfigDict, num_classes: int) -> float:
  """The same without a stem whose features are computed once."""
  return _flops(config, num_classes, bool(config.features.views))


def _saved(config: ml_collections.ConfigDict) -> str:
  """What the cost of a model depends on, as a key."""
  kept = config_lib.default_config()
  kept.model = config.model.copy_and_resolve_references()
  kept.data.image_size = config.data.image_size
  kept.precision = config.precision
  model = kept.model
  model.experts, model.k, model.compute = 1, "1", "dense"
  # Of all gates with parameters the cost is that of the dense one.
  without = model.gate in config_lib.CONTROLS
  model.gate = "uniform" if without else "dense"
  model.gate_noise_schedule, model.gate_temperature = "constant", 1.0
  model.bias_rate, model.break_symmetry, model.pretrained = 0.0, 0.0, ""
  return json.dumps(files.plain(config_lib.to_saved(kept)))


def _flops(
  config: ml_collections.ConfigDict, num_classes: int, behind_stem: bool
) -> float:
  saved = _saved(config)
  # Dense compute runs what there is, so that the difference of two models is
  # one expert.
  one, two = (_lowered(saved, n, num_classes, behind_stem) for n in (1, 2))
  return one + (models.active_experts(config) - 1) * (two - one)


@functools.cache
def _lowered(
  saved: str, experts: int, num_classes: int, behind_stem: bool
) -> float:
  config = config_lib.from_saved(json.loads(saved))
  config.model.experts = experts
  model = models.build_model(config, num_classes)
  size = config.data.image_size
  images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
  variables = jax.eval_shape(model.init, jax.random.key(0), images)
  inputs = {"images": images}
  if behind_stem:
    known = jax.eval_shape(
      functools.partial(models.stem_features, config), variables, images
    )
    inputs = {**known, "images": known.pop("image")}
  lowered = jax.jit(model.apply).lower(variables, **inputs)
  costs: Any = lowered.cost_analysis()
  return float(costs["flops"])


def training_images(config: ml_collections.ConfigDict) -> tuple[int, int]:
  """Images that a run trains on, with repetitions, and classes that it tells.

  Args:
    config: the whole config, whose data is there.

  Raises:
    InputError: the data cannot be opened.
  """
  data = data_lib.open_data(config)
  steps, _ = schedule.length(config, data)
  return steps * config.batch_size, len(data.class_names)
