"""The training step of the tiny model, and a batch that it can learn."""

import functools

import jax
import numpy as np

from mtlmoe_jax import models
from mtlmoe_jax.devices import sharding
from mtlmoe_jax.training import assembly
from tests.support import tiny
from tests.support.models import filled

CLASSES = 3


def batch(n=8, size=32, seed=0):
  rng = np.random.default_rng(seed)
  label = np.arange(n) % CLASSES
  low = rng.uniform(0.0, 0.4, (n, 2))
  image = rng.integers(0, 60, (n, size, size, 3), dtype=np.uint8)
  image += (label * 80).astype(np.uint8)[:, None, None, None]
  return {
    "image": image,
    "label": label.astype(np.int32),
    "box": np.concatenate([low, low + 0.5], 1).astype(np.float32),
    "has_label": np.ones(n, bool),
    "has_box": np.ones(n, bool),
    "valid": np.ones(n, bool),
    "index": np.arange(n, dtype=np.int32),
  }


def build(mesh=None, frozen_patterns=(), **overrides):
  """The state and the compiled step; of one device, made once per options."""
  if mesh is None:
    return _compiled(tuple(frozen_patterns), tuple(sorted(overrides.items())))
  return placed(*parts(frozen_patterns, **overrides), mesh)


@functools.cache
def _compiled(frozen_patterns, overrides):
  state, step = parts(frozen_patterns, **dict(overrides))
  return state, jax.jit(step)


def parts(frozen_patterns=(), **overrides):
  """The state on one device, and the pure step."""
  config = tiny.config(
    **{"data.image_size": 32, "optimizer.lr": 3e-3, **overrides}
  )
  config.optimizer.frozen = frozen_patterns
  config.optimizer.schedule = "constant"
  config.optimizer.warmup_epochs = 0.0
  config.optimizer.ema = 0.0
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  images = np.zeros((1, 32, 32, 3), np.uint8)
  # The state is not compiled: what is tested is the step.
  variables = filled(models.build_model(config, CLASSES), images)
  with jax.set_mesh(mesh):  # in place of one that may be set around it
    parts = assembly.assemble(
      config, CLASSES, mesh, config.steps, 10, variables=variables
    )
  return parts.state, parts.step


def placed(state, step, mesh):
  """Both on a mesh."""
  shardings = sharding.tree_shardings(state, mesh)
  state = jax.device_put(state, shardings)
  return state, jax.jit(
    step,
    in_shardings=(shardings, sharding.batch_sharding(mesh)),
    out_shardings=(shardings, sharding.replicated(mesh)),
  )


def losses_of(state, step, count, data=None):
  out = []
  for _ in range(count):
    state, metrics = step(state, data or batch())
    out.append({k: float(v) for k, v in metrics.items()})
  return state, out
