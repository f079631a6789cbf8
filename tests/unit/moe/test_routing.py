import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mtlmoe_jax.errors import InputError
from mtlmoe_jax.moe import routing
from tests.support.draws import EXTREME, sample

LOGITS = np.array(
  [[0.9, 0.06, 0.04], [0.7, 0.18, 0.12], [0.85, 0.05, 0.1]], np.float32
)
NOISE = np.array(
  [
    [-0.037, 0.026, -0.018],
    [-0.074, 0.045, -0.015],
    [-0.067, -0.059, 0.073],
  ],
  np.float32,
)
STD = 0.1

smooth_load = jax.jit(
  routing.smooth_load, static_argnames=("k", "exclude_self")
)

GATES = ["noisy_top_k", "top_k", "dense"]


@functools.partial(jax.jit, static_argnames=("name", "k"))
def _route(name, k, logits, noise, valid, std):
  if name == "dense":
    return routing.dense_routing(logits, valid)
  if name == "top_k":
    return routing.top_k_routing(logits, k, noise, valid=valid)
  return routing.noisy_top_k_routing(logits, k, std, noise, valid)


def route(name, logits, k=2, noise=None, valid=None, std=0.5):
  """Any gate by name, compiled once per k; noise is standard normal."""
  logits = jnp.asarray(logits)
  valid = jnp.ones(len(logits), bool) if valid is None else valid
  k = None if name == "dense" else k
  noise = None if name == "dense" or noise is None else jnp.asarray(noise)
  return _route(
    name, k, logits, noise, valid, jnp.broadcast_to(std, logits.shape)
  )


# --- published values --------------------------------------------------------


def test_gshard_balance_and_importance_vector():
  gates = jnp.array(
    [[0.5, 0.4, 0.1], [0.3, 0.3, 0.4], [0.1, 0.2, 0.7], [0.8, 0.2, 0.0]]
  )
  first = jnp.argmax(gates, axis=1)[:, None]
  assert float(routing.balance_loss(gates, first)) == pytest.approx(1.0875)
  assert float(routing.importance_loss(gates)) == pytest.approx(0.03875)


def test_shazeer_load_vector():
  load = smooth_load(LOGITS, LOGITS + NOISE, STD, 2, exclude_self=True)
  np.testing.assert_allclose(load, [3.0, 1.530748, 1.331761], atol=2e-6)
  assert float(routing.cv_squared(load)) == pytest.approx(0.144936, abs=1e-6)


def test_vmoe_load_vector():
  load = smooth_load(LOGITS, LOGITS + NOISE, STD, 2, exclude_self=False)
  assert float(routing.cv_squared(load)) == pytest.approx(0.485739, abs=2e-6)


def test_noisy_top_k_vector():
  found = route("noisy_top_k", LOGITS, 2, NOISE / STD, std=STD)
  gates = np.asarray(routing.full_weights(found.experts, found.weights, 3))
  expected = [
    [0.685033, 0.314967, 0],
    [0.598928, 0.401072, 0],
    [0.647941, 0, 0.352059],
  ]
  np.testing.assert_allclose(gates, expected, atol=2e-6)
  assert float(found.losses["load"]) == pytest.approx(0.144936, abs=2e-6)
  expected = np.var(np.sum(gates, 0)) / np.mean(np.sum(gates, 0)) ** 2
  assert float(found.losses["importance"]) == pytest.approx(expected, rel=1e-5)


def test_top_k_uses_the_vmoe_load_with_noise_of_one_over_n():
  found = route("top_k", LOGITS, 2, NOISE * 3)
  expected = smooth_load(LOGITS, LOGITS + NOISE, 1 / 3, 2, exclude_self=False)
  assert float(found.losses["load"]) == pytest.approx(
    float(routing.cv_squared(expected)), rel=1e-5
  )


def test_switch_balance_of_transformers():
  probs = jnp.array(
    [
      [0.35490513, 0.60419905],
      [0.4275843, 0.23061597],
      [0.32985854, 0.43953657],
      [0.25099766, 0.27730572],
      [0.7678207, 0.71474564],
    ]
  )
  loss = routing.balance_loss(probs, jnp.array([[0], [1], [1], [0], [0]]))
  assert float(loss) == pytest.approx(0.8741045, abs=1e-6)


