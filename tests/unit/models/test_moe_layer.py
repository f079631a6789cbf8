"""The mixture of experts over tokens as a layer, against loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models.gates import BIAS
from mtlmoe_jax.models.moe_layer import KINDS, MoEMlp
from tests.support.models import filled, jit

B, M, D, N, K = 3, 6, 8, 4, 2
X = np.random.default_rng(0).normal(size=(B, M, D)).astype(np.float32)
Make = functools.partial(MoEMlp, N, 16)
KEYS = {"gating": jax.random.key(0), "dropout": jax.random.key(1)}


def experts_of(variables, rows):
  """Every expert on rows [S, D], by loops: [N, S, D]."""
  p = jax.tree.map(np.asarray, variables["params"]["experts"])
  out = []
  for n in range(N):
    hidden = rows @ p["up"]["kernel"][n] + p["up"]["bias"][n]
    # The tanh form, as Flax has it.
    inner = np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)
    hidden = 0.5 * hidden * (1 + np.tanh(inner))
    out.append(hidden @ p["down"]["kernel"][n] + p["down"]["bias"][n])
  return np.stack(out)


def variables_of(gate, **options):
  return filled(Make(gate=gate, **options), X)


def probs_of(variables):
  p = variables["params"]["gate"]["logits"]
  return special.softmax(X @ p["kernel"] + p["bias"], axis=-1)


def run(gate, x=X, train=False, rngs=None, valid=None, **options):
  layer = Make(gate=gate, **options)
  apply = jit(layer.apply, static_argnames="train")
  return apply(variables_of(gate), x, train=train, valid=valid, rngs=rngs)


@pytest.mark.parametrize("gate", ["noisy_top_k", "top_k", "dense"])
def test_evaluation_is_the_naive_sum(gate):
  y, routed = run(gate)
  variables = variables_of(gate)
  outputs = experts_of(variables, X.reshape(-1, D)).reshape(N, B, M, D)
  probs = probs_of(variables)
  k = N if gate == "dense" else K
  best = np.argsort(-probs, axis=-1)[..., :k]
  weights = np.take_along_axis(probs, best, -1)
  if gate == "noisy_top_k":
    weights /= weights.sum(-1, keepdims=True)
  expected = np.zeros_like(X)
  for b, m, j in np.ndindex(B, M, k):
    expected[b, m] += weights[b, m, j] * outputs[best[b, m, j], b, m]
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(routed.experts, best)
  assert routed.probs.shape == (B, M, N) and routed.metrics["dropped"] == 0


@pytest.mark.parametrize("priority", [False, True])
@pytest.mark.parametrize("group", ["image", "batch"])
def test_capacity_is_the_naive_fill(group, priority):
  options = dict(group=group, batch_priority=priority, capacity_factor=0.5)
  valid = np.array([True, True, False])
  y, routed = run("top_k", train=True, valid=valid, **options)
  experts = np.asarray(routed.experts).reshape(-1, K)
  weights = np.asarray(routed.weights).reshape(-1, K)
  outputs = experts_of(variables_of("top_k"), X.reshape(-1, D))
  expected, lost = np.zeros((B * M, D), "f4"), 0
  size = M if group == "image" else B * M
  room = int(np.ceil(0.5 * size * K / N))
  for start in range(0, B * M, size):
    taken = np.zeros(N, int)
    rows = np.arange(start, start + size)
    if priority:
      rows = rows[np.argsort(-weights[rows, 0], kind="stable")]
    for j in range(K):
      for t in rows:
        if valid[t // M]:
          n = experts[t, j]
          if taken[n] < room:
            expected[t] += weights[t, j] * outputs[n, t]
          else:
            lost += 1
          taken[n] += 1
  seen = expected.reshape(X.shape)[:2]
  np.testing.assert_allclose(y[:2], seen, rtol=1e-4, atol=1e-5)
  assert lost > 0
  assert float(routed.metrics["dropped"]) == pytest.approx(lost / (2 * M * K))


def test_room_for_all_is_dropless_with_gradients():
  # Fewer slots than tokens: buffers, yet nothing is dropped.
  assert int(np.ceil(1.6 * B * M * K / N)) < B * M
  variables, found = variables_of("noisy_top_k"), []
  for factor in (0.0, 1.6):
    layer = Make(gate="noisy_top_k", group="batch", capacity_factor=factor)

    def total(params, x, layer=layer):
      y, routed = layer.apply({"params": params}, x, True, rngs=KEYS)
      return jnp.sum(jnp.sin(y)) + sum(routed.losses.values()), routed

    found.append(
      jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))(
        variables["params"], X
      )
    )
  ((value, _), gradients), ((other, routed), others) = found
  assert routed.metrics["dropped"] == 0
  np.testing.assert_allclose(value, other, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    gradients,
    others,
  )
  for leaf in jax.tree.leaves(gradients):
    assert np.any(leaf != 0) and np.all(np.isfinite(leaf))


def test_expert_choice_is_the_naive_sum():
  y, choice = run("expert_choice", capacity_factor=1.0)
  variables = variables_of("expert_choice")
  probs = probs_of(variables)
  outputs = experts_of(variables, X.reshape(-1, D)).reshape(N, B, M, D)
  expected = np.zeros_like(X)
  for b, n in np.ndindex(B, N):
    for m in np.argsort(-probs[b, :, n])[: M * K // N]:
      expected[b, m] += probs[b, m, n] * outputs[n, b, m]
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
  assert choice.tokens.shape == (B, N, M * K // N)


def test_soft_is_the_naive_mixture():
  layer = Make(gate="soft", slots=2)
  variables = filled(layer, X)
  y, _ = jit(layer.apply)(variables, X)
  p = variables["params"]["gate"]
  slots = p["slots"].reshape(D, -1)
  slots = slots / np.linalg.norm(slots, axis=0)
  length = np.linalg.norm(X, axis=-1, keepdims=True)
  logits = p["scale"] * (X / length) @ slots
  mixed = np.swapaxes(special.softmax(logits, axis=1), 1, 2) @ X
  outputs = np.stack(
    [experts_of(variables, mixed[:, s])[s // 2] for s in range(2 * N)],
    axis=1,
  )
  expected = special.softmax(logits, axis=2) @ outputs
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gate", KINDS)
def test_no_image_sees_another(gate):
  other = np.concatenate([X[:1], -3 * X[:0:-1]])
  layer = Make(
    gate=gate, capacity_factor=0.7, eval_capacity_factor=0.7, group="image"
  )
  variables = variables_of(gate)
  apply = jit(layer.apply)
  y, found = apply(variables, X)
  np.testing.assert_allclose(y[0], apply(variables, other)[0][0], rtol=1e-5)
  for leaf in jax.tree.leaves((y, found)):
    assert np.all(np.isfinite(leaf))
  # Nor does the order of the experts matter.
  params = jax.tree.map(lambda v: v, variables["params"])
  params["experts"] = jax.tree.map(lambda v: v[::-1], params["experts"])
  axis = 1 if gate == "soft" else -1
  params["gate"] = jax.tree.map(
    lambda v: np.flip(v, axis) if np.ndim(v) else v, params["gate"]
  )
  moved, _ = apply({"params": params}, X)
  np.testing.assert_allclose(moved, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gate", KINDS)
def test_extreme_logits(gate):
  layer = Make(gate=gate, group="image")
  params = variables_of(gate)["params"]

  @jit
  def run(params, x):
    def total(params, x):
      y, routed = layer.apply({"params": params}, x, True, rngs=KEYS)
      return jnp.sum(jnp.sin(y)) + sum(routed.losses.values()), (y, routed)

    return jax.value_and_grad(total, (0, 1), has_aux=True)(params, x)

  apart = np.array([1e4, -1e4, 0, 1e4], np.float32)
  for factor, bias in ((0, 0), (1e4, 0), (0, apart), (1e4, apart)):
    # With factor 0 all tokens are alike, without a bias all experts too.
    head = jax.tree.map(lambda v, f=factor: f * v, params["gate"])
    if gate != "soft":
      head["logits"]["bias"] = head["logits"]["bias"] + bias
    found = run({**params, "gate": head}, X)
    for leaf in jax.tree.leaves(found):
      assert np.all(np.isfinite(leaf))
    (_, (_, routed)), _ = found
    if gate in ("noisy_top_k", "top_k", "dense"):
      k = N if gate == "dense" else K
      rows = np.asarray(routed.experts).reshape(-1, k).tolist()
      assert all(len(set(row)) == k for row in rows)
      if gate != "top_k":
        np.testing.assert_allclose(routed.weights.sum(-1), 1, rtol=1e-5)
    elif gate == "expert_choice":
      taken = np.asarray(routed.tokens).reshape(B * N, -1).tolist()
      assert all(len(set(row)) == len(row) for row in taken)
    else:
      np.testing.assert_allclose(routed.dispatch.sum(1), 1, rtol=1e-5)
      np.testing.assert_allclose(routed.combine.sum((2, 3)), 1, rtol=1e-5)


def test_evaluation_ignores_batch_groups():
  y, _ = run("top_k", group="batch", eval_capacity_factor=0.7)
  again, _ = run("top_k", group="image", eval_capacity_factor=0.7)
  np.testing.assert_array_equal(y, again)


def test_bias_steps_and_dropout_drops_in_training():
  layer = Make(gate="top_k", bias_rate=0.1, dropout=0.5, k=3)
  variables = filled(layer, X)
  variables["batch_stats"] = {"gate": {BIAS: np.zeros(N, "f4")}}
  apply = jit(layer.apply, static_argnames=("train", "mutable"))
  (y, routed), changed = apply(
    variables, X, train=True, rngs=KEYS, mutable=("batch_stats",)
  )
  load = np.bincount(np.asarray(routed.experts).ravel(), minlength=N)
  np.testing.assert_allclose(
    changed["batch_stats"]["gate"][BIAS],
    0.1 * np.sign(B * M * 3 / N - load),
    rtol=1e-6,
  )
  plain, _ = apply(variables, X, mutable=())[0]
  assert not np.allclose(y, plain)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"gate": "hash"}, "gate='hash': must be one of"),
    ({"group": "world"}, "group='world': must be one of"),
    ({"gate": "soft", "group": "batch"}, "other images of its batch"),
    ({"gate": "expert_choice", "group": "batch"}, "use group='image'"),
    ({"k": 5}, "k=5 .* 4"),
    ({"capacity_factor": -1.0, "gate": "expert_choice"}, "factor -1.0"),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(InputError, match=message):
    jax.eval_shape(Make(**options).init, jax.random.key(0), X)
