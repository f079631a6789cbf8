"""Temperature, noise schedules, bias and joint selection in a whole model."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.devices import sharding
from mtlmoe_jax.models.gates import BIAS, Gate, GateOptions, route
from mtlmoe_jax.training import checkpoint
from mtlmoe_jax.training import step as step_lib
from tests.support import steps, tiny
from tests.support.models import filled, jit

X = np.random.default_rng(0).normal(size=(6, 16, 16, 3)).astype(np.float32)
KEY = {"gating": jax.random.key(0)}


# --- gates -------------------------------------------------------------------


def test_temperature_divides_the_logits():
  variables = filled(Gate(GateOptions("dense", 4, 8, 0.0), 4), X)
  logits = [
    jit(
      Gate(GateOptions("dense", 4, 8, 0.0, t), 4).apply,
      static_argnames="method",
    )(variables, X, method="scores").logits
    for t in (1.0, 4.0)
  ]
  np.testing.assert_allclose(logits[1], logits[0] / 4, rtol=1e-6)
  assert np.any(logits[0] != 0)


@pytest.mark.parametrize("kind", ["noisy_top_k", "top_k"])
def test_noise_may_be_given_for_a_step(kind):
  gate = Gate(GateOptions(kind, 4, 8, 1.0), 2)
  variables = filled(gate, X)
  run = jit(gate.apply, static_argnums=2)
  plain = run(variables, X, True)
  own = run(variables, X, True, rngs=KEY).weights
  same = run(variables, X, True, noise=jnp.float32(1.0), rngs=KEY).weights
  np.testing.assert_allclose(same, own, rtol=1e-6)
  assert not np.allclose(own, plain.weights)
  none = run(variables, X, True, noise=jnp.float32(0.0), rngs=KEY)
  np.testing.assert_allclose(none.weights, plain.weights, rtol=1e-6)
  assert all(np.isfinite(v) for v in none.losses.values())


class Two(nn.Module):
  """Two gates that select together."""

  @nn.compact
  def __call__(self, x, train=False, valid=None):
    names = ("gate_a", "gate_b")
    gates = [
      Gate(GateOptions("top_k", 4, 8, 1.0, 1.0, 0.1), 2, name=n) for n in names
    ]
    return route(gates, x, train, valid, joint=True)


def test_bias_steps_in_training_only_and_is_used_in_evaluation():
  model = Two()
  variables = filled(model, X)
  stats = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
  assert jax.tree.map(jnp.shape, stats) == {
    "gate_a": {BIAS: (4,)},
    "gate_b": {BIAS: (4,)},
  }
  variables = {"params": variables["params"], "batch_stats": stats}
  run = jit(model.apply, static_argnames=("train", "mutable"))
  _, still = run(variables, X, mutable=("batch_stats",))
  assert not np.any(jax.tree.leaves(still))
  valid = np.arange(6) < 5
  found, changed = run(
    variables, X, train=True, valid=valid, mutable=("batch_stats",)
  )
  load = np.bincount(np.asarray(found[0].experts)[:5].ravel(), minlength=4)
  expected = 0.1 * np.sign(2.5 - load)
  for name in ("gate_a", "gate_b"):
    np.testing.assert_allclose(changed["batch_stats"][name][BIAS], expected)
  # A large bias decides in evaluation, too.
  pushed = jax.tree.map(lambda b: b.at[3].set(1e4), stats)
  for r in run({"params": variables["params"], "batch_stats": pushed}, X):
    assert np.all(np.asarray(r.experts)[:, 0] == 3)
    assert np.all(np.isfinite(r.weights))


# --- schedules ---------------------------------------------------------------


def scheduled(**options):
  config = tiny.config(**{f"model.{k}": v for k, v in options.items()})
  config_lib.check_config(config)
  return config


@pytest.mark.parametrize(
  ("kind", "values"),
  [("linear", [0.8, 0.65, 0.5, 0.2]), ("cosine", [0.8, 0.71213203, 0.5, 0.2])],
)
def test_schedules_exactly(kind, values):
  config = scheduled(
    gate_noise=0.8, gate_noise_schedule=kind, gate_noise_end=0.2
  )
  schedule = step_lib.noise_schedule(config, 100)
  found = [float(schedule(s)) for s in (0, 25, 50, 100)]
  np.testing.assert_allclose(found, values, rtol=1e-6)


def test_schedules_only_where_there_is_one():
  assert step_lib.noise_schedule(scheduled(), None) is None
  linear = scheduled(gate_noise_schedule="linear")
  with pytest.raises(ValueError, match="length of training"):
    step_lib.noise_schedule(linear, None)
  silent = scheduled(gate_noise_schedule="linear", gate_noise=0.0)
  assert step_lib.noise_schedule(silent, 10) is None


# --- training ----------------------------------------------------------------

STAGES = models.get_backbone("efficientnet_pico").sizes.last
OPTIONS = {
  "model.bias_rate": 0.01,
  "model.gate_noise_schedule": "cosine",
  "model.select": "joint",
  "model.shared_stages": STAGES,
  "steps": 4,
}


def biases(state):
  return {t: np.asarray(state.batch_stats[t][BIAS]) for t in state.batch_stats}


@pytest.fixture(scope="module")
def run():
  # All stages shared and frozen: the gates are what is trained here.
  return steps.build(sharding.make_mesh(), ("stem/",), **OPTIONS)


def test_bias_and_schedule_resume_bit_equal(run, tmp_path):
  state, step = run
  data = steps.batch()
  noise, states = [], [state]
  for _ in range(3):
    state, metrics = step(state, data)
    noise.append(float(metrics["gate_noise"]))
    states.append(state)
  np.testing.assert_allclose(
    noise, [0.5 + 0.5 * np.cos(np.pi * i / 4) for i in range(3)], rtol=1e-6
  )
  checkpointer = checkpoint.Checkpointer(tmp_path)
  checkpointer.save(states[1], {}, {}, None)
  checkpointer.close()
  mesh = sharding.make_mesh()
  checkpointer = checkpoint.Checkpointer(tmp_path)
  state, _, _ = checkpointer.restore(
    1, checkpoint.abstract_state(states[0], mesh)
  )
  checkpointer.close()
  for _ in range(2):
    state, metrics = step(state, data)
  assert float(metrics["gate_noise"]) == noise[2]
  jax.tree.map(np.testing.assert_array_equal, state, states[3])
  assert set(biases(state)) == {"gate_class", "gate_box"}
  # Three steps up or down: 8 x 2 choices of 3 experts are never even.
  for value in biases(state).values():
    assert np.all(value != 0)
  # Replicated, and neither optimised nor averaged.
  for path, placed in jax.tree_util.tree_leaves_with_path(
    sharding.tree_shardings(state, mesh)
  ):
    name = jax.tree_util.keystr(path)
    if BIAS in name:
      assert "batch_stats" in name and placed.spec == jax.P()


def test_a_bad_step_leaves_the_bias(run):
  state, step = run
  state, _ = step(state, steps.batch())
  poisoned = steps.batch()
  poisoned["box"] = np.full((8, 4), np.nan, np.float32)
  new, metrics = step(state, poisoned)
  assert int(metrics["bad_steps"]) == 1
  jax.tree.map(np.testing.assert_array_equal, biases(new), biases(state))


def test_joint_selection_makes_k_experts_active():
  counts = [
    models.count_parameters(
      scheduled(experts=4, select=select, norm="group"), 3
    )
    for select in ("separate", "joint")
  ]
  assert counts[0][0] == counts[1][0]
  assert counts[0][1] == counts[0][0] > counts[1][1]


# --- config ------------------------------------------------------------------


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"gate": "expert_choice"}, "other images of its batch.*token_moe"),
    ({"gate": "soft"}, "other images of its batch; use noisy_top_k"),
    ({"gate_temperature": 0.0}, "gate_temperature=0.0: must be above 0"),
    ({"gate_noise": -1.0}, "gate_noise=-1.0: must be 0"),
    ({"gate_noise_schedule": "step"}, "one of constant, linear, cosine"),
    (
      {"gate_noise_schedule": "linear", "gate_noise_end": 2.0},
      "gate_noise_end=2.0: must be from 0 to model.gate_noise=1.0",
    ),
    ({"bias_rate": -0.1}, "bias_rate=-0.1: must be 0"),
    ({"select": "both"}, "one of separate, joint"),
    ({"select": "joint", "k": "2,1"}, "k='2,1'.*same k for every task"),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(errors.InputError, match=message) as error:
    scheduled(**options)
  assert "\n" not in str(error.value)
