"""Gates that draw experts at random: a control."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.models import gates
from mtlmoe_jax.moe import routing
from tests.support.models import IMAGES, filled, jit, make, make_config

seeds = st.integers(0, 2**16)

N, K = 5, 2


def images(count, seed=0, size=12):
  """Normalised images, of whole grey levels as real ones are."""
  levels = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3))
  return ((levels - 123.675) / 58.395).astype(np.float32)


class Pair(nn.Module):
  """Two gates, as the model has them."""

  joint: bool = False

  @nn.compact
  def __call__(self, x, train=False, valid=None):
    made = [
      gates.Gate(gates.GateOptions("random", N, 8, 1.0), K, name=f"gate_{task}")
      for task in config_lib.TASKS
    ]
    return gates.route(made, x, train, valid, joint=self.joint)


@functools.cache
def compiled(joint=False):
  return jit(Pair(joint).apply, static_argnums=2)


def route(x, step=None, joint=False, valid=None):
  """Routings of both gates: in evaluation, or at a step of training."""
  keys = {} if step is None else {"gating": jax.random.key(step)}
  return compiled(joint)({}, x, step is not None, valid, rngs=keys)


random_routing = jax.jit(routing.random_routing, static_argnums=1)
uniform_routing = jax.jit(routing.uniform_routing, static_argnums=(0, 1))


@settings(max_examples=30, deadline=None)
@given(
  seeds,
  st.sampled_from([(1, 1), (4, 3), (6, 2)]),
  st.floats(0, 1),
)
def test_random_routing_takes_the_largest_draws(seed, sizes, share):
  n, k = sizes
  random = np.random.default_rng(seed)
  draws = random.permuted(np.arange(28 * n).reshape(28, n), axis=None)
  draws = (draws[:7] / (28 * n)).astype(np.float32)
  valid = random.uniform(size=7) < share
  found = random_routing(draws, k, valid)
  counts = np.zeros(n)
  for i, row in enumerate(draws.tolist()):
    best = sorted(range(n), key=lambda e: -row[e])[:k]
    assert found.experts[i].tolist() == best
    if valid[i]:
      counts[best] += 1
  np.testing.assert_allclose(found.weights, np.full((7, k), 1 / k), rtol=1e-6)
  np.testing.assert_allclose(found.probs, np.full((7, n), 1 / n), rtol=1e-6)
  plain = uniform_routing(7, n, valid)
  assert found.losses.keys() == plain.losses.keys()
  assert not any(map(float, found.losses.values()))
  assert found.metrics.keys() == plain.metrics.keys()
  spread = counts.std() / max(counts.mean(), 1e-6)
  np.testing.assert_allclose(found.metrics["cv_load"], spread, atol=1e-5)


@pytest.mark.parametrize("k", [0, 4])
def test_random_routing_names_a_bad_k(k):
  with pytest.raises(errors.InputError, match=f"k={k}"):
    routing.random_routing(jnp.zeros((2, 3)), k)


def test_a_random_gate_has_no_parameters_and_distinct_experts():
  found, variables = jit(Pair().init_with_output)(jax.random.key(0), images(40))
  assert not variables
  for one in found:
    assert one.experts.shape == one.weights.shape == (40, K)
    assert all(len(set(row)) == K for row in one.experts.tolist())
    np.testing.assert_array_equal(one.weights, np.full((40, K), 0.5, "f4"))


def test_a_lone_expert_is_drawn_always():
  gate = gates.Gate(gates.GateOptions("random", 1, 8, 1.0), 1)
  found = jit(gate.apply)({}, images(3))
  np.testing.assert_array_equal(found.experts, np.zeros((3, 1)))
  np.testing.assert_array_equal(found.weights, np.ones((3, 1)))


@pytest.mark.parametrize("joint", [False, True])
def test_evaluation_depends_on_the_image_alone(joint):
  x = images(24)
  whole = [r.experts for r in route(x, joint=joint)]
  order = np.random.default_rng(1).permutation(24)
  moved = route(x[order], joint=joint)
  few = route(np.concatenate([images(3, seed=9), x[5:8]]), joint=joint)
  # Padding, and differences of float rounding.
  padded = np.concatenate([x[:20], np.zeros_like(x[:4])])
  padded *= np.float32(1 + 2e-7)
  valid = np.arange(24) < 20
  beside = route(padded, joint=joint, valid=valid)
  for i, experts in enumerate(map(np.asarray, whole)):
    np.testing.assert_array_equal(moved[i].experts, experts[order])
    np.testing.assert_array_equal(few[i].experts[3:], experts[5:8])
    np.testing.assert_array_equal(beside[i].experts[:20], experts[:20])


def test_image_hash_is_the_naive_sum_and_tells_images_apart():
  x = images(50)
  found = np.asarray(jit(gates.image_hash)(x))
  for row, image in zip(found[:2].tolist(), x):
    total = 0
    for place, value in enumerate(np.rint(16 * image).ravel().tolist()):
      total += int(value) * ((place * 2654435769 % 2**32) | 1)
    assert row == total % 2**32
  assert len(set(found.tolist())) == 50
  mirrored = gates.image_hash(x[:, :, ::-1])
  assert not np.any(np.asarray(mirrored) == found)


def test_random_load_is_uniform_and_two_gates_are_independent():
  count = 2000
  one, other = (np.asarray(r.experts) for r in route(images(count, size=4)))
  for experts in (one, other):
    load = np.bincount(experts.ravel(), minlength=N)
    # Five standard deviations of a binomial count.
    spread = np.sqrt(count * K / N * (1 - K / N))
    assert np.all(np.abs(load - count * K / N) < 5 * spread)
  both = np.mean([len(set(a) & set(b)) for a, b in zip(one, other)])
  assert both == pytest.approx(K * K / N, abs=0.1)


def test_training_draws_anew_at_each_step_and_joint_gates_share():
  x = images(30)
  steps = [[r.experts for r in route(x, step)] for step in (0, 0, 1)]
  np.testing.assert_array_equal(steps[0], steps[1])
  assert np.any(steps[0][0] != steps[2][0])
  assert np.any(steps[0][0] != steps[0][1])
  assert np.any(route(x)[0].experts != steps[0][0])
  for step in (None, 3):
    one, other = route(x, step, joint=True)
    np.testing.assert_array_equal(one.experts, other.experts)


def test_models_of_a_random_gate():
  x = IMAGES
  for options, same in (
    (dict(share_gate=True), True),
    (dict(select="joint", bias_rate=0.1), True),
    (dict(k="1,2"), False),
  ):
    found = []
    for compute in ("dense", "sparse"):
      model = make(gate="random", compute=compute, **options)
      variables = filled(model, x)
      assert not any(n.startswith("gate") for n in variables["params"])
      found.append(jit(model.apply)(variables, x))
    dense, sparse = found
    np.testing.assert_allclose(sparse.logits, dense.logits, atol=1e-4)
    np.testing.assert_allclose(sparse.box, dense.box, atol=1e-4)
    one, other = (dense.routing[task].experts for task in ("class", "box"))
    assert (one.shape == other.shape and np.all(one == other)) == same


def test_active_parameters_of_a_random_gate_are_those_of_top_k():
  counts = [
    models.count_parameters(make_config(gate=gate, k="1", tasks="box"), 3)
    for gate in ("random", "top_k", "uniform")
  ]
  assert counts[0][1] < counts[1][1] < counts[2][1]  # no gate; all experts
