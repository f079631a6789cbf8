import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax.errors import InputError
from mtlmoe_jax.moe import buffers, everyone
from tests.support.draws import choices, draw
from tests.support.jaxprs import all_eqns
from tests.support.plans import check_plan, make_plan

SHAPES = st.sampled_from(
  [
    # B, N, ks, capacity
    (5, 4, (2,), None),
    (7, 3, (1, 2), 3),
    (6, 5, (2, 2), 2),
    (4, 2, (2, 1), 1),
    (3, 1, (1, 1), None),
  ]
)
seeds = st.integers(0, 10**6)


@settings(max_examples=25, deadline=None)
@given(seeds, SHAPES, st.booleans())
def test_plan_is_the_naive_one(seed, shape, padded):
  batch, num_experts, ks, capacity = shape
  experts = [choices(seed + i, batch, num_experts, k) for i, k in enumerate(ks)]
  valid = np.ones(batch, bool)
  if padded:
    valid = np.random.default_rng(seed).random(batch) < 0.6
  plan = make_plan(experts, num_experts, capacity, valid)
  slots = batch if capacity is None else min(capacity, batch)
  check_plan(plan, experts, num_experts, slots, valid)


def test_published_priority():
  # Gates [[.4, 0, .2], [.5, .1, .4], [.3, .2, .6]], k = 2, two slots: image 1
  # loses expert 2 and image 2 loses expert 0 (V-MoE's vanilla order).
  gates = jnp.array([[0.4, 0, 0.2], [0.5, 0.1, 0.4], [0.3, 0.2, 0.6]])
  plan = make_plan([jax.lax.top_k(gates, 2)[1]], 3, 2)
  np.testing.assert_array_equal(
    plan.kept[0], [[True, True], [True, False], [True, False]]
  )
  assert float(plan.dropped[0]) == pytest.approx(1 / 3)
  np.testing.assert_array_equal(plan.images[2], [2, 0])
  assert not plan.mask[1].any()


def test_first_choices_of_every_task_come_before_second_ones():
  tasks = [jnp.array([[1, 0], [1, 0]]), jnp.array([[2, 1], [0, 2]])]
  plan = make_plan(tasks, 3, 1)
  # Expert 0: image 1 (first choice of task 1), not image 0 (second choice).
  assert plan.images[0, 0] == 1
  np.testing.assert_array_equal(plan.kept[0], [[True, False], [False, True]])
  np.testing.assert_array_equal(plan.kept[1], [[True, True], [True, False]])


def test_tasks_share_slots():
  same = choices(0, 8, 4, 2)
  assert int(make_plan([same, same], 4).mask.sum()) == 16
  apart = [np.full((8, 1), 0, "i4"), np.full((8, 1), 3, "i4")]
  plan = make_plan(apart, 4)
  np.testing.assert_array_equal(plan.mask.sum(1), [8, 0, 0, 8])


def test_without_capacity_nothing_is_dropped():
  experts = np.zeros((6, 1), "i4")  # all want one expert
  plan = make_plan([experts], 4)
  assert plan.kept[0].all() and plan.dropped[0] == 0
  assert plan.images.shape == (4, 6)
  assert make_plan([experts], 4, 100).images.shape == (4, 6)


@pytest.mark.parametrize(
  "args, expected",
  [
    ((16, [2], 8, 2.0), 8),
    ((16, [2], 8, 1.25), 5),
    ((16, [2, 2], 8, 1.0), 8),
    ((10, [1], 1, 1.1), 10),  # never above B
    ((30, [1], 3, 1.1), 11),  # 1.1 * 30 / 3 is 11.000000000000002
    ((16, [2], 3, 1.0), 11),
    ((4, [1], 64, 0.1), 1),
    ((16, [2, 1], 6, 0), 16),
  ],
)
def test_capacity(args, expected):
  assert buffers.capacity(*args) == expected


def test_bad_input_is_named():
  with pytest.raises(InputError, match="capacity factor -1"):
    buffers.capacity(4, [1], 2, -1)
  with pytest.raises(InputError, match="capacity=0"):
    buffers.make_plan([np.zeros((2, 1), "i4")], 2, 0)
  with pytest.raises(InputError, match="experts_per_task"):
    buffers.make_plan([], 2)


def experts_apply(params, x):
  """N toy experts on [N, S, ...]; zero input does not give zero output."""
  kernel, bias = params
  wide = (1,) * (x.ndim - 2)
  hidden = jnp.einsum("ns...c,ncd->ns...d", x, kernel)
  return jnp.tanh(hidden + bias.reshape(bias.shape[0], *wide, bias.shape[1]))


def sparse(params, x, weights, experts, capacity=None, valid=None):
  plan = buffers.make_plan(experts, params[0].shape[0], capacity, valid)
  outputs = experts_apply(params, plan.dispatch(x))
  return [plan.combine(outputs, t, w) for t, w in enumerate(weights)]


def dense(params, x, weights, experts):
  num = params[0].shape[0]
  outputs = experts_apply(params, jnp.broadcast_to(x, (num, *x.shape)))
  return [
    everyone.combine_dense(outputs, e, w) for e, w in zip(experts, weights)
  ]


@functools.partial(jax.jit, static_argnames="how")
def value_and_grads(how, params, x, weights, experts, targets):
  def loss(params, x, weights):
    outputs = how(params, x, weights, experts)
    return sum(jnp.vdot(o, t) for o, t in zip(outputs, targets)), outputs

  return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(
    params, x, weights
  )


