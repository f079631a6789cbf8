"""One selection for several tasks, and the bias that moves a selection."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from mtlmoe_jax.errors import InputError
from mtlmoe_jax.moe import balancing, routing
from tests.support.draws import EXTREME, sample

KINDS = ["noisy_top_k", "top_k"]
STDS = (0.5, 0.8)


def scores(logits, noise=None, std=0.5, bias=None):
  noise = None if noise is None else jnp.asarray(noise)
  return routing.Scores(
    jnp.asarray(logits),
    noise,
    None if noise is None else jnp.broadcast_to(std, logits.shape),
    None if bias is None else jnp.asarray(bias, jnp.float32),
  )


joint = jax.jit(routing.joint_routing, static_argnums=(0, 2))
separate = jax.jit(routing.separate_routing, static_argnums=(0, 2))


def two(seed, shape=(6, 4), bias=(None, None)):
  """Scores of two tasks, with noise."""
  return [
    scores(sample(seed + i, shape), sample(seed + 7 + i, shape), std, b)
    for i, (std, b) in enumerate(zip(STDS, bias))
  ]


# --- joint selection ---------------------------------------------------------


@pytest.mark.parametrize("bias", [None, [0.5, 0, -0.5, 1]])
@pytest.mark.parametrize("kind", KINDS)
def test_joint_of_one_task_is_separate(kind, bias):
  alone = scores(sample(0), sample(1), 0.5, bias)
  (found,), expected = joint(kind, [alone], 2), separate(kind, alone, 2)
  np.testing.assert_array_equal(found.experts, expected.experts)
  for part in ("losses", "metrics"):
    for name, value in getattr(expected, part).items():
      np.testing.assert_allclose(
        getattr(found, part)[name], value, rtol=1e-5, err_msg=name
      )
  np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_joint_is_the_naive_one(kind):
  bias = np.array([0.3, -0.2, 0, 0.4]), np.array([0, 1, 0, -1])
  pair = two(0, bias=bias)
  noisy = [np.asarray(s.logits + s.noise * s.noise_std) for s in pair]
  mean = np.mean(
    [special.softmax(h + b, 1) for h, b in zip(noisy, bias)], axis=0
  )
  for found, s, h in zip(joint(kind, pair, 2), pair, noisy):
    for i in range(6):
      order = np.argsort(-mean[i], kind="stable")[:2]
      assert np.asarray(found.experts[i]).tolist() == order.tolist()
      expected = special.softmax(h[i])[order]
      if kind == "noisy_top_k":
        expected = special.softmax(h[i][order])
      np.testing.assert_allclose(found.weights[i], expected, rtol=1e-5)
    np.testing.assert_allclose(found.probs, special.softmax(s.logits, 1), 1e-5)
    first = np.bincount(np.asarray(found.experts)[:, 0], minlength=4) / 6
    mean_probs = np.mean(np.asarray(found.probs), axis=0)
    assert float(found.losses["balance"]) == pytest.approx(
      4 * np.sum(first * mean_probs), rel=1e-5
    )


def test_a_surer_gate_has_more_say():
  calm, sure = np.array([[0.5, 0, 0]], "f4"), np.array([[0, 0, 9]], "f4")
  found = joint("top_k", [scores(calm), scores(sure)], 1)
  assert [int(r.experts[0, 0]) for r in found] == [2, 2]


def test_dense_gates_keep_all_experts_each_in_its_own_order():
  found = joint("dense", [scores(sample(0)), scores(sample(1))], 4)
  for r, seed in zip(found, (0, 1)):
    np.testing.assert_allclose(
      routing.full_weights(r.experts, r.weights, 4),
      special.softmax(sample(seed), 1),
      rtol=1e-5,
    )


def test_the_shared_load_tracks_what_the_set_sends():
  shape = (2048, 8)
  pair = [
    scores(
      sample(i, shape, 1.0) + sample(5 + i, (8,), 1.0),
      sample(9 + i, shape, 1.0),
    )
    for i in range(2)
  ]

  @jax.jit
  def both(pair):
    free_and_noisy = [routing._noise_free_and_noisy(s) for s in pair]
    free, noisy, std = routing._mixture(pair, free_and_noisy)
    load = routing.smooth_load(free, noisy, std, 2, exclude_self=True)
    return load, routing.joint_routing("noisy_top_k", pair, 2)[0].experts

  load, experts = both(pair)
  count = np.bincount(np.asarray(experts).ravel(), minlength=8)
  assert float(load.sum()) == pytest.approx(4096, rel=0.03)
  assert np.corrcoef(load, count)[0, 1] > 0.98


@functools.partial(jax.jit, static_argnums=0)
def jacobian(kind, logits, noise):
  """d (first weights of both tasks, load) / d (logits of both tasks)."""

  def values(logits):
    found = routing.joint_routing(
      kind, [scores(x, n, s) for x, n, s in zip(logits, noise, STDS)], 2
    )
    first = [jnp.sum(r.weights[:, 0]) for r in found]
    others = [found[0].losses[n] for n in ("load", "importance", "balance")]
    return jnp.stack([*first, *others])

  return values(logits), jax.jacrev(values)(logits)


def test_the_shared_load_teaches_both_gates_by_its_slope():
  logits = np.stack([sample(0, scale=1.0), sample(1, scale=1.0)])
  noise = np.stack([sample(2, scale=1.0), sample(3, scale=1.0)])
  _, gradients = jacobian("noisy_top_k", logits, noise)
  for task in range(2):
    direction = np.zeros_like(logits)
    direction[task] = sample(8 + task)
    ahead, behind = (
      jacobian("noisy_top_k", logits + d * direction, noise)[0]
      for d in (1e-3, -1e-3)
    )
    slopes = np.sum(gradients * direction, axis=(1, 2, 3))
    np.testing.assert_allclose(
      slopes, (ahead - behind) / 2e-3, rtol=0.02, atol=5e-4
    )
    assert abs(slopes[2]) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_joint_padding_counts_nowhere(kind):
  valid = np.array([True, False, True, True, False, True])
  wild, keep = two(0), two(0)
  for s in range(2):
    logits = np.array(wild[s].logits)
    logits[~valid] *= -50
    wild[s] = scores(logits, wild[s].noise, STDS[s])
    keep[s] = scores(keep[s].logits[valid], keep[s].noise[valid], STDS[s])
  for padded, alone in zip(joint(kind, wild, 2, valid), joint(kind, keep, 2)):
    for part in ("losses", "metrics"):
      for name, value in getattr(alone, part).items():
        np.testing.assert_allclose(
          getattr(padded, part)[name], value, rtol=1e-4, err_msg=name
        )


def test_joint_k_out_of_range_is_named():
  with pytest.raises(InputError, match=r"k=5 .* 4"):
    routing.joint_routing("top_k", two(0), 5)


@settings(max_examples=20, deadline=None)
@given(
  st.integers(0, 10**6),
  st.permutations(range(4)),
  st.sampled_from(KINDS),
  st.booleans(),
)
def test_permuting_experts_permutes_the_joint_routing(seed, order, kind, swap):
  # The order of the tasks does not matter either.
  order = np.array(order)
  pair = two(seed, bias=(sample(seed + 20, (4,)), sample(seed + 21, (4,))))
  moved = [jax.tree.map(lambda x: x[..., order], s) for s in pair]
  plain = joint(kind, pair, 2)
  found = joint(kind, moved[::-1], 2)[::-1] if swap else joint(kind, moved, 2)
  for a, b in zip(plain, found):
    np.testing.assert_array_equal(order[b.experts], a.experts)
    np.testing.assert_allclose(b.weights, a.weights, rtol=1e-5)
    if kind == "noisy_top_k":
      np.testing.assert_allclose(a.weights.sum(1), 1, rtol=1e-5)
    for name, value in a.losses.items():
      assert float(b.losses[name]) == pytest.approx(
        float(value), rel=1e-3, abs=1e-5
      )


# --- edges, for every gate, joint and bias -----------------------------------


@functools.partial(jax.jit, static_argnums=(0, 1))
def value_and_gradient(kind, k, logits, noise, bias):
  """Both tasks' routings, joint and separate, and a gradient through all."""

  def total(logits):
    pair = [
      routing.Scores(x, n, jnp.float32(0.5), bias)
      for x, n in zip(logits, noise)
    ]
    found = [
      *routing.joint_routing(kind, pair, k),
      *(routing.separate_routing(kind, s, k) for s in pair),
    ]
    # The z-loss is left out: the gradient of its square is as large as the
    # logits.
    value = sum(jnp.sum(r.weights[:, 0]) for r in found)
    for r in found:
      value += sum(v for n, v in r.losses.items() if n != "z")
    return value, found

  return jax.value_and_grad(total, has_aux=True)(logits)


