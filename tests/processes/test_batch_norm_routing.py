"""Batch statistics of experts that see only their own images.

Against a loop over experts in which each is run on the images it received and
on nothing else, and on eight devices against one.

Letters: B images, N experts, K experts per image and task, T tasks.
"""

import functools
import json
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mtlmoe_jax.devices import sharding
from tests.support import experts as equal
from tests.support import tiny
from tests.support.draws import choices, draw
from tests.support.models import filled, make, train_pass

B, N, D = equal.B, equal.N, equal.D
KS = (2, 1)
EPSILON, MOMENTUM = 1e-3, 0.9

# --- one device, against a loop ----------------------------------------------


def naive_norm(x, scale, bias):
  """Normalised [R, H, W, C], and the mean and variance of each channel."""
  mean = jnp.mean(x, (0, 1, 2))
  var = jnp.mean((x - mean) ** 2, (0, 1, 2))
  return (x - mean) / jnp.sqrt(var + EPSILON) * scale + bias, (mean, var)


def naive_expert(params, x):
  """`equal.BARE` and its condense layer on the images of one expert."""
  backbone, moments = params["backbone"], {}
  for name, strides in (("stem", 2), ("head", 1)):
    x = lax.conv_general_dilated(
      x,
      backbone[f"{name}_conv"]["kernel"],
      (strides, strides),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x, moments[name] = naive_norm(x, **backbone[f"{name}_norm"])
    x = x / (1 + jnp.exp(-x))
  condense = params["condense"]
  x = jnp.mean(x, (1, 2)) @ condense["kernel"] + condense["bias"]
  return x / (1 + jnp.exp(-x)), moments


def naive_mixture(params, stats, x, weights, chosen, kept):
  """Sums of each task and the statistics afterwards, one expert at a time."""
  sums = [jnp.zeros((B, D)) for _ in chosen]
  stats = jax.tree.map(jnp.asarray, stats)
  for n in range(N):
    received = [
      b
      for b in range(B)
      if any(np.any((e == n) & k, 1)[b] for e, k in zip(chosen, kept))
    ]
    if not received:
      continue
    own = jax.tree.map(operator.itemgetter(n), params)
    outputs, moments = naive_expert(own, x[np.array(received)])
    for task, (e, k) in enumerate(zip(chosen, kept)):
      for b, j in zip(*np.nonzero((e == n) & k)):
        row = weights[task][b, j] * outputs[received.index(b)]
        sums[task] = sums[task].at[b].add(row)
    for name, values in moments.items():
      old = stats["backbone"][f"{name}_norm"]
      for key, value in zip(("mean", "var"), values):
        follow = MOMENTUM * old[key][n] + (1 - MOMENTUM) * value
        old[key] = old[key].at[n].set(lax.stop_gradient(follow))
  return sums, stats


def mixture(strategy, capacity, params, stats, x, weights, chosen, valid):
  variables = {"params": params, "batch_stats": stats}
  results, after = equal.run_experts(
    "batch",
    variables,
    x,
    chosen,
    strategy=strategy,
    valid=valid,
    **({"capacity": capacity} if strategy != "dense" else {}),
  )
  sums = [results.combine(i, w) for i, w in enumerate(weights)]
  return sums, after["batch_stats"], results.plan.kept


def passes(how, params, stats, x, weights, *rest):
  """Values, and gradients of parameters, images and weights."""

  def loss(params, x, weights):
    sums, *others = how(params, stats, x, weights, *rest)
    targets = [draw(20 + i, s.shape) for i, s in enumerate(sums)]
    total = sum(jnp.vdot(s, t) for s, t in zip(sums, targets))
    return total, (sums, *others)

  (_, out), grads = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(
    params, x, weights
  )
  return *out, grads


@functools.partial(jax.jit, static_argnums=(0, 1))
def routed_pass(strategy, capacity, *args):
  return passes(functools.partial(mixture, strategy, capacity), *args)


# Both tasks' experts of each image; expert 3 is chosen by nobody.
UNEVEN = [
  np.array([[0, 1], [1, 0], [0, 2], [1, 2], [0, 1], [1, 0]], np.int32),
  np.array([[1], [0], [0], [0], [0], [1]], np.int32),
]
CASES = {
  # Expert 2 is left with one image: those that chose it are 2 and 3.
  "uneven": (UNEVEN, [1, 1, 0, 1, 1, 1]),
  "full": ([choices(i, B, N, k) for i, k in enumerate(KS)], [1] * B),
  "one image": (UNEVEN, [0, 0, 0, 1, 0, 0]),
  "only padding": (UNEVEN, [0] * B),
}


def arguments(valid):
  variables = equal.expert_variables("batch")
  x = draw(0, (B, 8, 8, 3))
  x[~valid] = 1e3  # What padding holds is of no meaning.
  weights = [draw(1 + i, (B, k)) for i, k in enumerate(KS)]
  return variables["params"], variables["batch_stats"], x, weights


@functools.cache
def naive_pass(name, kept):
  chosen, valid = CASES[name]
  kept = [np.array(rows) for rows in kept]
  how = functools.partial(naive_mixture, chosen=chosen, kept=kept)
  return jax.jit(functools.partial(passes, how))(
    *arguments(np.array(valid, bool))
  )


@pytest.mark.parametrize(
  ("strategy", "capacity"),
  [("dense", None), ("gather", None), ("einsum", None), ("gather", 2)],
  ids=["dense", "gather", "einsum", "dropping"],
)
@pytest.mark.parametrize("name", CASES)
def test_statistics_are_those_of_the_images_received(name, strategy, capacity):
  chosen, valid = CASES[name][0], np.array(CASES[name][1], bool)
  args = arguments(valid)
  sums, stats, kept, grads = routed_pass(
    strategy, capacity, *args, chosen, valid
  )
  hashable = tuple(tuple(map(tuple, np.asarray(k).tolist())) for k in kept)
  expected, expected_stats, expected_grads = naive_pass(name, hashable)
  equal.close(sums, expected, 1e-5)
  equal.close(stats, expected_stats, 1e-5)
  equal.close(grads, expected_grads, 1e-4)
  lost = sum(np.sum(valid[:, None] & ~np.asarray(k)) for k in kept)
  assert (lost > 0) == (capacity == 2 and np.sum(valid) > 1)
  served = set(
    np.concatenate([e[np.asarray(k)] for e, k in zip(chosen, kept)]).tolist()
  )
  for old, new in zip(jax.tree.leaves(args[1]), jax.tree.leaves(stats)):
    moved = {n for n in range(N) if np.any(old[n] != new[n])}
    assert moved == served
  assert not np.any(np.asarray(grads[1])[~valid])


# --- eight devices -----------------------------------------------------------

ROWS = 8
EIGHT_VALID = np.array([1, 1, 1, 0, 1, 1, 1, 1], bool)


def experts_on(mesh, strategy):
  """A pass of N experts under a mesh: values and gradients."""
  variables = equal.expert_variables("batch")
  chosen = [choices(i, ROWS, N, k) for i, k in enumerate(KS)]
  rows = [
    draw(0, (ROWS, 8, 8, 3)),
    [draw(1 + i, (ROWS, k)) for i, k in enumerate(KS)],
    chosen,
    EIGHT_VALID,
  ]
  tree = {"experts": variables}
  with jax.set_mesh(mesh):
    tree = jax.device_put(tree, sharding.tree_shardings(tree, mesh))
    rows = jax.device_put(rows, sharding.batch_sharding(mesh))
    placed = tree["experts"]
    sums, stats, _, grads = routed_pass(
      strategy, None, placed["params"], placed["batch_stats"], *rows
    )
  return jax.device_get([(sums, stats), grads])


def model_on(mesh):
  """The same of a whole sparse model."""
  model = make(
    norm="batch", experts=N, k="2,1", condense="pool", compute="sparse"
  ).clone(backbone=equal.BARE)
  images = np.random.default_rng(0).integers(
    0, 256, (ROWS, 16, 16, 3), dtype=np.uint8
  )
  variables = filled(model, images)
  with jax.set_mesh(mesh):
    variables = jax.device_put(
      variables, sharding.tree_shardings(variables, mesh)
    )
    rows = jax.device_put((images, EIGHT_VALID), sharding.batch_sharding(mesh))
    (value, (out, stats)), grads = train_pass(model)(variables, *rows)
  outputs = out.logits[EIGHT_VALID], out.box[EIGHT_VALID]
  return jax.device_get([(value, *outputs, stats), grads])


_EIGHT = """
import json, sys
import jax, numpy as np
from mtlmoe_jax.devices import sharding
from tests.processes import test_batch_norm_routing as t
found = {}
for expert in (1, 4):
  mesh = sharding.make_mesh(-1, expert)
  assert mesh.devices.shape == (8 // expert, expert, 1)
  found[f"gather {expert}"] = t.experts_on(mesh, "gather")
  found[f"dense {expert}"] = t.experts_on(mesh, "dense")
found["model 4"] = t.model_on(mesh)
flat = {
  name: [np.asarray(v).tolist() for v in jax.tree.leaves(tree)]
  for name, tree in found.items()
}
json.dump(flat, open(sys.argv[1], "w"))
"""


def test_eight_devices_have_the_statistics_of_one(tmp_path):
  path = tmp_path / "found.json"
  tiny.run_on_devices(8, _EIGHT, str(path))
  found = json.loads(path.read_text())
  assert len(found) == 5
  mesh = sharding.make_mesh()
  experts = experts_on(mesh, "dense")
  for name, leaves in found.items():
    expected = model_on(mesh) if name.startswith("model") else experts
    leaves = jax.tree.unflatten(
      jax.tree.structure(expected), map(np.array, leaves)
    )
    for part, tolerance in enumerate((1e-5, 1e-4)):
      equal.close(leaves[part], expected[part], tolerance)
