"""Gates, towers and the box code on their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax.models.gates import Gate, GateOptions
from mtlmoe_jax.models.towers import (
  BoxTower,
  ClassTower,
  TowerOptions,
  cosine_logits,
  decode_box,
)
from tests.support.models import filled, jit

X = np.random.default_rng(0).normal(size=(6, 16, 16, 3)).astype(np.float32)


@pytest.mark.parametrize(
  ("kind", "losses"),
  [
    ("dense", ["importance", "balance", "z"]),
    ("noisy_top_k", ["importance", "load", "balance"]),
    ("top_k", ["importance", "load"]),
  ],
)
def test_balance_losses_reach_the_whole_gate(kind, losses):
  gate = Gate(GateOptions(kind, 4, 8, 1.0), 2)
  variables = filled(gate, X)

  def values(variables):
    key = {"gating": jax.random.key(0)}
    found = gate.apply(variables, X, True, rngs=key).losses
    return {name: found[name] for name in losses}

  for name, grads in jit(jax.jacrev(values))(variables).items():
    for layer in ("conv_0", "logits"):
      kernel = grads["params"][layer]["kernel"]
      assert np.all(np.isfinite(kernel)) and np.any(kernel != 0), name


def test_noise_needs_training_and_a_key():
  gate = Gate(GateOptions("noisy_top_k", 4, 8, 1.0), 2)
  variables = filled(gate, X)
  run = jit(gate.apply, static_argnums=2)
  key = [{"gating": jax.random.key(i)} for i in range(2)]
  plain = run(variables, X, False).weights
  np.testing.assert_array_equal(run(variables, X, True).weights, plain)
  quiet = run(variables, X, False, rngs=key[0]).weights
  np.testing.assert_array_equal(quiet, plain)
  noisy = [run(variables, X, True, rngs=k).weights for k in key]
  assert not np.allclose(noisy[0], plain)
  assert not np.allclose(noisy[0], noisy[1])


def test_a_new_gate_is_nearly_uniform_but_has_no_ties():
  gate = Gate(GateOptions("noisy_top_k", 4, 8, 1.0), 2)
  probs = jit(gate.init_with_output)(jax.random.key(0), X)[0].probs
  np.testing.assert_allclose(probs, 0.25, atol=0.1)
  assert all(len(set(row)) == 4 for row in np.asarray(probs).tolist())


def test_a_decision_does_not_depend_on_the_batch():
  gate = Gate(GateOptions("dense", 4, 8, 0.0), 4)
  variables = filled(gate, X)
  run = jit(gate.apply)
  other = np.concatenate([X[:1], 5 * X[1:][::-1]])
  np.testing.assert_allclose(
    run(variables, X).probs[0], run(variables, other).probs[0], rtol=1e-5
  )


@pytest.mark.parametrize("size", [64, 112, 150, 240, 600])
def test_gates_look_at_small_images(size):
  gate = Gate(GateOptions("dense", 4, 8, 0.0), 4)
  seen = {}

  def trace(x):
    _, state = gate.init_with_output(jax.random.key(0), x)
    _, state = gate.apply(state, x, capture_intermediates=True)
    seen.update(state["intermediates"])
    return x

  jax.eval_shape(trace, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
  side = seen["conv_0"]["__call__"][0].shape[1]
  assert min(size, 75) / 2 <= side <= 56


def test_uniform_has_no_parameters():
  gate = Gate(GateOptions("uniform", 4, 8, 1.0), 2)
  routing, variables = jit(gate.init_with_output)(jax.random.key(0), X)
  assert not variables
  np.testing.assert_array_equal(routing.weights, np.full((6, 4), 0.25))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-200, 200, width=32), min_size=4, max_size=4))
def test_any_four_numbers_are_a_box(raw):
  x1, y1, x2, y2 = np.asarray(decode_box(jnp.array(raw, jnp.float32)))
  assert -0.5 <= x1 <= x2 <= 1.5
  assert -0.5 <= y1 <= y2 <= 1.5


def test_decode_box_exactly():
  raw = jnp.log(jnp.array([0.5, 0.25, 0.4, 0.2]))
  raw -= jnp.log1p(-jnp.array([0.5, 0.25, 0.4, 0.2]))
  np.testing.assert_allclose(decode_box(raw), [0.3, 0.15, 0.7, 0.35], atol=1e-6)


def test_new_box_tower_starts_at_the_centre():
  x = np.random.default_rng(0).normal(size=(3, 4, 4, 8)).astype(np.float32)
  tower = BoxTower(TowerOptions(16, 0.2))
  init = jit(tower.init_with_output, static_argnums=2)
  box, _ = init(jax.random.key(0), x, False)
  np.testing.assert_allclose(box, [[0.2, 0.2, 0.8, 0.8]] * 3, atol=0.12)


def test_the_box_tower_knows_where_and_the_class_tower_does_not():
  x = np.zeros((2, 4, 4, 8), np.float32)
  x[0, 0, 1] = x[1, 3, 2] = 1.0
  box, label = (
    BoxTower(TowerOptions(16, 0.2)),
    ClassTower(5, TowerOptions(16, 0.2)),
  )
  boxes = box.apply(filled(box, x, False), x, False)
  logits = label.apply(filled(label, x, False), x, False)
  assert not np.allclose(boxes[0], boxes[1], atol=1e-3)
  np.testing.assert_allclose(logits[0], logits[1], rtol=1e-5)


def test_dropout_only_in_training():
  x = np.ones((2, 8), np.float32)
  tower = ClassTower(5, TowerOptions(16, 0.5))
  variables = filled(tower, x, False)
  plain = tower.apply(variables, x, False)
  np.testing.assert_allclose(plain[0], plain[1], rtol=1e-6)
  key = {"dropout": jax.random.key(0)}
  assert not np.allclose(tower.apply(variables, x, True, rngs=key), plain)


def test_cosine_logits_exactly():
  features = jnp.array([[3.0, 4.0], [-2.0, 0.0]])
  kernel = jnp.array([[1.0, 0.0, -3.0], [0.0, 2.0, -4.0]])
  expected = [[6.0, 8.0, -10.0], [-10.0, 0.0, 6.0]]
  np.testing.assert_allclose(
    cosine_logits(features, kernel, 10.0), expected, rtol=1e-6
  )


def test_cosine_logits_do_not_see_lengths():
  rng = np.random.default_rng(0)
  features, kernel = rng.normal(size=(3, 5)), rng.normal(size=(5, 4))
  plain = cosine_logits(features, kernel, 7.0)
  assert np.abs(plain).max() <= 7.0
  longer = cosine_logits(
    features * [[0.1], [1], [30]], kernel * [1, 2, 50, 0.2], 7.0
  )
  np.testing.assert_allclose(longer, plain, rtol=1e-5, atol=1e-6)
  for row in range(3):
    for column in range(4):
      f, w = features[row], kernel[:, column]
      cosine = f @ w / np.sqrt(f @ f) / np.sqrt(w @ w)
      np.testing.assert_allclose(plain[row, column], 7 * cosine, rtol=1e-5)


def test_cosine_logits_of_nothing_are_zero_with_a_finite_gradient():
  value, gradient = jax.value_and_grad(
    lambda f: jnp.sum(cosine_logits(f, jnp.eye(2), 10.0))
  )(jnp.zeros((1, 2)))
  assert value == 0 and np.isfinite(gradient).all()


def test_cosine_tower_has_a_scale_and_no_bias():
  x = np.random.default_rng(0).normal(size=(2, 4, 4, 8)).astype(np.float32)
  tower = ClassTower(5, TowerOptions(16, 0.2, "cosine"))
  init = jit(tower.init_with_output, static_argnums=2)
  logits, variables = init(jax.random.key(0), x, False)
  out = variables["params"]["out"]
  assert {k: v.shape for k, v in out.items()} == {
    "kernel": (16, 5),
    "log_scale": (),
  }
  hidden = variables["params"]["hidden"]
  features = x.mean((1, 2)) @ hidden["kernel"] + hidden["bias"]
  np.testing.assert_allclose(
    logits, cosine_logits(features, out["kernel"], 10.0), rtol=1e-5, atol=1e-5
  )
