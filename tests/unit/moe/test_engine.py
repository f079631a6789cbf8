"""Every strategy of the engine against a loop over (image, expert) pairs."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import export

from mtlmoe_jax.errors import InputError
from mtlmoe_jax.moe import engine, pair_plan, pairs, strategies
from mtlmoe_jax.moe.ragged import ragged_mlp
from tests.support.draws import choices, draw
from tests.support.engine_passes import (
  C,
  D,
  close,
  engine_pass,
  expert,
  make,
  naive_pass,
)
from tests.support.jaxprs import all_eqns

EXPLICIT = ("dense", "gather", "einsum", "pairs")


@st.composite
def cases(draw_):
  batch = draw_(st.integers(1, 6))
  num_experts = draw_(st.integers(1, 5))
  ks = draw_(st.lists(st.integers(1, num_experts), min_size=1, max_size=3))
  return dict(
    shape=(batch, num_experts, tuple(ks)),
    inner=draw_(st.sampled_from([(), (2,), (2, 3)])),
    capacity=draw_(st.sampled_from([None, 1, 2, 9])),
    tile=draw_(st.sampled_from([None, 1, 2, 3, 8])),
    valid=draw_(st.lists(st.booleans(), min_size=batch, max_size=batch)),
    seed=draw_(st.integers(0, 10**6)),
  )


@pytest.mark.default_flags
@pytest.mark.parametrize("strategy", (*EXPLICIT, "auto"))
@settings(max_examples=6, deadline=None)
@given(cases())
def test_values_and_gradients_are_the_naive_ones(strategy, case):
  args, experts, targets = make(case["seed"], *case["shape"], case["inner"])
  sums, dropped, kept, grads = engine_pass(
    args,
    experts,
    targets,
    strategy=strategy,
    capacity=case["capacity"],
    tile=case["tile"],
    valid=np.array(case["valid"]),
  )
  naive_sums, naive_grads = naive_pass(args, experts, targets, kept)
  close(sums, naive_sums, 1e-5)
  close(grads, naive_grads, 1e-4)
  for task, share in enumerate(dropped):
    wanted = np.repeat(np.array(case["valid"])[:, None], kept[task].shape[1], 1)
    assert not np.any(kept[task] & ~wanted)
    lost = np.sum(wanted & ~np.asarray(kept[task]))
    np.testing.assert_allclose(share, lost / max(np.sum(wanted), 1), rtol=1e-6)
    if strategy in ("dense", "pairs") or case["capacity"] in (None, 9):
      assert lost == 0


@st.composite
def roomy_cases(draw_):
  case = draw_(cases())
  case["skewed"] = draw_(st.booleans())
  case["spare"] = draw_(st.integers(0, 1))
  return case


def edge(batch, num_experts, ks, *, tile=None, skewed=False, padded=False):
  """A case at the edge of what shapes there are, with no slot to spare."""
  return dict(
    shape=(batch, num_experts, ks),
    inner=(),
    tile=tile,
    valid=[not padded] * batch,
    seed=0,
    skewed=skewed,
    spare=0,
  )


@settings(max_examples=4, deadline=None)
@given(roomy_cases())
@example(edge(1, 1, (1,)))
@example(edge(1, 4, (4, 1)))
@example(edge(5, 1, (1, 1), tile=2))
@example(edge(4, 4, (2, 4, 1), tile=16))
@example(edge(6, 5, (1, 2), tile=4, skewed=True))
@example(edge(3, 4, (2,), padded=True))
def test_strategies_agree_with_no_slot_to_spare(case):
  batch, num_experts, ks = case["shape"]
  args, experts, targets = make(
    case["seed"], batch, num_experts, ks, case["inner"]
  )
  if case["skewed"]:  # Every image wants the same experts.
    experts = [np.tile(np.arange(k, dtype=np.int32), (batch, 1)) for k in ks]
  valid = np.array(case["valid"])
  wanted = [
    sum(any(n in e[b] for e in experts) for b in np.flatnonzero(valid))
    for n in range(num_experts)
  ]
  capacity = max(*wanted, 1) + case["spare"]
  everything = [np.repeat(valid[:, None], k, 1) for k in ks]
  sums, grads = naive_pass(args, experts, targets, everything)
  for strategy in EXPLICIT:
    found, dropped, kept, found_grads = engine_pass(
      args,
      experts,
      targets,
      strategy=strategy,
      capacity=capacity,
      tile=case["tile"],
      valid=valid,
    )
    assert not any(dropped)
    for rows, all_rows in zip(kept, everything):
      np.testing.assert_array_equal(rows, all_rows)
    close(found, sums, 1e-5)
    close(found_grads, grads, 1e-4)


@pytest.mark.parametrize("strategy", ["gather", "einsum"])
def test_dropped_choices_are_counted(strategy):
  args, _, targets = make(0, 4, 3, (1, 2))
  experts = [
    np.zeros((4, 1), "i4"),
    np.array([[0, 1], [0, 2], [1, 2], [2, 1]], "i4"),
  ]
  _, dropped, _, _ = engine_pass(
    args, experts, targets, strategy=strategy, capacity=2
  )
  # Expert 0 has images 0 and 1, expert 1 has 2 and 0, expert 2 has 3 and 1.
  np.testing.assert_allclose(dropped, [2 / 4, 2 / 8])


@pytest.mark.parametrize("strategy", ["gather", "einsum", "pairs"])
def test_padding_reaches_no_expert(strategy):
  args, experts, targets = make(0, 6, 3, (2, 1), (2,))
  valid = np.array([True, False, True, True, False, True])
  args[1][~valid] = np.nan
  sums, _, _, grads = engine_pass(
    args, experts, targets, strategy=strategy, valid=valid
  )
  assert not any(np.any(s[~valid]) for s in sums)
  assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves((sums, grads)))


@pytest.mark.default_flags
@pytest.mark.parametrize("strategy", EXPLICIT)
def test_an_image_does_not_see_its_batch(strategy):
  (params, x, weights), experts, _ = make(3, 6, 4, (2, 3), (3,))

  @jax.jit
  def run(x, experts, weights):
    results = engine.apply_experts(
      expert, params, x, experts, strategy=strategy
    )
    return [results.combine(i, w) for i, w in enumerate(weights)]

  together = run(x, experts, weights)
  for rows in ([4], [5, 4], [4, 0, 4, 4, 1, 2, 3]):
    rows = np.array(rows)
    subset = x[rows], [e[rows] for e in experts], [w[rows] for w in weights]
    for found, expected in zip(run(*subset), together):
      np.testing.assert_allclose(found, expected[rows], atol=1e-6)


def two_layers(params, x, mask):
  return jax.nn.gelu(x @ params["a"]) @ params["b"]


def value_and_gradient(wanted, remat):
  """Of two layers by "pairs", a function of the arrays wanted, and those."""
  experts = [choices(0, 6, 3, 2)]
  values = {
    "a": draw(0, (3, C, 5)),
    "b": draw(1, (3, 5, D)),
    "x": draw(2, (6, C)),
  }

  def loss(moving):
    all_ = {**values, **moving}
    results = engine.apply_experts(
      two_layers,
      {n: all_[n] for n in "ab"},
      all_["x"],
      experts,
      strategy="pairs",
      remat=remat,
    )
    return jnp.sum(results.combine(0, jnp.ones((6, 2))))

  return jax.value_and_grad(loss), {n: values[n] for n in wanted}


def products(wanted):
  """Matrix products in the program where nothing is stored."""
  function, arrays = value_and_gradient(wanted, remat=True)
  jaxpr = jax.make_jaxpr(function)(arrays)
  return [e.primitive.name for e in all_eqns(jaxpr.jaxpr)].count("dot_general")


def operations(wanted):
  """Operations in the compiled program where products are stored."""
  function, arrays = value_and_gradient(wanted, remat=False)
  return jax.jit(function).lower(arrays).compile().cost_analysis()["flops"]


def test_what_is_frozen_costs_no_gradient_work():
  # The forward loop and its repetition are 2 products each. The gradient of b
  # is 1 more; that of a, or of x, is 1 and the way back through b is 1.
  assert products("b") == 4 + 1
  assert products("a") == products("x") == 4 + 2
  assert products("ab") == 4 + 3
  assert products("abx") == 4 + 4


def test_what_is_frozen_costs_no_gradient_work_beside_what_is_stored():
  assert operations("b") < operations("a") < operations("ab")
  assert operations("x") < operations("abx")


@pytest.mark.parametrize("wanted", ["a", "b", "x", "ab", "abx"])
@pytest.mark.parametrize("terms", [1, 5, 6])
def test_stored_products_are_those_computed_again(monkeypatch, wanted, terms):
  # The products have sums of C = 3 and of 5 terms.
  monkeypatch.setattr(pairs, "_STORED_TERMS", terms)
  again, arrays = value_and_gradient(wanted, remat=True)
  stored, _ = value_and_gradient(wanted, remat=False)
  close(jax.jit(stored)(arrays), jax.jit(again)(arrays), 1e-6)
  # Of the first product the gradient of a layer needs the result; nothing needs
  # that of the second.
  jaxpr = jax.make_jaxpr(stored)(arrays)
  loops = [e for e in all_eqns(jaxpr.jaxpr) if e.primitive.name == "while"]
  rows = {v.aval.shape[-1] for v in loops[0].outvars if v.aval.ndim == 3}
  assert rows == ({5} if terms <= C else set())


@pytest.mark.parametrize("strategy", EXPLICIT)
def test_rows_may_be_numpy_arrays(strategy):
  (params, x, weights), experts, _ = make(0, 6, 5, (2,))

  @jax.jit
  def run(params, experts):
    results = engine.apply_experts(
      expert, params, np.asarray(x), experts, strategy=strategy
    )
    return results.combine(0, weights[0])

  assert run(params, experts).shape == (6, D)


def test_gradients_of_frozen_parameters_are_not_even_allocated():
  args, experts, _ = make(0, 6, 5, (2,))

  def loss(bias):
    params = {**args[0], "bias": bias}
    results = engine.apply_experts(
      expert, params, args[1], experts, strategy="pairs"
    )
    return jnp.sum(results.combine(0, args[2][0]))

  jaxpr = jax.make_jaxpr(jax.grad(loss))(args[0]["bias"])
  eqns = list(all_eqns(jaxpr.jaxpr))
  tiles = [e for e in eqns if e.primitive.name == "while"]
  experts = [e for e in eqns if e.primitive.name == "scan"]
  assert len(tiles) == len(experts) == 2  # there, and back
  found = [v.aval.shape for e in (*tiles, *experts) for v in e.outvars]
  assert (D,) in found and (5, D) in found  # the bias: of one, of all
  for frozen in ((C, D), (5, C, D), (6, C)):
    assert frozen not in found


def test_work_and_memory_follow_the_pairs():
  batch, num_experts = 16, 8
  experts = np.zeros((batch, 1), "i4")  # all at one expert
  experts[:3] = 5
  tiles = []

  def counted(params, x, mask):
    jax.debug.callback(lambda m: tiles.append(int(np.sum(m))), mask)
    return expert(params, x, mask)

  (params, x, _), _, _ = make(0, batch, num_experts, (1,), (7,))
  run = jax.jit(
    lambda params, x: (
      engine.apply_experts(
        counted, params, x, [experts], strategy="pairs", tile=4
      ).outputs
    )
  )
  run(params, x).block_until_ready()
  jax.effects_barrier()
  assert tiles == [4, 4, 4, 1, 3]
  jaxpr = jax.make_jaxpr(jax.grad(lambda params: jnp.sum(run(params, x))))(
    params
  )
  largest = max(
    v.aval.size
    for e in all_eqns(jaxpr.jaxpr)
    for v in e.outvars
    if v.aval.dtype == jnp.float32
  )
  assert largest < batch * num_experts * 7 * C


@pytest.mark.parametrize("inner_jit", [False, True])
def test_closures_may_hold_tracers_and_keys(inner_jit):
  (params, x, weights), experts, _ = make(0, 5, 3, (2,))

  def loss(scale, strategy, key):
    def fn(params, x, mask):
      noise = jax.random.normal(key, (D,)) + jax.random.normal(params["key"])
      return expert(params, x, mask) * scale + noise

    keyed = {**params, "key": jax.random.split(key, 3)}
    results = engine.apply_experts(fn, keyed, x, experts, strategy=strategy)
    return jnp.sum(results.combine(0, weights[0]) ** 2)

  if inner_jit:  # The backward pass then runs when the trace is over.
    loss = jax.jit(loss, static_argnums=1)
  run = jax.value_and_grad(loss)
  if not inner_jit:
    run = jax.jit(run, static_argnums=1)
  close(
    run(1.5, "pairs", jax.random.key(7)),
    run(1.5, "dense", jax.random.key(7)),
    1e-5,
  )


@pytest.mark.default_flags
@pytest.mark.parametrize("strategy", EXPLICIT)
def test_bfloat16(strategy):
  args, experts, targets = make(0, 6, 4, (2,))
  exact, _, _, exact_grads = engine_pass(
    args, experts, targets, strategy="dense"
  )
  low = jax.tree.map(lambda v: v.astype(jnp.bfloat16), (args, targets))
  sums, _, _, grads = engine_pass(low[0], experts, low[1], strategy=strategy)
  assert {v.dtype for v in jax.tree.leaves((sums, grads))} == {
    jnp.dtype(jnp.bfloat16)
  }
  close(*jax.tree.map(lambda v: np.asarray(v, "f4"), (sums, exact)), 0.05)
  close(*jax.tree.map(lambda v: np.asarray(v, "f4"), (grads, exact_grads)), 0.2)


@pytest.mark.parametrize("strategy", ["dense", "gather"])
def test_rematerialisation_changes_nothing(strategy):
  args, experts, targets = make(0, 6, 4, (2, 1))
  plain = engine_pass(args, experts, targets, strategy=strategy)
  again = engine_pass(args, experts, targets, strategy=strategy, remat=True)
  close(again, plain, 1e-6)


def test_x_may_be_a_tree():
  (params, x, weights), experts, _ = make(0, 5, 3, (2,))

  def fn(params, rows, mask):
    return expert(params, rows["x"], mask) * rows["index"][:, None]

  rows = {"x": x, "index": np.arange(5, dtype=np.int32)}

  @functools.partial(jax.jit, static_argnums=0)
  def run(strategy, params, rows):
    results = engine.apply_experts(fn, params, rows, experts, strategy=strategy)
    return results.combine(0, weights[0])

  found = [run(strategy, params, rows) for strategy in EXPLICIT]
  for other in found[1:]:
    np.testing.assert_allclose(other, found[0], atol=1e-5)


def test_ragged_mlp_is_an_mlp_of_the_engine():
  n, batch, width = 4, 9, 5
  experts = [choices(0, batch, n, 2), choices(1, batch, n, 1)]
  weights = [draw(5, (batch, 2)), draw(6, (batch, 1))]
  valid = np.arange(batch) != 3
  values = [
    draw(i, s)
    for i, s in enumerate(
      [(batch, C), (n, C, width), (n, width), (n, width, D), (n, D)]
    )
  ]

  def mlp(params, x, mask):
    a, b, c, d = params
    return jax.nn.relu(x @ a + b) @ c + d

  def loss(ragged, values):
    x, *params = values
    if ragged:
      results = ragged_mlp(
        x, *params, experts, activation=jax.nn.relu, valid=valid
      )
    else:
      results = engine.apply_experts(
        mlp, params, x, experts, strategy="gather", valid=valid
      )
    sums = [results.combine(i, w) for i, w in enumerate(weights)]
    return sum(jnp.sum(jnp.sin(s)) for s in sums), sums

  run = jax.jit(
    jax.value_and_grad(loss, argnums=1, has_aux=True), static_argnums=0
  )
  (_, sums), grads = run(True, values)
  (_, expected), expected_grads = run(False, values)
  close(sums, expected, 1e-5)
  close(grads, expected_grads, 1e-4)
  with pytest.raises(InputError, match=r"\(9, 2, 3\).*\[B, 3\]"):
    ragged_mlp(np.zeros((9, 2, 3)), *values[1:], experts)


@pytest.mark.parametrize(
  ("options", "expected"),
  [
    (dict(), "pairs"),
    (dict(ks=[6, 1]), "dense"),
    (dict(num_experts=1, ks=[1]), "dense"),
    (dict(num_experts=1, ks=[1], train=False), "pairs"),
    (dict(num_experts=1, ks=[1], train=False, batch_size=1), "dense"),
    (dict(num_experts=3, train=False, batch_size=1), "dense"),
    (dict(num_experts=3, train=False), "pairs"),
    (dict(num_experts=8, train=False, batch_size=1), "pairs"),
    (dict(num_experts=3, train=False, batch_size=4, row_size=2880), "dense"),
    (dict(num_experts=3, train=False, batch_size=4, row_size=15680), "pairs"),
    (dict(num_experts=6, train=False, batch_size=4, row_size=2880), "pairs"),
    (dict(num_experts=3, train=False, batch_size=5, row_size=1), "pairs"),
    (dict(num_experts=3, batch_size=1), "pairs"),  # with gradients
    (dict(train=False, capacity=8), "gather"),
    (dict(ks=[6], train=False, capacity=8), "pairs"),
    (dict(ks=[6], train=False, rows_interact=True), "dense"),
    (dict(ks=[6], train=False, sharded=True), "dense"),
    (dict(ks=[6], train=False, backend="gpu"), "dense"),
    (dict(capacity=8), "gather"),
    (dict(capacity=16), "pairs"),  # room for all
    (dict(rows_interact=True), "gather"),
    (dict(sharded=True), "all_to_all"),
    (dict(backend="gpu"), "gather"),
    (dict(backend="gpu", ks=[2, 1]), "pairs"),
    (dict(backend="tpu", ks=[2], capacity=4), "gather"),
  ],
)
def test_choice_of_strategy(options, expected):
  given_ = dict(batch_size=16, num_experts=6, ks=[2, 2], backend="cpu")
  given_.update(options)
  assert engine.choose_strategy(**given_) == expected


@pytest.mark.parametrize(
  ("shape", "num_experts", "expected"),
  [
    ((16, 224, 224, 3), 8, 1),
    ((64, 14, 14, 1024), 8, 2),
    ((64, 4, 4, 32), 8, 16),
    ((784, 384), 8, 224),
    ((16, 2048), 8, 5),
    ((1, 8), 8, 1),
  ],
)
def test_default_tile(shape, num_experts, expected):
  found = pair_plan.default_tile(shape, 2 * shape[0], num_experts)
  assert found == expected


@pytest.mark.parametrize(
  ("shape", "share", "expected"),
  [
    ((1, 224, 224, 3), 1.0, 1),
    ((16, 224, 224, 3), 1.0, 2),
    ((16, 224, 224, 3), 0.1, 1),  # two for an expert: one after another
    ((16, 96, 96, 3), 1.0, 11),
    ((16, 6, 6, 80), 8 / 9, 16),
    ((16, 6, 6, 80), 0.25, 2),
    ((4, 6, 6, 80), 1.0, 2),
    ((2000, 7), 1.0, 2000),
    ((1, 4096, 4096, 3), 1.0, 1),  # larger than all caches
  ],
)
def test_forward_tile(shape, share, expected):
  assert pair_plan.forward_tile(shape, share) == expected


def test_tiles_without_gradients_change_no_value():
  (params, x, _), experts, _ = make(0, 9, 3, (2, 2))

  def run(strategy):
    results = engine.apply_experts(
      expert, params, x, experts, strategy=strategy, train=False
    )
    weights = jnp.full(experts[0].shape, 0.5)
    return [results.combine(i, weights) for i in range(2)]

  close(run("pairs"), run("dense"), 1e-5)


def test_forward_tile_of_any_batch():
  (batch,) = export.symbolic_shape("b")
  assert pair_plan.forward_tile((batch, 8, 8, 3), 1.0) == 1
  assert engine.choose_strategy(batch, 3, [2, 2], train=False) == "pairs"


def test_expected_union():
  for n in range(1, 9):
    for k in range(1, n + 1):
      assert strategies.expected_union(n, [k]) == pytest.approx(k)
      for other in range(1, n + 1):
        # By counting: the other task's choices are the same for all sets.
        sets = list(itertools.combinations(range(n), other))
        met = sum(len(set(range(k)) | set(s)) for s in sets) / len(sets)
        union = strategies.expected_union(n, [k, other])
        assert union == pytest.approx(met)
  assert strategies.expected_union(3, [5]) == 3


def test_more_experts_left_out_never_turn_the_loop_down():
  for batch in (1, 2, 3, 4, 16, 1000):
    for k in (1, 2, 3):
      chosen = [
        engine.choose_strategy(batch, n, [k, k], train=False, backend="cpu")
        for n in range(k, 20)
      ]
      assert set(chosen) <= {"dense", "pairs"}
      assert chosen == sorted(chosen)  # "dense" first


def test_bad_input_is_named():
  (params, x, _), experts, _ = make(0, 4, 3, (2,))
  run = functools.partial(engine.apply_experts, expert)
  with pytest.raises(InputError, match="strategy='fast'"):
    run(params, x, experts, strategy="fast")
  with pytest.raises(InputError, match="experts_per_task"):
    run(params, x, [])
  with pytest.raises(InputError, match="tile=0"):
    run(params, x, experts, strategy="pairs", tile=0)
  with pytest.raises(InputError, match="rows_interact"):
    run(params, x, experts, strategy="pairs", rows_interact=True)
  with pytest.raises(InputError, match="first axes"):
    run({**params, "bias": np.zeros((2, D))}, x, experts)
  with pytest.raises(InputError, match="first axes"):
    run({}, x, experts)
  results = run(params, x, experts)
  with pytest.raises(InputError, match=r"\(4, 3\).*must be \(4, 2\)"):
    results.combine(0, np.ones((4, 3)))


def test_a_mesh_of_one_device_changes_no_choice():
  mesh = jax.make_mesh((1, 1), ("data", "expert"))
  with jax.set_mesh(mesh):
    assert engine.choose_strategy(8, 4, [2], backend="cpu") == "pairs"
