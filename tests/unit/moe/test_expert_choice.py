"""Plans for tokens, expert choice and Soft MoE, against loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from mtlmoe_jax.errors import InputError
from mtlmoe_jax.moe import expert_choice as tokens
from mtlmoe_jax.moe import token_buffers
from tests.support.draws import EXTREME, choices, draw
from tests.support.plans import check_plan, make_plan

plan_of = jax.jit(
  token_buffers.make_token_plan, static_argnames=("num_experts", "capacity")
)
choose = jax.jit(tokens.expert_choice_routing, static_argnums=1)
soft = jax.jit(tokens.soft_routing)
seeds = st.integers(0, 10**6)


# --- plan --------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
  seeds,
  st.sampled_from([(9, 4, 2, 3), (7, 3, 3, 2), (6, 1, 1, None), (1, 4, 2, 1)]),
  st.sampled_from([0.0, 0.6, 1.0]),
)
def test_token_plan_is_make_plan(seed, shape, share):
  count, num_experts, k, capacity = shape
  experts = choices(seed, count, num_experts, k)
  valid = np.random.default_rng(seed).random(count) < share
  found = plan_of(experts, num_experts, capacity, valid)
  expected = make_plan([experts], num_experts, capacity, valid)
  check_plan(found, [experts], num_experts, found.mask.shape[1], valid)
  np.testing.assert_array_equal(found.mask, expected.mask)
  np.testing.assert_array_equal(
    np.where(found.mask, found.images, -1),
    np.where(found.mask, expected.images, -1),
  )
  np.testing.assert_array_equal(found.kept[0], expected.kept[0])
  np.testing.assert_array_equal(
    np.where(found.kept[0], found.slots[0], -1),
    np.where(found.kept[0], expected.slots[0], -1),
  )
  assert found.dropped[0] == expected.dropped[0]
  assert np.min(found.images) >= 0 and np.max(found.images) < count
  assert np.all(found.slots[0] >= 0)
  assert np.all(found.slots[0] < found.mask.shape[1])


def test_batch_priority_vector():
  # The order of the tokens drops image 1's second choice, the priority of the
  # largest weight image 0's (V-MoE).
  gates = jnp.array([[0.4, 0, 0.2], [0.5, 0.1, 0.4], [0.3, 0.2, 0.6]])
  weights, experts = jax.lax.top_k(gates, 2)
  plain = plan_of(experts, 3, 2)
  np.testing.assert_array_equal(plain.kept[0], [[1, 1], [1, 0], [1, 0]])
  first = plan_of(experts, 3, 2, None, weights[:, 0])
  np.testing.assert_array_equal(first.kept[0], [[1, 0], [1, 1], [1, 0]])
  np.testing.assert_array_equal(first.images[2], [2, 1])
  x = draw(0, (3, 5))
  slots = first.dispatch(x)
  found = first.combine(slots, 0, weights)
  kept = np.sum(np.where(first.kept[0], weights, 0), axis=1, keepdims=True)
  np.testing.assert_allclose(found, x * kept, rtol=1e-6)


def test_no_slot_is_named():
  with pytest.raises(InputError, match="capacity=0"):
    token_buffers.make_token_plan(choices(0, 4, 2, 1), 2, 0)


# --- expert choice -----------------------------------------------------------


def test_expert_choice_by_hand():
  logits = np.log(
    [[[0.7, 0.3], [0.6, 0.4], [0.9, 0.1], [0.2, 0.8]]], dtype="f4"
  )
  found = choose(logits, 2)
  np.testing.assert_array_equal(found.tokens, [[[2, 0], [3, 1]]])
  np.testing.assert_allclose(
    found.weights, [[[0.9, 0.7], [0.8, 0.4]]], rtol=1e-6
  )
  metrics = {k: float(v) for k, v in found.metrics.items()}
  assert metrics["dropped"] == 0 and metrics["cv_load"] == 0
  assert metrics["max_load"] == 1
  assert metrics["cv_importance"] == pytest.approx(0.2 / 1.4, rel=1e-5)
  assert float(choose(logits, 1).metrics["dropped"]) == 0.5


@functools.partial(jax.jit, static_argnums=2)
def through_choice(x, logits, capacity, valid, scale):
  """Experts that multiply by their own vector; and the gradients."""

  def total(x, logits, scale):
    choice = tokens.expert_choice_routing(logits, capacity, valid)
    slots = tokens.gather_chosen(x, choice) * scale[:, None]
    y = tokens.combine_chosen(slots, choice, x.shape[1])
    return jnp.sum(jnp.sin(y) * valid[..., None]), (y, choice)

  return jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)(
    x, logits, scale
  )


def naive_choice(x, logits, capacity, valid, scale):
  y = np.zeros_like(x)
  lost = 0
  for g in range(len(x)):
    probs, served = special.softmax(logits[g], 1), set()
    for n in range(logits.shape[2]):
      able = np.flatnonzero(valid[g])
      for m in able[np.argsort(-probs[able, n], kind="stable")][:capacity]:
        y[g, m] += probs[m, n] * x[g, m] * scale[n]
        served.add(m)
    lost += valid[g].sum() - len(served)
  return y, lost / valid.sum()


def test_expert_choice_is_the_naive_one_with_gradients():
  x, logits, scale = draw(0, (2, 5, 4)), draw(1, (2, 5, 3)), draw(2, (3, 4))
  valid = np.ones((2, 5), bool)
  valid[1, 1:4] = False  # Fewer tokens than slots.
  (_, (y, choice)), gradients = through_choice(x, logits, 3, valid, scale)
  expected, lost = naive_choice(x, logits, 3, valid, scale)
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
  assert float(choice.metrics["dropped"]) == pytest.approx(lost)
  rng = np.random.default_rng(3)
  inputs = [x, logits, scale]
  for i, gradient in enumerate(gradients):
    direction = rng.normal(size=inputs[i].shape)
    values = []
    for sign in (1, -1):
      moved = [v.astype("f8") for v in inputs]
      moved[i] = moved[i] + sign * 1e-5 * direction
      y, _ = naive_choice(moved[0], moved[1], 3, valid, moved[2])
      values.append(np.sum(np.sin(y)[valid]))
    slope = (values[0] - values[1]) / 2e-5
    assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-3)
    assert abs(slope) > 1e-2


@pytest.mark.parametrize("capacity", [0, 5])
def test_tokens_out_of_range_are_named(capacity):
  with pytest.raises(InputError, match=f"capacity={capacity} .* 4"):
    tokens.expert_choice_routing(jnp.zeros((1, 4, 2)), capacity)


# --- Soft MoE ----------------------------------------------------------------


def test_soft_is_the_naive_one():
  logits, valid = draw(0, (2, 5, 3, 2)), np.ones((2, 5), bool)
  valid[0, 3:] = False
  logits[0, 3:] = 1e9  # Padding is in no slot, whatever its logits.
  x, scale = draw(1, (2, 5, 4)), draw(2, (3, 4))
  found = soft(logits, valid)
  outputs = tokens.mix_in(x, found) * scale[:, None]
  y = tokens.mix_out(outputs, found)
  for g in range(2):
    rows = np.flatnonzero(valid[g])
    flat = logits[g, rows].reshape(len(rows), 6)
    slots = special.softmax(flat, axis=0).T @ x[g, rows]
    slots *= np.repeat(scale, 2, axis=0)
    np.testing.assert_allclose(
      y[g, rows], special.softmax(flat, axis=1) @ slots, rtol=1e-4, atol=1e-5
    )
  np.testing.assert_allclose(found.dispatch.sum(1), 1, rtol=1e-5)
  np.testing.assert_allclose(found.combine.sum((2, 3)), 1, rtol=1e-5)
  assert float(found.metrics["dropped"]) == 0
  share = np.asarray(found.combine).sum(3)[valid]
  entropy = np.mean(special.entr(share).sum(1))
  assert float(found.metrics["entropy"]) == pytest.approx(entropy, rel=1e-4)


# --- both --------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(seeds, st.permutations(range(3)))
def test_images_do_not_see_each_other_and_experts_have_no_order(seed, order):
  order = np.array(order)
  logits, other = draw(seed, (2, 5, 3)), draw(seed + 1, (2, 5, 3))
  other[0] = logits[0]
  a, b = choose(logits, 2), choose(other, 2)
  np.testing.assert_array_equal(a.tokens[0], b.tokens[0])
  np.testing.assert_array_equal(a.weights[0], b.weights[0])
  moved = choose(logits[..., order], 2)
  np.testing.assert_array_equal(moved.tokens, a.tokens[:, order])
  np.testing.assert_allclose(moved.weights, a.weights[:, order], rtol=1e-5)
  a, b = soft(logits[..., None]), soft(other[..., None])
  np.testing.assert_array_equal(a.dispatch[0], b.dispatch[0])
  np.testing.assert_array_equal(a.combine[0], b.combine[0])
  moved = soft(logits[:, :, order, None])
  for name in ("dispatch", "combine"):
    np.testing.assert_allclose(
      getattr(moved, name), getattr(a, name)[:, :, order], rtol=1e-5
    )


@pytest.mark.parametrize("columns", [4, 1])
def test_extreme_logits(columns):
  logits = EXTREME[None, :, :columns]
  for valid in (np.ones((1, 6), bool), np.zeros((1, 6), bool)):

    def total(logits, valid=valid):
      choice = tokens.expert_choice_routing(logits, 2, valid)
      routed = tokens.soft_routing(logits[..., None], valid)
      value = jnp.sum(choice.weights) + jnp.sum(routed.dispatch[:, 0])
      return value + jnp.sum(routed.combine[..., 0, 0]), (choice, routed)

    (_, found), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(
      logits
    )
    assert np.isfinite(gradient).all()
    for leaf in jax.tree.leaves(found):
      assert np.isfinite(leaf).all()
    for row in np.asarray(found[0].tokens[0]).tolist():
      assert len(set(row)) == 2
    if columns == 1:
      for routed in found:
        assert all(float(v) == 0 for v in routed.losses.values())
