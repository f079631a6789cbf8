"""A checkpoint of one topology restored on another."""

import json
import pathlib

import jax
import numpy as np
import pytest

from mtlmoe_jax.devices import sharding
from mtlmoe_jax.training import checkpointing
from tests.support import steps, tiny

# (data, expert, fsdp): of 8, 1, 2 and 8 devices.
SAVED, OTHERS = (4, 2, 1), ((1, 1, 1), (2, 1, 1), (1, 8, 1), (2, 2, 2))
META = {"config": {}, "class_names": []}


def mesh_of(shape):
  count = int(np.prod(shape))
  return sharding.make_mesh(*shape, devices=jax.devices()[:count])


def trained(mesh):
  """A state whose every leaf is different from a new one's."""
  with jax.set_mesh(mesh):
    state, step = steps.build(
      mesh, **{"model.experts": 8, "model.norm": "batch"}
    )
    state, _ = step(state, steps.batch(8))
  return state


def restored(folder, state, mesh):
  """(state, whether each leaf is where the rules of the mesh put it)."""
  checkpointer = checkpointing.Checkpointer(folder)
  step = checkpointer.latest_step()
  found, data, _ = checkpointer.restore(
    step, checkpointing.abstract_state(state, mesh)
  )
  checkpointer.close()
  assert data == {"batches": 1}
  places = sharding.tree_shardings(found, mesh)
  right = jax.tree.map(
    lambda v, s: v.sharding.is_equivalent_to(s, v.ndim), found, places
  )
  return found, all(jax.tree.leaves(right))


def saved(folder, state):
  checkpointer = checkpointing.Checkpointer(folder)
  checkpointer.save(state, {"batches": 1}, META, None)
  checkpointer.close()


def equal(one, other):
  same = jax.tree.map(
    lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), one, other
  )
  return all(jax.tree.leaves(same))


def on_devices(folder):
  """Whether values and places are right, there and back, by topology."""
  sharding.SPLIT_FROM = 64  # The model is tiny.
  folder, mesh = pathlib.Path(folder), mesh_of(SAVED)
  state = trained(mesh)
  saved(folder / "first", state)
  out = {}
  for shape in OTHERS:
    other = mesh_of(shape)
    there, placed = restored(folder / "first", state, other)
    saved(folder / str(shape), there)
    back, placed_back = restored(folder / str(shape), state, mesh)
    out[str(shape)] = [
      equal(state, there),
      placed,
      equal(state, back),
      placed_back,
    ]
  print(json.dumps(out))


@pytest.mark.slow
def test_any_topology_restores_any_other(tmp_path):
  program = (
    "import sys; from tests.processes import test_parallel_checkpoint as t; "
    "t.on_devices(sys.argv[1])"
  )
  out = tiny.run_on_devices(8, program, str(tmp_path))
  found = json.loads(out.splitlines()[-1])
  assert found == {str(shape): [True] * 4 for shape in OTHERS}