@pytest.mark.parametrize(
  "kind, k, shape",
  [
    *(("noisy_top_k", k, (6, 4)) for k in (1, 2, 4)),
    ("top_k", 2, (6, 4)),
    ("top_k", 4, (1, 4)),
    *((kind, 1, (6, 1)) for kind in KINDS),
    ("dense", 4, (6, 4)),
    ("dense", 1, (6, 1)),
  ],
)
def test_extremes(kind, k, shape):
  rows, columns = shape
  logits = np.stack([EXTREME, EXTREME[::-1, ::-1]])[:, :rows, :columns]
  noise = np.stack([sample(0), sample(1)])[:, :rows, :columns]
  bias = np.array([100, -100, 0, 1e30], "f4")[:columns]
  (_, found), gradient = value_and_gradient(kind, k, logits, noise, bias)
  assert np.isfinite(gradient).all()
  for r in found:
    for row in np.asarray(r.experts).tolist():
      assert len(set(row)) == k and 0 <= min(row) <= max(row) < columns
    for leaf in jax.tree.leaves(r):
      assert np.isfinite(leaf).all()


LARGE_OR_TIED = [
  [0.0],
  [-1e4],
  [-1e4, 1e4],
  [-1e4, 0.0, 1.0, 1e4],
  [1.0, np.nextafter(np.float32(1), 2)],
]


