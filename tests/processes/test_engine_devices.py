"""The engine on four devices against one."""

import json

import jax
import numpy as np

from tests.support import tiny
from tests.support.engine_passes import (
  close,
  engine_pass,
  make,
)

_MESH = """
import json, jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from mtlmoe_jax.errors import InputError
from tests.support import engine_passes as t
args, experts, targets = t.make(0, 8, 4, (2, 1))
auto = (AxisType.Auto,) * 2
mesh = jax.make_mesh((2, 2), ("data", "expert"), axis_types=auto)
with jax.set_mesh(mesh):
  params = jax.device_put(args[0], NamedSharding(mesh, P("expert")))
  rows = jax.device_put(args[1:], NamedSharding(mesh, P(("data", "expert"))))
  sums, _, _, grads = t.engine_pass(
    (params, *rows), experts, targets, strategy="auto"
  )
  chosen = t.engine.choose_strategy(8, 4, [2, 1])
  try:
    t.engine_pass(args, experts, targets, strategy="pairs")
  except InputError as error:
    refused = str(error)
  by_image = P(("data", "expert"))
  inside = jax.jit(jax.shard_map(
    lambda args, experts, targets: t.loss_and_sums(args, experts, targets),
    in_specs=((P(), by_image, by_image), by_image, by_image),
    out_specs=(P(), by_image),
  ))
  (_, split_sums), split_grads = jax.value_and_grad(inside, has_aux=True)(
    args, experts, targets
  )
out = [
  [np.asarray(v).tolist() for v in jax.tree.leaves(tree)]
  for tree in ((sums, grads), (split_sums, split_grads))
]
print(json.dumps([chosen, refused, out]))
"""


def test_four_devices_are_one():
  out = tiny.run_on_devices(4, _MESH)
  chosen, refused, found = json.loads(out.splitlines()[-1])
  assert chosen == "all_to_all"
  assert "several devices" in refused
  args, experts, targets = make(0, 8, 4, (2, 1))
  sums, _, _, grads = engine_pass(args, experts, targets, strategy="dense")
  expected = jax.tree.leaves((sums, grads))
  for leaves in found:
    close(list(map(np.array, leaves)), expected, 1e-4)
