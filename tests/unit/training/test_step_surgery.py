"""Training steps whose tasks' gradients do not conflict."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mtlmoe_jax import models
from mtlmoe_jax.models import towers
from mtlmoe_jax.moe import routing
from mtlmoe_jax.training import optimizer as optim
from mtlmoe_jax.training import state as state_lib
from mtlmoe_jax.training import step as step_lib
from mtlmoe_jax.utils import trees
from tests.support import naive, steps, tiny


class Shared:
  """Mean colours, one shared layer, a tower a task; a loss of a gate."""

  def apply(self, variables, pixels, **_):
    p = variables["params"]
    features = jnp.mean(pixels.astype(jnp.float32), (1, 2)) / 255
    hidden = jnp.tanh(features @ p["experts"]["kernel"])
    gate = {
      name: jnp.zeros(()) for name in ("importance", "load", "balance", "z")
    }
    gate["importance"] = jnp.sum(p["experts"]["kernel"] ** 2)
    routed = routing.Routing(None, None, None, gate, {})
    box = towers.decode_box(hidden @ p["tower_box"]["kernel"])
    return models.Outputs(
      hidden @ p["tower_class"]["kernel"], box, {"class": routed}, None, {}
    ), {}


def shared_parameters(seed=0):
  random = np.random.default_rng(seed)
  shapes = {"experts": (3, 6), "tower_class": (6, 3), "tower_box": (6, 4)}
  return {
    f"{name}/kernel": random.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }


@functools.cache
def sgd(weighting, options):
  """One step of plain gradient descent, and the state it begins with."""
  config = tiny.config(
    **{
      "optimizer.name": "sgd",
      "optimizer.weight_decay": 0.0,
      "optimizer.clip": 0.0,
      "optimizer.lr": 1.0,
      "optimizer.ema": 0.0,
      "optimizer.schedule": "constant",
      "optimizer.warmup_epochs": 0.0,
      "loss.weighting": weighting,
      **dict(options),
    }
  )
  optimizer, schedule = optim.make_optimizer(
    config, shared_parameters(), 100, 10
  )

  def start(params):
    variables = {"params": trees.unflatten(jax.tree.map(jnp.asarray, params))}
    return state_lib.create_state(variables, optimizer, frozenset(), False)

  step = step_lib.make_train_step(
    Shared(), optimizer, schedule, frozenset(), config
  )
  return start, jax.jit(step)


def step_of(params, batch, weighting, **options):
  """The gradient that a step goes down, and its metrics."""
  start, step = sgd(weighting, tuple(options.items()))
  new, metrics = step(start(params), batch)
  # Nesterov's first step is 1.9 times the gradient.
  change = {n: (v - new.params[n]) / 1.9 for n, v in params.items()}
  return change, metrics


WEIGHTS = {"class": 0.7, "box": 2.0}


def naive_step(params, batch):
  """Surgery by hand, of the gradients of three steps with one loss each."""
  none = {
    "loss.class_weight": 0.0,
    "loss.box_weight": 0.0,
    "loss.importance": 0.0,
  }
  alone = {f"loss.{task}_weight": weight for task, weight in WEIGHTS.items()}
  rows = [
    step_of(params, batch, "fixed", **{**none, name: weight})[0]
    for name, weight in (*alone.items(), ("loss.importance", 0.3))
  ]
  total = {n: rows[0][n] + rows[1][n] + rows[2][n] for n in params}
  shared = [
    np.asarray(r["experts/kernel"], np.float64).ravel() for r in rows[:2]
  ]
  repaired = naive.gradient_surgery(shared).reshape(
    params["experts/kernel"].shape
  )
  total["experts/kernel"] = repaired + rows[2]["experts/kernel"]
  lengths = np.linalg.norm(shared[0]) * np.linalg.norm(shared[1])
  return total, shared[0] @ shared[1] / lengths


PCGRAD = {f"loss.{task}_weight": weight for task, weight in WEIGHTS.items()}
PCGRAD["loss.importance"] = 0.3


def test_a_step_of_pcgrad_is_surgery_by_hand():
  batch = steps.batch()
  cosines = []
  for seed in range(6):
    params = shared_parameters(seed)
    expected, cosine = naive_step(params, batch)
    found, metrics = step_of(params, batch, "pcgrad", **PCGRAD)
    for name, value in expected.items():
      np.testing.assert_allclose(
        found[name], value, rtol=1e-3, atol=1e-5, err_msg=name
      )
    np.testing.assert_allclose(metrics["gradient_cosine"], cosine, atol=1e-4)
    _, plain = step_of(params, batch, "fixed", **PCGRAD)
    assert "gradient_cosine" not in plain
    np.testing.assert_allclose(metrics["loss"], plain["loss"], rtol=1e-6)
    cosines.append(cosine)
  assert min(cosines) < -0.05 and max(cosines) > 0.05


def test_micro_batches_have_their_own_surgery():
  batch = steps.batch()
  for seed in range(4):
    params = shared_parameters(seed)
    found, metrics = step_of(params, batch, "pcgrad", micro_batches=2, **PCGRAD)
    parts = [
      naive_step(params, {n: v[i::2] for n, v in batch.items()})
      for i in range(2)
    ]
    for name in params:
      mean = (parts[0][0][name] + parts[1][0][name]) / 2
      np.testing.assert_allclose(found[name], mean, rtol=1e-3, atol=1e-5)
    cosine = (parts[0][1] + parts[1][1]) / 2
    np.testing.assert_allclose(metrics["gradient_cosine"], cosine, atol=1e-4)


def test_a_task_without_targets_or_weight_conflicts_with_none():
  batch, params = steps.batch(), shared_parameters()
  without = {**batch, "has_box": np.zeros(8, bool)}
  for rows, options in ((without, {}), (batch, {"loss.box_weight": 0.0})):
    found, metrics = step_of(params, rows, "pcgrad", **options)
    plain, _ = step_of(params, rows, "fixed", **options)
    assert metrics["gradient_cosine"] == 0 and metrics["bad_steps"] == 0
    for name, value in plain.items():
      np.testing.assert_allclose(found[name], value, atol=1e-6)