@settings(max_examples=25, deadline=None)
@given(
  st.integers(0, 10**6),
  st.sampled_from(LARGE_OR_TIED),
  st.sampled_from([(kind, k) for kind in KINDS for k in (1, 2, 4)]),
  st.booleans(),
)
def test_large_and_tied_logits(seed, values, gate, noisy):
  kind, k = gate
  draws = np.random.default_rng(seed)
  logits = draws.choice(np.array(values, np.float32), (2, 6, 4))
  noise = np.stack([sample(seed), sample(seed + 1)]) * noisy
  (_, found), gradient = value_and_gradient(kind, k, logits, noise, np.zeros(4))
  assert np.isfinite(gradient).all()
  for r in found:
    assert np.asarray(r.experts).shape == (6, k)
    assert all(len(set(row)) == k for row in np.asarray(r.experts).tolist())
    assert all(np.isfinite(v).all() for v in jax.tree.leaves(r))
    weights = np.asarray(r.weights)
    total = weights.sum(1)
    assert (weights >= 0).all() and (total <= 1 + 1e-5).all()
    if k == 4 or (k > 1 and kind == "noisy_top_k"):
      np.testing.assert_allclose(total, 1, rtol=1e-5)
  if not noisy:  # Equal logits go to the lower index.
    for r, x in zip(found[2:], logits):
      order = np.argsort(-x, axis=1, kind="stable")[:, :k]
      np.testing.assert_array_equal(r.experts, order)
  for x in logits:
    assert np.isfinite(z_slope(x)).all()


z_slope = jax.jit(jax.grad(routing.z_loss))


