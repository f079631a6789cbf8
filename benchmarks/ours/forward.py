"""Forward passes of prediction, as this package compiles them and plainly.

Letters: B images, H = W image size, N experts.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import models
from mtlmoe_jax.devices import compilation
from mtlmoe_jax.evaluation import evaluate
from mtlmoe_jax.utils import trees
from shapes import BACKBONE, CLASSES, named_weights, training_batch

Run = Callable[[], Any]


def mixture(
  size: int, batch: int, shared: int, ours: bool, experts: int = 3
) -> tuple[Run, dict]:
  """The step of prediction of N experts with k 2 and a gate for each task.

  Args:
    size: H.
    batch: B.
    shared: units that the experts share.
    ours: as prediction does; else `jax.jit` of the step, norms not folded.
    experts: N.
  """
  model = _model(size, shared, experts)
  return _run(model, size, batch, ours, ours)


def network(
  size: int, batch: int, ours: bool, fold: bool | None = None
) -> tuple[Run, dict]:
  """The same with one expert, pooled, and no other task than the class.

  Args:
    size: H.
    batch: B.
    ours: as for `mixture`.
    fold: norms before the program; None: as `ours` says.
  """
  options = {"tasks": "class", "condense": "pool", "k": "1", "gate": "uniform"}
  model = _model(size, 0, 1, **options)
  return _run(model, size, batch, ours, ours if fold is None else fold)


def _model(size: int, shared: int, experts: int, **options: Any) -> Any:
  config = config_lib.default_config()
  config.data.image_size = size
  config.model.update(
    backbone=BACKBONE,
    shared_stages=shared,
    experts=experts,
    norm="frozen",
    **{"k": "2", "gate_input": "stem" if shared else "pixels", **options},
  )
  config_lib.check_config(config)
  return models.build_model(config, CLASSES)


def _run(
  model: Any, size: int, batch: int, ours: bool, fold: bool
) -> tuple[Run, dict]:
  data = training_batch(batch, size)
  images = jax.device_put({name: data[name] for name in ("image", "valid")})
  variables = _variables(model, images["image"][:1])
  if fold:
    model, variables = models.fold_norms(model, variables)
  jit = compilation.jit_forward if ours else jax.jit
  step = evaluate.make_predict_step(model, jit=jit)
  run = lambda: jax.block_until_ready(step(variables, images))  # noqa: E731
  answer = run()
  return run, {"images": batch, "sum": float(jnp.sum(answer["logits"]))}


def _variables(model: Any, image: jax.Array) -> dict[str, Any]:
  """Those that a runtime's graph has: kernels by name, norms as new."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)
  ones = ("scale", "var", "std")

  def leaf(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("kernel"):
      return named_weights(name, shape)
    return np.full(shape, float(name.endswith(ones)), np.float32)

  flat = trees.flatten(shapes)
  return jax.device_put(
    trees.unflatten({n: leaf(n, a.shape) for n, a in flat.items()})
  )
