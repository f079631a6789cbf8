"""Small models, their variables and programs."""

import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import models
from mtlmoe_jax.models import layers
from mtlmoe_jax.models.backbones.efficientnet import make_sizes

# These programs run once on a few pixels: compiling them is the whole cost.
jit = functools.partial(
  jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


def native_convolutions():
  """Within it convolutions are those that are quickest to trace."""
  native = functools.partial(layers.conv2d, impl="native")
  return mock.patch.object(layers, "conv2d", native)


def shapes_of(function, *args):
  """`jax.eval_shape`; no draw and no form of a convolution is traced."""
  zeros = lambda key, shape=(), dtype=float: jnp.zeros(shape, dtype)  # noqa: E731
  with native_convolutions(), mock.patch.object(jax.random, "normal", zeros):
    return jax.eval_shape(function, *args)


def filled(module, *args, seed=0, **kwargs):
  """Variables of the module's shapes, filled by NumPy.

  Nothing is compiled, and the numbers do not depend on any version of JAX.
  """
  shapes = shapes_of(
    lambda key: module.init(key, *args, **kwargs), jax.random.key(0)
  )
  rng = np.random.default_rng(seed)

  def fill(path, leaf):
    name = path[-1].key
    draw = rng.normal(size=leaf.shape)
    if name == "kernel":
      axes = 3 if "conv" in path[-2].key or "se_" in path[-2].key else 1
      fan_in = np.prod(leaf.shape[-1 - axes : -1])
      out = draw * np.sqrt(2 / fan_in)
    elif name in ("var", "scale"):
      out = np.exp(0.1 * draw)
    else:
      out = 0.1 * draw
    return out.astype(leaf.dtype)

  return jax.tree_util.tree_map_with_path(fill, shapes)


CLASSES = 5


IMAGES = np.random.default_rng(1).integers(
  0, 256, (5, 16, 16, 3), dtype=np.uint8
)


def make_config(**options):
  config = config_lib.default_config()
  config.model.update(
    backbone="efficientnet_nano",
    gate_width=8,
    condense_dim=8,
    tower_dim=8,
  )
  config.data.image_size = 32
  if "weighting" in options:
    config.loss.weighting = options.pop("weighting")
  if "precision" in options:
    config.precision = options.pop("precision")
  config.model.update(**options)
  config_lib.check_config(config)
  return config


# One stage of one block: the machinery around a backbone is what is tested.
MICRO = dataclasses.replace(
  models.get_backbone("efficientnet_nano"),
  sizes=make_sizes(8, ((2, 3, 2, 1, 16),), 16, lite=True),
)


def make(**options):
  model = models.build_model(make_config(**options), CLASSES)
  return model.clone(backbone=MICRO)


def train_pass(model, seed=3):
  """(images, valid) -> (loss, outputs, updates) and gradients, compiled."""

  def loss(params, stats, images, valid):
    outputs, changed = model.apply(
      {"params": params, **stats},
      images,
      train=True,
      valid=valid,
      rngs={
        "gating": jax.random.key(seed),
        "dropout": jax.random.key(seed + 1),
      },
      mutable=["batch_stats"],
    )
    total = 0.0
    for out in (outputs.logits, outputs.box):
      if out is not None:
        weight = jnp.cos(jnp.arange(out.size)).reshape(out.shape)
        total += jnp.sum(jnp.where(valid[:, None], weight * out, 0))
    for routing in outputs.routing.values():
      total += 0.1 * sum(routing.losses.values())
    return total, (outputs, changed)

  @jit
  def run(variables, images, valid):
    stats = {k: v for k, v in variables.items() if k != "params"}
    # Which convolution it is does not matter here, and has tests of its own.
    with native_convolutions():
      return jax.value_and_grad(loss, has_aux=True)(
        variables["params"], stats, images, valid
      )

  return run
