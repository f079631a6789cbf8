"""Schedules of a gate's noise, and the steps of its bias."""

import jax
import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import models
from mtlmoe_jax.devices import sharding
from mtlmoe_jax.models.gates import BIAS
from mtlmoe_jax.training import checkpointing
from mtlmoe_jax.training import step as step_lib
from tests.support import steps, tiny


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
  checkpointer = checkpointing.Checkpointer(tmp_path)
  checkpointer.save(states[1], {}, {}, None)
  checkpointer.close()
  mesh = sharding.make_mesh()
  checkpointer = checkpointing.Checkpointer(tmp_path)
  state, _, _ = checkpointer.restore(
    1, checkpointing.abstract_state(states[0], mesh)
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