def test_z_loss_of_transformers():
  logits = jnp.array(
    [
      [-4.2124424, 3.891939, -3.6481273, 1.8849981],
      [0.32625437, 2.918651, 0.84758997, -4.556842],
      [-3.32062, 4.6977115, -0.15439987, 0.44086337],
      [3.4467149, 4.3436565, -4.7224274, -4.264637],
      [-2.224406, -2.5318158, -1.3832569, 1.1891162],
      [-2.320062, -0.44705987, 4.289819, -0.00662684],
      [0.99470854, -0.6992364, 0.25503993, 4.2952085],
      [3.5937333, -3.2408535, -4.298278, 4.426601],
      [0.7669008, 2.6588762, 2.4505413, 4.6051874],
      [0.23330331, -3.0845237, 0.6262374, -2.9865491],
      [0.7595146, -2.1099675, -4.155346, -2.8326452],
      [2.3771453, 1.004138, -3.1781673, 0.7581556],
    ]
  )
  assert float(routing.z_loss(logits)) == pytest.approx(13.786719, abs=1e-5)


# --- definitions against naive ones ------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("exclude_self", [True, False])
def test_smooth_load_is_the_naive_one(k, exclude_self):
  logits, std = sample(1), np.abs(sample(2)) + 0.1
  noisy = logits + sample(3) * std
  expected = np.zeros(4)
  for row, h, s in zip(logits, noisy, std):
    for i in range(4):
      others = np.delete(h, i) if exclude_self else h
      threshold = np.sort(others)[::-1][k - 1]
      expected[i] += stats.norm.cdf((row[i] - threshold) / s[i])
  found = smooth_load(logits, noisy, std, k, exclude_self=exclude_self)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_smooth_load_tracks_the_load():
  # Thresholds of softmaxed gates against raw logits, a known public mistake,
  # give a sum far from B k and loads that say little of the real ones.
  logits = sample(0, (4096, 8), 1.0) + sample(1, (8,), 1.0)
  noisy = logits + sample(2, (4096, 8), 1.0)
  load = smooth_load(logits, noisy, 1.0, 2, exclude_self=True)
  count = np.bincount(np.argsort(-noisy, axis=1)[:, :2].ravel(), minlength=8)
  assert float(load.sum()) == pytest.approx(8192, rel=0.02)
  assert np.corrcoef(load, count)[0, 1] > 0.98


def test_softmax_topk_renormalise_is_topk_softmax():
  logits = sample(4)
  found = route("noisy_top_k", logits, 2)
  probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  best = -np.sort(-probs, axis=1)[:, :2]
  np.testing.assert_allclose(
    found.weights, best / best.sum(1, keepdims=True), rtol=1e-5
  )
  np.testing.assert_allclose(found.probs, probs, rtol=1e-5)


def test_top_k_is_not_renormalised():
  logits = sample(4)
  found = route("top_k", logits, 2)
  best = -np.sort(-np.asarray(jax.nn.softmax(logits)), axis=1)[:, :2]
  np.testing.assert_allclose(found.weights, best, rtol=1e-6)


def test_dense_is_the_softmax_best_first():
  logits = sample(5)
  found = route("dense", logits, None)
  np.testing.assert_allclose(
    routing.full_weights(found.experts, found.weights, 4),
    jax.nn.softmax(logits),
    rtol=1e-6,
  )
  assert (np.diff(found.weights, axis=1) <= 0).all()
  assert float(found.losses["load"]) == 0
  assert float(found.losses["importance"]) == pytest.approx(
    float(routing.importance_loss(jax.nn.softmax(logits))), rel=1e-5
  )


def test_uniform_is_one_over_n_without_losses():
  found = jax.jit(routing.uniform_routing, static_argnums=(0, 1))(5, 4)
  assert found.experts.shape == found.weights.shape == (5, 4)
  np.testing.assert_array_equal(found.experts, np.tile(np.arange(4), (5, 1)))
  np.testing.assert_array_equal(found.weights, np.full((5, 4), 0.25, "f4"))
  assert all(float(v) == 0 for v in found.losses.values())
  assert float(found.metrics["effective_experts"]) == pytest.approx(4)


def test_metrics_by_hand():
  # Two images prefer expert 0, one expert 1; k = 1.
  probs = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], "f4")
  metrics = route("noisy_top_k", np.log(probs), 1).metrics
  entropy = lambda p: -np.sum(p * np.log(p), axis=-1)  # noqa: E731
  load, received = np.array([2, 1, 0]), np.array([1.3, 0.8, 0])
  expected = {
    "entropy": entropy(probs).mean(),
    "entropy_mean_gate": entropy(probs.mean(0)),
    "information": entropy(probs.mean(0)) - entropy(probs).mean(),
    "effective_experts": np.exp(entropy(probs.mean(0))),
    "cv_importance": received.std() / received.mean(),
    "cv_load": load.std() / load.mean(),
    "max_load": 2.0,
  }
  assert set(metrics) == set(expected)
  for name, value in expected.items():
    assert float(metrics[name]) == pytest.approx(value, rel=1e-5), name