def inputs(seed, batch, num_experts, ks, inner=(), channels=3, width=4):
  params = (
    draw(seed, (num_experts, channels, width)),
    draw(seed + 1, (num_experts, width)),
  )
  x = draw(seed + 2, (batch, *inner, channels))
  experts = [choices(seed + i, batch, num_experts, k) for i, k in enumerate(ks)]
  weights = [draw(seed + 3 + i, (batch, k)) for i, k in enumerate(ks)]
  targets = [draw(seed + 9 + i, (batch, *inner, width)) for i in range(len(ks))]
  return params, x, weights, experts, targets


@settings(max_examples=20, deadline=None)
@given(
  seeds,
  st.sampled_from(
    [
      (5, 4, (2,), ()),
      (6, 3, (1, 2), ()),
      (4, 4, (4, 2), (2, 3)),
      (3, 1, (1,), (2,)),
    ]
  ),
)
def test_sparse_equals_dense_in_values_and_gradients(seed, shape):
  args = inputs(seed, *shape)
  (_, outputs), grads = value_and_grads(sparse, *args)
  (_, expected), expected_grads = value_and_grads(dense, *args)
  for found, other in zip(outputs, expected):
    np.testing.assert_allclose(found, other, atol=1e-5, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4),
    grads,
    expected_grads,
  )


def test_combine_is_the_naive_sum():
  params, x, weights, experts, _ = inputs(0, 5, 4, (2, 3), (2, 2))
  found = jax.jit(sparse)(params, x, weights, experts)
  for task in range(2):
    for b in range(5):
      expected = sum(
        w * np.tanh(x[b] @ params[0][e] + params[1][e])
        for w, e in zip(weights[task][b], experts[task][b])
      )
      np.testing.assert_allclose(found[task][b], expected, atol=1e-5)


def test_dropped_choices_add_nothing_and_get_no_gradient():
  params, x, weights, _, targets = inputs(0, 4, 3, (2,))
  experts = [np.array([[0, 1], [0, 2], [0, 1], [1, 2]], "i4")]
  how = functools.partial(sparse, capacity=1)
  (_, (found,)), (_, grad_x, (grad_w,)) = value_and_grads(
    how, params, x, weights, experts, targets
  )
  # First choices: image 0 has expert 0 and image 3 has expert 1; then image 1
  # gets expert 2. Image 2 finds both of its experts full.
  kept = np.array([[1, 0], [0, 1], [0, 0], [1, 0]], bool)
  for b in range(4):
    expected = sum(
      w * np.tanh(x[b] @ params[0][e] + params[1][e])
      for w, e, k in zip(weights[0][b], experts[0][b], kept[b])
      if k
    )
    np.testing.assert_allclose(found[b], expected, atol=1e-5)
  np.testing.assert_array_equal(np.asarray(grad_w) != 0, kept)
  np.testing.assert_array_equal(np.any(grad_x, axis=1), kept.any(axis=1))


def test_padding_takes_no_slot_and_gives_zero():
  params, x, weights, _, _ = inputs(0, 4, 2, (1,))
  experts = [np.zeros((4, 1), "i4")]
  valid = np.array([False, True, False, True])
  x[~valid] = np.nan
  found = jax.jit(sparse, static_argnames="capacity")(
    params, x, weights, experts, capacity=2, valid=valid
  )[0]
  assert not np.any(found[~valid])
  expected = weights[0] * np.tanh(x @ params[0][0] + params[1][0])
  np.testing.assert_allclose(found[valid], expected[valid], atol=1e-5)


def test_empty_slots_are_zero_and_their_outputs_unused():
  x = draw(0, (3, 2)) + 10
  plan = make_plan([np.array([[0], [0], [1]], "i4")], 3, None)
  slots = np.asarray(plan.dispatch(x))
  assert not slots[~np.asarray(plan.mask)].any()
  np.testing.assert_array_equal(slots[0, :2], x[:2])
  outputs = np.where(np.asarray(plan.mask)[..., None], slots, np.nan)
  combined = plan.combine(jnp.asarray(outputs), 0, jnp.ones((3, 1)))
  np.testing.assert_allclose(combined, x)


def test_one_expert_is_the_single_model():
  params, x, _, _, _ = inputs(0, 4, 1, (1,))
  experts, weights = [np.zeros((4, 1), "i4")], [np.ones((4, 1), "f4")]
  expected = np.tanh(x @ params[0][0] + params[1][0])
  for how in (sparse, dense):
    found = jax.jit(how)(params, x, weights, experts)[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_no_array_grows_with_batch_experts_and_slots():
  batch, num_experts, k, width = 64, 8, 2, 1
  experts = [choices(0, batch, num_experts, k)]

  def run(x, weights):
    plan = buffers.make_plan(experts, num_experts, 32)
    outputs = plan.dispatch(x)
    return plan.combine(outputs, 0, weights).sum()

  jaxpr = jax.make_jaxpr(jax.grad(run, argnums=(0, 1)))(
    draw(0, (batch, width)), draw(1, (batch, k))
  )
  largest = max(v.aval.size for e in all_eqns(jaxpr.jaxpr) for v in e.outvars)
  # [B, N, S] would be 16384 and [B, K, N] is 1024.
  assert largest <= batch * k * num_experts
