"""Gradients of tasks without what conflicts."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax.ops import losses
from tests.support import naive

seeds = st.integers(0, 2**16)


def as_tree(row):
  return {"a": row[:4].reshape(2, 2), "b": {"c": row[4:]}}


surgery = jax.jit(losses.gradient_surgery)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 4), st.integers(0, 2))
def test_gradient_surgery_is_the_naive_loop(seed, tasks, zeros):
  rows = np.random.default_rng(seed).normal(size=(tasks, 7))
  rows[: min(zeros, tasks - 1)] = 0
  found = surgery([as_tree(r.astype(np.float32)) for r in rows])
  np.testing.assert_allclose(
    np.concatenate([found["a"].ravel(), found["b"]["c"]]),
    naive.gradient_surgery(rows),
    rtol=1e-4,
    atol=1e-4,
  )


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0.01, 100))
def test_of_two_tasks_nothing_goes_against_either(seed, scale):
  one, other = np.random.default_rng(seed).normal(size=(2, 7)).astype("f4")
  other *= np.float32(scale)
  found = surgery([as_tree(one), as_tree(other)])
  found = np.concatenate([found["a"].ravel(), found["b"]["c"]])
  length = np.linalg.norm(found)
  for own in (one, other):
    assert found @ own >= -1e-5 * length * np.linalg.norm(own)
  if one @ other >= 0:
    np.testing.assert_allclose(found, one + other, rtol=1e-6, atol=1e-6)
  cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
  np.testing.assert_allclose(
    losses.cosine(as_tree(one), as_tree(other)), cosine, atol=1e-5
  )


def test_gradients_that_vanish_are_safe():
  tiny_one, zero = jnp.full(3, 1e-30), jnp.zeros(3)
  for pair in ((zero, zero), (zero, jnp.ones(3)), (tiny_one, -jnp.ones(3))):
    found = surgery([{"x": v} for v in pair])["x"]
    np.testing.assert_allclose(found, pair[0] + pair[1])
    assert np.isfinite(losses.cosine(*pair))
  assert losses.cosine(zero, jnp.ones(3)) == 0
  # Opposite ones leave nothing.
  np.testing.assert_array_equal(surgery([jnp.ones(3), -jnp.ones(3)]), zero)
  assert float(losses.cosine({}, {})) == 0