# --- edges -------------------------------------------------------------------

RANKED = [
  [0, 2, 3, 1],
  [0, 1, 2, 3],
  [0, 1, 2, 3],
  [1, 0, 2, 3],
  [0, 1, 3, 2],
  [0, 3, 2, 1],
]


@pytest.mark.parametrize(
  "name, k, noise",
  [
    ("noisy_top_k", 2, False),
    *(("noisy_top_k", k, True) for k in (1, 2, 3, 4)),
    ("top_k", 2, False),
    ("top_k", 2, True),
    ("dense", 4, False),
  ],
)
def test_extreme_logits(name, k, noise):
  found = route(name, EXTREME, k, sample(6) if noise else None)
  for i, row in enumerate(np.asarray(found.experts)):
    assert len(set(row.tolist())) == k and row.min() >= 0 and row.max() < 4
    if not noise:
      assert row.tolist() == RANKED[i][:k]
  for leaf in jax.tree.leaves(found):
    assert np.isfinite(leaf).all()


@functools.partial(jax.jit, static_argnames=("name", "k"))
def jacobian(name, logits, noise, raw, k=2):
  """d (losses, first weights) / d (logits, raw noise scale)."""

  def values(logits, raw):
    std = jax.nn.softplus(raw) + 1e-2
    found = route(name, logits, k, noise, std=std)
    first = jnp.sum(found.weights[:, 0])
    return jnp.stack([first, *(found.losses[n] for n in LOSSES)])

  return jax.jacrev(values, argnums=(0, 1))(logits, raw)


LOSSES = ["importance", "load", "balance"]


@pytest.mark.parametrize("name", ["noisy_top_k", "top_k"])
def test_extreme_logits_have_finite_gradients(name):
  # z-loss is left out: the gradient of its square is as large as the logits.
  raw = np.zeros((6, 4), "f4")
  for gradient in jacobian(name, EXTREME, sample(6), raw):
    assert np.isfinite(gradient).all()


def test_tiny_noise_has_finite_gradients():
  logits, raw = sample(0, scale=1e18), np.full((6, 4), -1e4, "f4")
  for gradient in jacobian("noisy_top_k", logits, sample(6), raw):
    assert np.isfinite(gradient).all()


def test_noise_scale_gets_a_gradient():
  raw = np.zeros((6, 4), "f4")
  _, gradient = jacobian("noisy_top_k", sample(0), sample(6), raw)
  assert (np.abs(gradient[:3]).max(axis=(1, 2)) > 1e-4).all()


@pytest.mark.parametrize("name", GATES)
def test_one_expert(name):
  found = route(name, sample(0, (5, 1)), 1, sample(1, (5, 1)))
  np.testing.assert_array_equal(found.experts, np.zeros((5, 1)))
  np.testing.assert_array_equal(found.weights, np.ones((5, 1)))
  assert all(float(v) == 0 for v in found.losses.values())
  assert found.metrics["effective_experts"] == 1


@pytest.mark.parametrize("name", ["noisy_top_k", "top_k"])
def test_all_experts_selected_have_equal_load(name):
  found = route(name, sample(0), 4, sample(1))
  assert found.losses["load"] == 0 and found.metrics["cv_load"] == 0
  np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("k", [0, 5])
@pytest.mark.parametrize(
  "gate", [routing.noisy_top_k_routing, routing.top_k_routing]
)
def test_k_out_of_range_is_named(gate, k):
  with pytest.raises(InputError, match=f"k={k} .* 4"):
    gate(jnp.zeros((2, 4)), k)


def test_cv_squared_of_nothing_is_zero_with_zero_gradient():
  value, gradient = jax.value_and_grad(routing.cv_squared)(jnp.zeros(3))
  assert value == 0 and not np.any(gradient)


def test_routing_is_a_pytree_through_jit():
  found = route("noisy_top_k", sample(0))
  assert isinstance(found, routing.Routing)
  assert found.experts.dtype == jnp.int32
  for leaf in (found.weights, found.probs, *found.losses.values()):
    assert leaf.dtype == jnp.float32
  names = {"importance", "load", "balance", "z", "information"}
  assert set(found.losses) == names


# --- gradients ---------------------------------------------------------------


@pytest.mark.parametrize(
  "name, k", [("noisy_top_k", 1), ("noisy_top_k", 2), ("top_k", 1)]
)
def test_the_router_gets_a_gradient_from_the_weights(name, k):
  # Softmax after top-1 would give exactly 0 here.
  gradient, _ = jacobian(name, sample(0), None, np.zeros((6, 4), "f4"), k)
  assert (np.abs(gradient[0]).max(axis=1) > 1e-4).all()


