"""Sparse equals dense: every strategy with every norm, gate and selection.

The whole product runs on the model's experts of two convolutions, with gates
that are given logits. Whole models take seconds each to compile: their rows
are chosen so that every pair of options meets. To 1e-5 in values and 1e-4 in
the gradient of every parameter.

Letters: B images, N experts, K experts per image and task, T tasks.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.errors import InputError
from mtlmoe_jax.moe import routing
from tests.support.draws import draw
from tests.support.experts import (
  BARE,
  B,
  D,
  N,
  close,
  expert_variables,
  run_experts,
)
from tests.support.models import (
  IMAGES,
  filled,
  jit,
  make,
  make_config,
  train_pass,
)

STRATEGIES = ("gather", "einsum", "pairs")
VALID = np.array([True, True, False, True, True, True])

# --- every combination, on experts -------------------------------------------


def run_gates(kind, select, logits, noise):
  """The routings of two tasks."""
  if kind == "uniform":
    return [routing.uniform_routing(B, N, VALID) for _ in logits]
  if kind == "random":
    if select == "joint":
      return [routing.random_routing(noise[0], 2, VALID)] * 2
    return [routing.random_routing(d, k, VALID) for d, k in zip(noise, (2, 1))]
  scores = [routing.Scores(x, e, 0.5) for x, e in zip(logits, noise)]
  if select == "joint":
    return routing.joint_routing(kind, scores, 2, VALID)
  return [
    routing.separate_routing(kind, s, k, VALID) for s, k in zip(scores, (2, 1))
  ]


# Compiled for themselves: no gate is compiled again for another strategy.
jit_experts = jax.jit(
  lambda strategy, norm, variables, x, chosen, weights: _combined(
    weights,
    *run_experts(norm, variables, x, chosen, strategy=strategy, valid=VALID),
  ),
  static_argnums=(0, 1),
)
jit_gates = jax.jit(run_gates, static_argnums=(0, 1))


def _combined(weights, results, after):
  sums = [results.combine(i, w) for i, w in enumerate(weights)]
  return sums, results.dropped, after


@functools.cache
def mixture_pass(strategy, norm, gate, select):
  """Sums, drops and statistics, and gradients of parameters, x and logits."""
  variables = expert_variables(norm)
  stats = {k: v for k, v in variables.items() if k != "params"}
  noise, targets = draw(5, (2, B, N)), draw(6, (2, B, D))

  def loss(params, x, logits):
    routings = jit_gates(gate, select, logits, noise)
    sums, dropped, after = jit_experts(
      strategy,
      norm,
      {"params": params, **stats},
      x,
      [r.experts for r in routings],
      [r.weights for r in routings],
    )
    total = sum(jnp.vdot(s, t) for s, t in zip(sums, targets))
    total += sum(sum(r.losses.values()) for r in routings)
    return total, (sums, dropped, after)

  args = variables["params"], draw(3, (B, 8, 8, 3)), 2 * draw(4, (2, B, N))
  (_, out), grads = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(*args)
  return *out, grads


@pytest.mark.parametrize("select", config_lib.SELECTS)
@pytest.mark.parametrize("gate", config_lib.GATES)
@pytest.mark.parametrize("norm", config_lib.NORMS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_experts_of_every_combination(strategy, norm, gate, select):
  if strategy == "pairs" and norm == "batch":
    with pytest.raises(InputError, match=r"norm='batch'.*dispatch='pairs'"):
      make_config(
        compute="sparse", dispatch="pairs", norm=norm, gate=gate, select=select
      )
    return
  sums, dropped, after, grads = mixture_pass(strategy, norm, gate, select)
  dense, _, expected, dense_grads = mixture_pass("dense", norm, gate, select)
  close(sums, dense, 1e-5)
  if strategy != "pairs":
    close(after, expected, 1e-5)
  close(grads, dense_grads, 1e-4)
  np.testing.assert_array_equal(dropped, 0)
  for leaf in jax.tree.leaves(grads[0]):
    assert np.any(leaf != 0)


# --- every pair of options, in whole models ----------------------------------

# Strategy, norm, gate, selection.
ROWS = [
  ("gather", "batch", "dense", "separate"),
  ("einsum", "frozen", "dense", "joint"),
  ("pairs", "group", "dense", "separate"),
  ("einsum", "batch", "noisy_top_k", "joint"),
  ("pairs", "frozen", "noisy_top_k", "separate"),
  ("gather", "group", "noisy_top_k", "joint"),
  ("gather", "batch", "top_k", "separate"),
  ("pairs", "frozen", "top_k", "joint"),
  ("einsum", "group", "top_k", "separate"),
  ("einsum", "batch", "uniform", "joint"),
  ("gather", "frozen", "uniform", "separate"),
  ("pairs", "group", "uniform", "separate"),
  ("gather", "group", "random", "joint"),
  ("einsum", "batch", "random", "separate"),
  ("pairs", "frozen", "random", "separate"),
]
ROW_NAMES = ["-".join(row) for row in ROWS]
IMAGES_VALID = np.array([True, False, True, True, True])
SPARSE_OR_DENSE = {
  "dense": dict(compute="dense"),
  **{s: dict(compute="sparse", dispatch=s) for s in STRATEGIES},
}


def test_rows_hold_every_pair_of_options():
  axes = STRATEGIES, config_lib.NORMS, config_lib.GATES, config_lib.SELECTS
  # all_to_all is for several devices: tests/processes/test_exchange.py.
  assert set(STRATEGIES) == set(config_lib.DISPATCHES) - {"auto", "all_to_all"}
  for i, j in itertools.combinations(range(4), 2):
    pairs = set(itertools.product(axes[i], axes[j]))
    assert pairs - {(row[i], row[j]) for row in ROWS} <= {("pairs", "batch")}


@functools.cache
def compiled_model(strategy, norm, gate, select):
  """A pass of a two-task model in training, and its variables."""
  model = make(
    **SPARSE_OR_DENSE[strategy],
    norm=norm,
    gate=gate,
    select=select,
    k="2" if select == "joint" else "1,2",
    condense="pool",
    gate_width=4,
  ).clone(backbone=BARE)
  return train_pass(model), filled(model, IMAGES)


def both(row, change=lambda variables: variables):
  """Passes of a row, sparse and dense."""
  for strategy in (row[0], "dense"):
    run, variables = compiled_model(strategy, *row[1:])
    yield run(change(variables), IMAGES, IMAGES_VALID)


def check_both(sparse, dense):
  (value, (a, after)), grads = sparse
  (expected, (b, dense_after)), dense_grads = dense
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  for x, y in ((a.logits, b.logits), (a.box, b.box)):
    close(x[IMAGES_VALID], y[IMAGES_VALID], 1e-5)
  close(after, dense_after, 1e-5)
  close(grads, dense_grads, 1e-4)
  for task, routed in a.routing.items():
    assert routed.metrics["dropped"] == 0
    np.testing.assert_array_equal(routed.experts, b.routing[task].experts)


@pytest.mark.parametrize("row", ROWS, ids=ROW_NAMES)
def test_models_of_every_pair_of_options(row):
  sparse, dense = both(row)
  check_both(sparse, dense)
  for leaf in jax.tree.leaves(sparse[1]["experts"]):
    assert np.any(leaf != 0)


@pytest.mark.parametrize("norm", config_lib.NORMS)
def test_evaluation_of_every_norm(norm):
  found = []
  for options in (dict(compute="dense"), dict(compute="sparse")):
    # Stored statistics: what training would refuse, "auto" may take.
    model = make(
      **options, norm=norm, k="1,2", condense="pool", gate_width=4
    ).clone(backbone=BARE)
    variables = filled(model, IMAGES)
    found.append(jit(lambda v, x, m=model: m.apply(v, x))(variables, IMAGES))
  close(found[1].logits, found[0].logits, 1e-5)
  close(found[1].box, found[0].box, 1e-5)


# Bias of the last layer of every gate, and factor on its kernel.
EXTREMES = {
  "equal": ([0.0, 0.0, 0.0], 0.0),
  "two first": ([-1e4, 1e4, 1e4], 0.0),
  "apart": ([1e4, 0.0, -1e4], 0.0),
  "steep": ([0.0, 0.0, 0.0], 1e4),
}


def extreme_heads(kind):
  bias, factor = EXTREMES[kind]

  def change(variables):
    params = dict(variables["params"])
    for name in [name for name in params if name.startswith("gate")]:
      kernel = factor * params[name]["logits"]["kernel"]
      head = {"kernel": kernel, "bias": np.array(bias, np.float32)}
      params[name] = {**params[name], "logits": head}
    return {**variables, "params": params}

  return change


@pytest.mark.parametrize("kind", EXTREMES)
@pytest.mark.parametrize(
  "row", [r for r in ROWS if r[2] not in ("uniform", "random")], ids="-".join
)
def test_models_survive_extreme_logits(row, kind):
  sparse, dense = both(row, extreme_heads(kind))
  # A steep gate makes an ulp of its features a logit: no two programs agree.
  if kind != "steep":
    check_both(sparse, dense)
  assert all(np.all(np.isfinite(v)) for v in jax.tree.leaves(sparse))
  ks = {"class": 2 if row[3] == "joint" else 1, "box": 2}
  for task, routed in sparse[0][1][0].routing.items():
    k = 3 if row[2] == "dense" else ks[task]
    experts = np.asarray(routed.experts)
    assert experts.shape == (len(IMAGES), k)
    assert all(len(set(chosen)) == k for chosen in experts.tolist())
    if k > 1 and row[2] != "top_k":
      np.testing.assert_allclose(np.sum(routed.weights, 1), 1, rtol=1e-6)
