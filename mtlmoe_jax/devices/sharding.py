"""Where arrays live: the device mesh and the rules that place parameters.

The mesh has the axes `data`, `expert` and `fsdp`. Images are split over all of
them; experts (every leaf below an `experts`, whose first axis is their number)
over `expert`; every large leaf over `fsdp` (Zhao et al. 2023, "PyTorch FSDP":
each device keeps a part of parameters, averages and optimiser state, and the
compiler gathers a layer where it is used); all else is replicated. On one
device the mesh is 1 x 1 x 1 and the same code runs.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mtlmoe_jax import errors

AXES = ("data", "expert", "fsdp")

# First match wins. The path is the leaf's key path joined by "/".
RULES = (
  (r"(^|/)experts/", PartitionSpec("expert")),
  (r"", PartitionSpec()),
)

# Leaves of fewer elements stay whole: a message costs more than they do.
SPLIT_FROM = 2**14


def make_mesh(
  data: int = -1,
  expert: int = 1,
  fsdp: int = 1,
  devices: Sequence[Any] | None = None,
) -> Mesh:
  """The mesh over devices.

  Args:
    data: replicas of the parameters; -1 takes all devices that remain.
    expert: devices along the experts.
    fsdp: devices along each large leaf.
    devices: None: all of all processes.

  Raises:
    InputError: the product does not match the number of devices.
  """
  devices = jax.devices() if devices is None else list(devices)
  count = len(devices)
  rest = expert * fsdp
  if data == -1 and count % rest == 0:
    data = count // rest
  if data * rest != count:
    raise errors.InputError(
      f"config.mesh.data={data} x config.mesh.expert={expert} x "
      f"config.mesh.fsdp={fsdp} is not the {count} device(s) here: use -1 and "
      f"divisors of {count}"
    )
  # Auto axes: Linen's Dropout cannot run under the Explicit default.
  return jax.make_mesh(
    (data, expert, fsdp),
    AXES,
    axis_types=(AxisType.Auto,) * 3,
    devices=devices,
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """A whole copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Images split over all devices."""
  return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def tree_shardings(tree: Any, mesh: Mesh) -> Any:
  """A NamedSharding for each leaf of a (possibly abstract) tree, by RULES."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: NamedSharding(
      mesh, leaf_spec(path_name(path), np.shape(leaf), mesh)
    ),
    tree,
  )


def leaf_spec(name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
  """How one leaf is split.

  Args:
    name: its path.
    shape: of the whole leaf.
    mesh: with any of `AXES`.

  Returns:
    The rule's axes, as far as the shape divides by them, and `fsdp` on the
    longest other axis that divides by it.
  """
  spec = next(spec for rule, spec in RULES if re.search(rule, name))
  axes: list[str | None] = [None] * len(shape)
  for i, axis in enumerate(spec[: len(shape)]):
    if shape[i] % mesh.shape[axis] == 0:
      axes[i] = axis
  parts = mesh.shape.get("fsdp", 1)
  free = [i for i, a in enumerate(axes) if a is None and shape[i] % parts == 0]
  if parts > 1 and free and math.prod(shape) >= SPLIT_FROM:
    axes[max(free, key=lambda i: shape[i])] = "fsdp"
  while axes and axes[-1] is None:
    axes.pop()
  return PartitionSpec(*axes)


def path_name(path: tuple) -> str:
  """`params/experts/...` from a JAX key path."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def check_batch(batch_size: int, mesh: Mesh, key: str, parts: int = 1) -> None:
  """Refuses a batch that the devices cannot share evenly.

  Args:
    batch_size: images of all devices.
    mesh: the devices.
    key: of the config, for the message.
    parts: micro-batches, each of which they share.

  Raises:
    InputError: naming the config key and the next size that fits.
  """
  count = mesh.size * parts
  if batch_size % count:
    up = -(-batch_size // count) * count
    each = f" and {parts} micro-batches" if parts > 1 else ""
    raise errors.InputError(
      f"config.{key}={batch_size} does not divide over {mesh.size} devices"
      f"{each}: use {up}"
    )


def check_experts(counts: Sequence[int], mesh: Mesh) -> None:
  """Refuses an axis of experts along which none can be split.

  Args:
    counts: experts of each kind of mixture that the model has.
    mesh: the devices.

  Raises:
    InputError: no count is a multiple of the axis.
  """
  size = mesh.shape["expert"]
  if all(count % size for count in counts):
    named = " and ".join(map(str, counts))
    raise errors.InputError(
      f"config.mesh.expert={size}: {named} experts do not divide over so many "
      "devices; use a divisor of their number"
    )


def jit_step(
  step: Callable[..., Any], shardings: Any, mesh: Mesh, seed: int | None = None
) -> Callable[[Any, Any], Any]:
  """`jax.jit` of a training step whose state stays where it is.

  Args:
    step: (state, batch) or (state, batch, seed) -> (state, metrics).
    shardings: of the state, which is given away.
    mesh: over which images are split; metrics are the same everywhere.
    seed: third argument of the step, kept out of the compiled program; None:
      it has none.
  """
  everywhere = replicated(mesh)
  seeds = () if seed is None else (everywhere,)
  compiled = jax.jit(
    step,
    in_shardings=(shardings, batch_sharding(mesh), *seeds),
    out_shardings=(shardings, everywhere),
    donate_argnums=0,
  )
  if seed is None:
    return compiled
  host = np.asarray(seed % 2**32, np.uint32)
  value = jax.make_array_from_callback((), everywhere, lambda _: host)
  return lambda state, batch: compiled(state, batch, value)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Moves one host batch to the devices, split along its first axis.

  Args:
    batch: of this process its own rows, see `data.ProcessSlice`.
    mesh: over the devices of all processes.
  """
  sharding = batch_sharding(mesh)
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, x), batch
  )


def put_whole(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """As `put_batch`, of a batch that every process has all of."""
  sharding = batch_sharding(mesh)
  return jax.tree.map(
    lambda x: jax.make_array_from_callback(
      x.shape, sharding, lambda part: x[part]
    ),
    batch,
  )