@pytest.mark.parametrize("name", ["noisy_top_k", "top_k"])
def test_loss_gradients_are_finite_differences(name):
  logits, noise, direction = sample(0, scale=1.0), sample(7), sample(8)
  raw, step = np.zeros((6, 4), "f4"), 1e-3
  std = np.log(2) + 1e-2  # softplus(0) + 0.01
  gradient, _ = jacobian(name, logits, noise, raw)
  slopes = np.sum(gradient * direction, axis=(1, 2))[1:]
  ahead, behind = (
    route(name, logits + sign * step * direction, 2, noise, std=std).losses
    for sign in (1, -1)
  )
  for loss, slope in zip(LOSSES, slopes):
    expected = float(ahead[loss] - behind[loss]) / (2 * step)
    assert slope == pytest.approx(expected, rel=0.02, abs=3e-4), loss
    assert abs(expected) > 1e-2


def test_z_loss_gradient_is_a_finite_difference():
  logits, direction = sample(0), sample(8)
  slope = np.vdot(jax.jit(jax.grad(routing.z_loss))(logits), direction)
  ahead, behind = (
    float(routing.z_loss(logits + d * direction)) for d in (1e-2, -1e-2)
  )
  assert slope == pytest.approx((ahead - behind) / 2e-2, rel=1e-3)


def test_metrics_have_no_gradient():
  def total(logits):
    return sum(route("noisy_top_k", logits).metrics.values())

  assert not np.any(jax.jit(jax.grad(total))(jnp.zeros((6, 4))))


# --- properties --------------------------------------------------------------


@pytest.mark.parametrize("name", GATES)
def test_padding_counts_nowhere(name):
  logits, draws = sample(0), sample(1)
  valid = jnp.array([True, True, False, True, False, True])
  keep = np.flatnonzero(valid)
  wild = logits.copy()
  wild[~np.asarray(valid)] = 50 * sample(2)[~np.asarray(valid)]
  padded = route(name, wild, 2, draws, valid)
  alone = route(name, logits[keep], 2, draws[keep])
  for part in ("losses", "metrics"):
    for key, value in getattr(alone, part).items():
      assert float(getattr(padded, part)[key]) == pytest.approx(
        float(value), rel=1e-4, abs=1e-6
      ), key


@pytest.mark.parametrize("name", GATES)
def test_only_padding_is_finite(name):
  found = route(name, sample(0), 2, sample(1), jnp.zeros(6, bool))
  assert all(np.isfinite(v).all() for v in jax.tree.leaves(found))
  assert found.losses["importance"] == 0 and found.losses["load"] == 0


seeds = st.integers(0, 10**6)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 4), st.sampled_from([0.01, 1, 1e3, 1e7]))
def test_k_distinct_experts_and_weights_that_sum_to_one(seed, k, scale):
  logits = sample(seed, scale=scale)
  found = route("noisy_top_k", logits, k, sample(seed + 1))
  assert all(len(set(row)) == k for row in np.asarray(found.experts).tolist())
  assert (np.asarray(found.weights) >= 0).all()
  if k > 1:
    np.testing.assert_allclose(found.weights.sum(1), 1, atol=1e-5)
  np.testing.assert_allclose(found.probs.sum(1), 1, atol=1e-5)
  assert float(routing.hard_load(found.experts, 4).sum()) == 6 * k


@settings(max_examples=25, deadline=None)
@given(seeds, st.permutations(range(4)), st.sampled_from(GATES[:2]))
def test_permuting_experts_permutes_the_routing(seed, order, name):
  order = np.array(order)
  logits, noise = sample(seed), sample(seed + 1)
  plain = route(name, logits, 2, noise)
  moved = route(name, logits[:, order], 2, noise[:, order])
  np.testing.assert_array_equal(order[moved.experts], plain.experts)
  np.testing.assert_allclose(moved.weights, plain.weights, rtol=1e-5)
  for key, value in plain.losses.items():
    assert float(moved.losses[key]) == pytest.approx(
      float(value), rel=1e-3, abs=1e-5
    )


def test_without_noise_the_routing_of_an_image_ignores_its_batch():
  logits = sample(0)
  whole = route("noisy_top_k", logits)
  part = route("noisy_top_k", logits[2:3])
  np.testing.assert_array_equal(whole.experts[2:3], part.experts)
  np.testing.assert_allclose(whole.weights[2:3], part.weights, rtol=1e-6)
