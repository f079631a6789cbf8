"""Expert parallelism on virtual devices, against one device and a loop."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from mtlmoe_jax.devices import sharding
from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models import moe_layer
from mtlmoe_jax.moe import engine
from tests.support import engine_passes as t
from tests.support import tiny
from tests.support.draws import draw
from tests.support.models import filled

BATCH, EXPERTS, KS = 16, 8, (2, 1)
MESHES = ((8, 1), (4, 2), (2, 4), (1, 8))
VALID = np.arange(BATCH) % 5 != 3


def mesh_of(*shape):
  names = ("data", "expert", "fsdp")[: len(shape)]
  return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(shape))


def placed(args, mesh):
  params, *rows = args
  return (
    jax.device_put(params, NamedSharding(mesh, P("expert"))),
    *jax.device_put(rows, NamedSharding(mesh, P(mesh.axis_names))),
  )


def expert_of_tree(params, rows, mask):
  """Leaves of several types, all of which must arrive as they were sent."""
  image, index, flag = rows
  bent = jnp.where(flag, 1.0, -1.0) * jnp.sin(index.astype(jnp.float32))
  return t.expert(params, image * bent[:, None], mask)


def numbered(x):
  index = jnp.arange(x.shape[0], dtype=jnp.int32) * 70001 - 300
  return x, index, index % 2 == 0


@functools.partial(jax.jit, static_argnames="strategy")
def tree_pass(args, experts, targets, strategy):
  params, x, weights = args

  def loss(params, x, weights):
    found = engine.apply_experts(
      expert_of_tree,
      params,
      numbered(x),
      experts,
      valid=VALID,
      strategy=strategy,
    )
    sums = [found.combine(i, w) for i, w in enumerate(weights)]
    return sum(jnp.vdot(s, g) for s, g in zip(sums, targets)), sums

  return jax.grad(loss, (0, 1, 2), has_aux=True)(params, x, weights)


def collectives(text):
  found = re.findall(
    r" (all-to-all|all-gather|all-reduce|[a-z-]*permute)\(", text
  )
  return {name: found.count(name) for name in sorted(set(found))}


def forward(mesh):
  args, experts, _ = t.make(0, BATCH, EXPERTS, KS)

  def sums(params, x, weights):
    found = engine.apply_experts(
      t.expert, params, x, experts, strategy="all_to_all"
    )
    return [found.combine(i, w) for i, w in enumerate(weights)]

  return collectives(
    jax.jit(sums).lower(*placed(args, mesh)).compile().as_text()
  )


def tokens_pass(place=lambda tree: tree, **options):
  """A layer over tokens: its output, dropped share and gradients."""
  layer = moe_layer.MoEMlp(EXPERTS, 8, gate="top_k", noise=0.0, **options)
  x = draw(0, (BATCH, 6, 4))
  params = filled(layer, x)["params"]

  def loss(params, x):
    y, routed = layer.apply({"params": params}, x, train=True)
    return jnp.vdot(y, jnp.cos(y)), (y, routed.metrics["dropped"])

  fn = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
  arguments = place((params, x))
  run = fn.lower(*arguments).compile()  # Compiled once, run and read.
  return run(*arguments), collectives(run.as_text())


tokens_on_one_device = functools.cache(lambda: tokens_pass(group="image"))


def placed_tokens(mesh, arguments):
  params, x = arguments
  return (
    jax.device_put(params, sharding.tree_shardings(params, mesh)),
    jax.device_put(x, sharding.batch_sharding(mesh)),
  )


def on_devices():
  """What the test compares: printed by a process of eight devices."""
  args, experts, targets = t.make(0, BATCH, EXPERTS, KS)
  out = {}
  for shape in (*MESHES, (2, 2, 2)):
    mesh = mesh_of(*shape)
    with jax.set_mesh(mesh):
      here = placed(args, mesh)
      options = (("strategy", "all_to_all"),)
      arguments = here, experts, targets, VALID
      plain = t.program.lower(options, *arguments).compile()
      found = {
        "plain": plain(*arguments),
        "mapped": t.engine_pass(
          here, experts, targets, strategy="all_to_all", rows_interact=True
        ),
        "few": t.engine_pass(
          here, experts, targets, strategy="all_to_all", capacity=8
        ),
        "tree": tree_pass(here, experts, targets, strategy="all_to_all"),
      }
      out[str(shape)] = {
        **{
          name: [np.asarray(v).tolist() for v in jax.tree.leaves(value)]
          for name, value in found.items()
        },
        "chosen": engine.choose_strategy(BATCH, EXPERTS, KS),
        "odd": engine.choose_strategy(BATCH + 1, EXPERTS, KS),
        "all": engine.choose_strategy(BATCH, EXPERTS, (EXPERTS,)),
        "forward": forward(mesh),
        "gradient": collectives(plain.as_text()),
      }
      for group in ("image", "batch"):
        value, found = tokens_pass(
          functools.partial(placed_tokens, mesh), group=group
        )
        out[str(shape)][f"tokens of {group}"] = [
          np.asarray(v).tolist() for v in jax.tree.leaves(value)
        ]
        out[str(shape)][f"messages of {group}"] = found
      try:
        t.engine_pass(
          t.make(0, BATCH, EXPERTS, KS)[0],
          [e[:-1] for e in experts],
          targets,
          strategy="all_to_all",
        )
      except InputError as error:
        out[str(shape)]["refused"] = str(error)
  print(json.dumps(out))


@pytest.fixture(scope="module")
def eight():
  program = (
    "from tests.processes import test_exchange; test_exchange.on_devices()"
  )
  return json.loads(tiny.run_on_devices(8, program).splitlines()[-1])


ALL = [str(shape) for shape in (*MESHES, (2, 2, 2))]


def close(found, expected, tolerance=1e-5):
  leaves = jax.tree.leaves(expected)
  assert len(found) == len(leaves)
  for a, b in zip(found, leaves):
    np.testing.assert_allclose(np.array(a), b, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("mesh", ALL)
def test_any_mesh_is_one_device(eight, mesh):
  args, experts, targets = t.make(0, BATCH, EXPERTS, KS)
  expected = t.engine_pass(args, experts, targets, strategy="dense")
  close(eight[mesh]["mapped"], expected, 1e-4)
  expected = t.engine_pass(
    args, experts, targets, strategy="dense", valid=VALID
  )
  close(eight[mesh]["plain"], expected, 1e-4)
  expected = tree_pass(args, experts, targets, strategy="dense")
  close(eight[mesh]["tree"], expected, 1e-4)


@pytest.mark.parametrize("mesh", ALL)
def test_few_slots_are_shared_out_evenly(eight, mesh):
  args, experts, targets = t.make(0, BATCH, EXPERTS, KS)
  like = t.engine_pass(args, experts, targets, strategy="dense")
  sums, dropped, kept, grads = jax.tree.unflatten(
    jax.tree.structure(like), map(np.array, eight[mesh]["few"])
  )
  # 8 slots over 8 devices: each device's first image for an expert.
  for task, k in enumerate(kept):
    assert 0 < dropped[task] < 1
    np.testing.assert_allclose(dropped[task], 1 - k.mean(), rtol=1e-6)
  rows = np.arange(BATCH) // (BATCH // 8)
  for device in range(8):
    here = rows == device
    for expert in range(EXPERTS):
      served = [
        np.any(kept[i][here] & (e[here] == expert), axis=1)
        for i, e in enumerate(experts)
      ]
      assert np.sum(served[0] | served[1]) <= 1
  expected = t.naive_pass(args, experts, targets, kept)
  close(jax.tree.leaves((sums, grads)), expected, 1e-4)


@pytest.mark.parametrize("mesh", ALL)
def test_two_messages_there_and_back_and_no_more(eight, mesh):
  found = eight[mesh]
  apart = "8, 1" not in mesh
  assert found["chosen"] == "all_to_all"
  assert found["odd"] == "gather"
  assert found["all"] == ("all_to_all" if apart else "dense")
  assert "15 images and 8 experts" in found["refused"]
  assert found["forward"] == ({"all-to-all": 2} if apart else {})
  # Of parameters: the sum over replicas.
  gradient = dict(found["gradient"])
  assert gradient.pop("all-reduce") >= 1
  assert gradient == ({"all-to-all": 4} if apart else {})


@pytest.mark.parametrize("mesh", ALL)
def test_layers_over_tokens_are_those_of_one_device(eight, mesh):
  expected, _ = tokens_on_one_device()
  close(eight[mesh]["tokens of image"], expected, 1e-4)
  found = eight[mesh]["messages of image"]
  assert found.get("all-to-all", 0) == (0 if "8, 1" in mesh else 4)
  assert "all-gather" not in found
  # Of a batch: the part that a device has, so that fewer slots drop more.
  structure = jax.tree.structure(expected)
  leaves = map(np.array, eight[mesh]["tokens of batch"])
  _, (y, dropped) = jax.tree.unflatten(structure, leaves)
  assert np.isfinite(y).all() and 0 < dropped < 1
  found = eight[mesh]["messages of batch"]
  assert found.get("all-to-all", 0) == (0 if "8, 1" in mesh else 4)
  assert "all-gather" not in found
