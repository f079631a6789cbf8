"""Controls: random experts, shuffled boxes, gradients without conflicts."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data, errors, models
from mtlmoe_jax.data import shuffled
from mtlmoe_jax.models import gates, towers
from mtlmoe_jax.moe import routing
from mtlmoe_jax.ops import losses
from mtlmoe_jax.training import loop
from mtlmoe_jax.training import optimizer as optim
from mtlmoe_jax.training import state as state_lib
from mtlmoe_jax.training import step as step_lib
from tests.support import layouts, steps, tiny
from tests.support.models import IMAGES, filled, jit, make, make_config

seeds = st.integers(0, 2**16)

# --- random experts ----------------------------------------------------------

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
  plain = routing.uniform_routing(7, n, valid)
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


# --- shuffled boxes ----------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 60), seeds)
def test_derangement_moves_everything(count, seed):
  found = shuffled.derangement(count, seed)
  assert sorted(found.tolist()) == list(range(count))
  assert count == 1 or not np.any(found == np.arange(count))
  np.testing.assert_array_equal(found, shuffled.derangement(count, seed))


def boxes_of(source):
  return np.array([source[i]["box"] for i in range(len(source))])


def opened(**options):
  return data.open_data(tiny.config(**options))


def test_training_images_have_one_anothers_boxes():
  plain, mixed = opened(), opened(**{"data.shuffle_boxes": True})
  before, after = boxes_of(plain.train), boxes_of(mixed.train)
  np.testing.assert_array_equal(after, before[mixed.train.donors])
  assert np.all(np.any(after != before, 1))
  assert sorted(after.tolist()) == sorted(before.tolist())
  # Again, and in another order: what was kept is what was read.
  for i in reversed(range(len(mixed.train))):
    one, other = plain.train[i], mixed.train[i]
    np.testing.assert_array_equal(other["box"], after[i])
    np.testing.assert_array_equal(other["image"], one["image"])
    for key in ("label", "id", "has_label", "attributes"):
      assert one[key] == other[key]
  for split in ("validation", "test"):
    one, other = getattr(plain, split), getattr(mixed, split)
    assert one.fingerprint == other.fingerprint
    np.testing.assert_array_equal(boxes_of(one), boxes_of(other))
  prints = {
    d.train.fingerprint
    for d in (plain, mixed, opened(**{"data.shuffle_boxes": True, "seed": 1}))
  }
  assert len(prints) == 3 and plain.fingerprint != mixed.fingerprint
  again = opened(**{"data.shuffle_boxes": True})
  assert again.fingerprint == mixed.fingerprint


def test_a_missing_box_goes_round_and_extra_images_keep_theirs(tmp_path):
  layouts.make_cub(tmp_path / "cub")
  layouts.make_cub(tmp_path / "extra")
  options = {
    "data.name": "cub",
    "data.path": str(tmp_path / "cub"),
    "data.extra.path": str(tmp_path / "extra"),
    "data.extra.name": "cub",
    "data.validation_fraction": 0.0,
  }
  plain = opened(**options)
  mixed = opened(**options, **{"data.shuffle_boxes": True})
  np.testing.assert_array_equal(boxes_of(mixed.extra), boxes_of(plain.extra))

  class Without:
    """The first record has no box."""

    def __getitem__(self, index):
      return {**plain.train[index], "has_box": index != 0}

    def __len__(self):
      return len(plain.train)

    def __getattr__(self, name):
      return getattr(plain.train, name)

  source = shuffled.ShuffledBoxes(Without(), 0)
  has_box = [source[i]["has_box"] for i in range(len(source))]
  assert has_box == [donor != 0 for donor in source.donors]
  assert has_box[0]


def test_each_image_is_read_at_most_twice():
  reads = []

  class Counting:
    name, class_names, ids, labels, fingerprint = "c", (), (), (), ""

    def __len__(self):
      return 6

    def __getitem__(self, index):
      reads.append(index)
      return {"box": np.full(4, index, np.float32), "has_box": True}

  source = shuffled.ShuffledBoxes(Counting(), 0)
  for _ in range(3):
    for i in range(6):
      assert source[i]["box"][0] == source.donors[i]
  assert max(reads.count(i) for i in range(6)) <= 3 + 1


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (
      {"data.shuffle_boxes": True, "model.tasks": "class"},
      r"config\.data\.shuffle_boxes=True: .*tasks is 'class'; add 'box'",
    ),
    (
      {"loss.weighting": "pcgrad", "model.tasks": "box"},
      r"config\.loss\.weighting='pcgrad': .*tasks is 'box'; use 'class,box'",
    ),
  ],
)
def test_controls_that_need_tasks_are_refused_without(options, message):
  with pytest.raises(errors.InputError, match=message) as error:
    config_lib.check_config(tiny.config(**options))
  assert "\n" not in str(error.value)


# --- gradients without conflicts ---------------------------------------------


def naive_surgery(rows):
  """Algorithm 1 of Yu et al. 2020, the others in order."""
  total = np.zeros_like(rows[0])
  for i in range(len(rows)):
    own = rows[i].copy()
    for j in range(len(rows)):
      if j != i and own @ rows[j] < 0:
        own -= (own @ rows[j]) / (rows[j] @ rows[j]) * rows[j]
    total += own
  return total


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
    naive_surgery(rows),
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


class Shared:
  """Mean colours, one shared layer, a tower a task; a loss of a gate."""

  def apply(self, variables, pixels, **_):
    p = variables["params"]
    features = jnp.mean(pixels.astype(jnp.float32), (1, 2)) / 255
    hidden = jnp.tanh(features @ p["experts"]["kernel"])
    gate = {
      name: jnp.zeros(()) for name in ("importance", "load", "balance", "z")
    }
    gate["importance"] = jnp.sum(p["experts"]["kernel"] ** 2)
    routed = routing.Routing(None, None, None, gate, {})
    box = towers.decode_box(hidden @ p["tower_box"]["kernel"])
    return models.Outputs(
      hidden @ p["tower_class"]["kernel"], box, {"class": routed}, None, {}
    ), {}


def shared_parameters(seed=0):
  random = np.random.default_rng(seed)
  shapes = {"experts": (3, 6), "tower_class": (6, 3), "tower_box": (6, 4)}
  return {
    f"{name}/kernel": random.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }


@functools.cache
def sgd(weighting, options):
  """One step of plain gradient descent, and the state it begins with."""
  config = tiny.config(
    **{
      "optimizer.name": "sgd",
      "optimizer.weight_decay": 0.0,
      "optimizer.clip": 0.0,
      "optimizer.lr": 1.0,
      "optimizer.ema": 0.0,
      "optimizer.schedule": "constant",
      "optimizer.warmup_epochs": 0.0,
      "loss.weighting": weighting,
      **dict(options),
    }
  )
  optimizer, schedule = optim.make_optimizer(
    config, shared_parameters(), 100, 10
  )

  def start(params):
    variables = {"params": optim.unflatten(jax.tree.map(jnp.asarray, params))}
    return state_lib.create_state(variables, optimizer, frozenset(), False)

  step = step_lib.make_train_step(
    Shared(), optimizer, schedule, frozenset(), config
  )
  return start, jax.jit(step)


def step_of(params, batch, weighting, **options):
  """The gradient that a step goes down, and its metrics."""
  start, step = sgd(weighting, tuple(options.items()))
  new, metrics = step(start(params), batch)
  # Nesterov's first step is 1.9 times the gradient.
  change = {n: (v - new.params[n]) / 1.9 for n, v in params.items()}
  return change, metrics


WEIGHTS = {"class": 0.7, "box": 2.0}


def naive_step(params, batch):
  """Surgery by hand, of the gradients of three steps with one loss each."""
  none = {
    "loss.class_weight": 0.0,
    "loss.box_weight": 0.0,
    "loss.importance": 0.0,
  }
  alone = {f"loss.{task}_weight": weight for task, weight in WEIGHTS.items()}
  rows = [
    step_of(params, batch, "fixed", **{**none, name: weight})[0]
    for name, weight in (*alone.items(), ("loss.importance", 0.3))
  ]
  total = {n: rows[0][n] + rows[1][n] + rows[2][n] for n in params}
  shared = [
    np.asarray(r["experts/kernel"], np.float64).ravel() for r in rows[:2]
  ]
  repaired = naive_surgery(shared).reshape(params["experts/kernel"].shape)
  total["experts/kernel"] = repaired + rows[2]["experts/kernel"]
  lengths = np.linalg.norm(shared[0]) * np.linalg.norm(shared[1])
  return total, shared[0] @ shared[1] / lengths


PCGRAD = {f"loss.{task}_weight": weight for task, weight in WEIGHTS.items()}
PCGRAD["loss.importance"] = 0.3


def test_a_step_of_pcgrad_is_surgery_by_hand():
  batch = steps.batch()
  cosines = []
  for seed in range(6):
    params = shared_parameters(seed)
    expected, cosine = naive_step(params, batch)
    found, metrics = step_of(params, batch, "pcgrad", **PCGRAD)
    for name, value in expected.items():
      np.testing.assert_allclose(
        found[name], value, rtol=1e-3, atol=1e-5, err_msg=name
      )
    np.testing.assert_allclose(metrics["gradient_cosine"], cosine, atol=1e-4)
    _, plain = step_of(params, batch, "fixed", **PCGRAD)
    assert "gradient_cosine" not in plain
    np.testing.assert_allclose(metrics["loss"], plain["loss"], rtol=1e-6)
    cosines.append(cosine)
  assert min(cosines) < -0.05 and max(cosines) > 0.05


def test_micro_batches_have_their_own_surgery():
  batch = steps.batch()
  for seed in range(4):
    params = shared_parameters(seed)
    found, metrics = step_of(params, batch, "pcgrad", micro_batches=2, **PCGRAD)
    parts = [
      naive_step(params, {n: v[i::2] for n, v in batch.items()})
      for i in range(2)
    ]
    for name in params:
      mean = (parts[0][0][name] + parts[1][0][name]) / 2
      np.testing.assert_allclose(found[name], mean, rtol=1e-3, atol=1e-5)
    cosine = (parts[0][1] + parts[1][1]) / 2
    np.testing.assert_allclose(metrics["gradient_cosine"], cosine, atol=1e-4)


def test_a_task_without_targets_or_weight_conflicts_with_none():
  batch, params = steps.batch(), shared_parameters()
  without = {**batch, "has_box": np.zeros(8, bool)}
  for rows, options in ((without, {}), (batch, {"loss.box_weight": 0.0})):
    found, metrics = step_of(params, rows, "pcgrad", **options)
    plain, _ = step_of(params, rows, "fixed", **options)
    assert metrics["gradient_cosine"] == 0 and metrics["bad_steps"] == 0
    for name, value in plain.items():
      np.testing.assert_allclose(found[name], value, atol=1e-6)


# --- all of them -------------------------------------------------------------


@pytest.mark.slow
def test_a_run_with_all_controls(tmp_path):
  config = tiny.config(
    **{
      "model.gate": "random",
      "model.compute": "sparse",
      "data.shuffle_boxes": True,
      "loss.weighting": "pcgrad",
      "steps": 4,
    }
  )
  loop.train(config, tmp_path)
  result = json.loads((tmp_path / "result.json").read_text())
  assert 0 <= result["top1"] <= 1 and 0 <= result["miou"] <= 1
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  found = [
    value
    for line in map(json.loads, lines)
    for name, value in line.items()
    if name.endswith("gradient_cosine")
  ]
  assert found and all(-1 <= value <= 1 for value in found)
