"""Where arrays live: the device mesh and the rules that place parameters.

The mesh has two axes. Images are split over both, experts (every leaf below an
`experts`, whose first axis is their number) over `expert`; all else is
replicated. On one device the mesh is 1 x 1 and the same code runs.
"""

import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mtlmoe_jax import errors

# First match wins. The path is the leaf's key path joined by "/".
RULES = (
  (r"(^|/)experts/", PartitionSpec("expert")),
  (r"", PartitionSpec()),
)


def make_mesh(data: int = -1, expert: int = 1) -> Mesh:
  """The (data, expert) mesh over all local devices.

  Args:
    data: devices along the batch; -1 takes all that remain.
    expert: devices along the experts.

  Raises:
    InputError: the product does not match the number of devices.
  """
  count = jax.device_count()
  if data == -1 and count % expert == 0:
    data = count // expert
  if data * expert != count:
    raise errors.InputError(
      f"config.mesh.data={data} x config.mesh.expert={expert} is not the "
      f"{count} device(s) here: use -1 and a divisor of {count}"
    )
  # Auto axes: Linen's Dropout cannot run under the Explicit default.
  return jax.make_mesh(
    (data, expert), ("data", "expert"), axis_types=(AxisType.Auto,) * 2
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """A whole copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Images split over all devices."""
  return NamedSharding(mesh, PartitionSpec(("data", "expert")))


def tree_shardings(tree: Any, mesh: Mesh) -> Any:
  """A NamedSharding for each leaf of a (possibly abstract) tree, by RULES.

  A leaf whose first axis does not divide by the expert axis is replicated.
  """

  def place(path: tuple, leaf: Any) -> NamedSharding:
    name = path_name(path)
    spec = next(spec for rule, spec in RULES if re.search(rule, name))
    size = mesh.shape["expert"]
    if spec and (not np.shape(leaf) or np.shape(leaf)[0] % size):
      spec = PartitionSpec()
    return NamedSharding(mesh, spec)

  return jax.tree_util.tree_map_with_path(place, tree)


def path_name(path: tuple) -> str:
  """`params/experts/...` from a JAX key path."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def check_batch(batch_size: int, mesh: Mesh, key: str) -> None:
  """Refuses a batch that the devices cannot share evenly.

  Raises:
    InputError: naming the config key and the next sizes that fit.
  """
  count = mesh.size
  if batch_size % count:
    up = -(-batch_size // count) * count
    raise errors.InputError(
      f"config.{key}={batch_size} does not divide over {count} devices: use "
      f"{up}"
    )


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Moves one host batch to the devices, split along its first axis."""
  sharding = batch_sharding(mesh)
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, x), batch
  )