@pytest.mark.parametrize("exclude_self", [True, False])
def test_no_noise_left_is_a_load_of_counts(exclude_self):
  # The end of a schedule: noise is drawn, times 0.
  logits = sample(0)
  load = routing.smooth_load(
    logits, logits, jnp.zeros(()), 2, exclude_self=exclude_self
  )
  if exclude_self:
    _, experts = jax.lax.top_k(logits, 2)
    np.testing.assert_allclose(load, routing.hard_load(experts, 4), atol=1e-5)
  gradient = jax.grad(
    lambda s: jnp.sum(
      routing.smooth_load(logits, logits, s, 2, exclude_self=exclude_self) ** 2
    )
  )(jnp.zeros(()))
  assert np.isfinite(load).all() and np.isfinite(gradient)


# --- bias --------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_bias_selects_but_does_not_weigh(kind):
  logits, bias = sample(0), np.array([0, 3, -3, 0], "f4")
  found = separate(kind, scores(logits, bias=bias), 2)
  order = np.argsort(-(logits + bias), axis=1)[:, :2]
  np.testing.assert_array_equal(found.experts, order)
  assert not np.array_equal(order, np.argsort(-logits, axis=1)[:, :2])
  probs = np.take_along_axis(special.softmax(logits, 1), order, 1)
  if kind == "noisy_top_k":
    probs /= probs.sum(1, keepdims=True)
  np.testing.assert_allclose(found.weights, probs, rtol=1e-5)


def test_smooth_load_is_that_of_the_biased_selection():
  logits, noise, bias = sample(0), sample(1), np.array([0, 3, -3, 0], "f4")
  found = separate("noisy_top_k", scores(logits, noise, 0.5, bias), 2)
  noisy = logits + 0.5 * noise
  load = routing.smooth_load(
    logits + bias, noisy + bias, 0.5, 2, exclude_self=True
  )
  assert float(found.losses["load"]) == pytest.approx(
    float(routing.cv_squared(load)), rel=1e-5
  )


def test_bias_is_a_constant():
  def total(bias):
    s = routing.Scores(sample(0), sample(1), jnp.float32(0.5), bias)
    return sum(routing.separate_routing("noisy_top_k", s, 2).losses.values())

  assert not np.any(jax.grad(total)(jnp.ones(4)))


def test_update_of_the_bias_exactly():
  experts = jnp.array([[0, 1], [0, 2], [0, 1], [3, 0]])  # loads 4, 2, 1, 1
  bias = jnp.array([0.5, 0.0, -0.5, 0.0])
  np.testing.assert_allclose(
    balancing.update_bias(bias, experts, 0.1), [0.4, 0.0, -0.4, 0.1], rtol=1e-6
  )
  # Without the last two rows: loads 2, 1, 1, 0.
  valid = jnp.array([True, True, False, False])
  np.testing.assert_allclose(
    balancing.update_bias(bias, experts, 0.1, valid),
    [0.4, 0.0, -0.5, 0.1],
    rtol=1e-6,
  )
  nothing = balancing.update_bias(bias, experts, 0.1, jnp.zeros(4, bool))
  np.testing.assert_array_equal(nothing, bias)


@pytest.mark.parametrize("select", ["separate", "joint"])
def test_bias_evens_out_a_skewed_gate(select):
  tasks = 2 if select == "joint" else 1
  skew = np.array([2, 1, 0, 0, -1, -1], "f4")
  draws = np.random.default_rng(0).normal(size=(400, tasks, 64, 6))
  logits = (draws + skew).astype("f4")

  @jax.jit
  def run(bias, rate):
    def step(bias, logits):
      pair = [routing.Scores(x, bias=bias) for x in logits]
      found = routing.joint_routing("top_k", pair, 2)
      if select == "separate":
        found = [routing.separate_routing("top_k", pair[0], 2)]
      new = balancing.update_bias(bias, found[0].experts, rate)
      return new, found[0].metrics["cv_load"]

    return jax.lax.scan(step, bias, logits)

  _, skewed = run(jnp.zeros(6), 0.0)
  bias, even = run(jnp.zeros(6), 0.02)
  assert np.mean(skewed[-100:]) > 0.6
  # What is left is mostly the chance of 64 draws.
  assert np.mean(even[-100:]) < 0.25
  assert bias[0] < bias[2] < bias[5]
