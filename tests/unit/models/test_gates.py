"""Temperature, noise and bias of gates."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtlmoe_jax.models.gates import BIAS, Gate, GateOptions, route
from tests.support.models import filled, jit

X = np.random.default_rng(0).normal(size=(6, 16, 16, 3)).astype(np.float32)
KEY = {"gating": jax.random.key(0)}


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
