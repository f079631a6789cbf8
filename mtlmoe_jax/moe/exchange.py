"""Expert parallelism: images go to the devices of their experts, and back.

Each device of a mesh holds some images and N / E of the experts. It puts its
images into buffers, S slots for each of all N experts; one all-to-all takes the
buffers to the devices of the experts, a second one brings the results back
(Lepikhin et al. 2021, "GShard", section 3.2). Images move only among the
devices of one row of the axis `expert`; experts do not move at all.

Letters: B images of a device, N experts, E devices along the axis `expert`, K
experts per image and task, S slots of a device for an expert, R = E S rows that
an expert sees.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from mtlmoe_jax import errors
from mtlmoe_jax.devices import meshes
from mtlmoe_jax.moe import buffers

Array = jax.Array

AXIS = "expert"

# (parameters [n, ...], rows [n, R, ...], mask bool [n, R]) -> results [n, R,
# ...] and whatever else each expert has to say, leaves [n, ...]; n = N / E.
Local = Callable[[Any, Any, Array], tuple[Array, Any]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Exchanged:
  """Where each choice is in the results, per task.

  Attributes:
    experts: i32 [B, K], as everywhere; over all devices.
    slots: i32 [B, K], of the image's own device.
    kept: bool [B, K], False where no slot was left or the image is padding.
    dropped: f32 scalar, the share of valid images' choices without a slot.
  """

  experts: tuple[Array, ...]
  slots: tuple[Array, ...]
  kept: tuple[Array, ...]
  dropped: tuple[Array, ...]


def parts() -> int:
  """E of the mesh that is set; 1 without one."""
  return jax.sharding.get_abstract_mesh().shape.get(AXIS, 1)


def fits(batch: int, num_experts: int) -> bool:
  """Whether images and experts divide over the devices of the mesh.

  Args:
    batch: images of all devices.
    num_experts: N.
  """
  mesh = jax.sharding.get_abstract_mesh()
  return not (batch % max(mesh.size, 1) or num_experts % parts())


def run_exchanged(
  local: Local,
  params: Any,
  x: Any,
  experts_per_task: Sequence[Array],
  *,
  num_experts: int,
  capacity: int | None = None,
  valid: Array | None = None,
) -> tuple[Array, Exchanged, Any]:
  """Runs each expert, on its own device, on the images sent to it.

  Without a mesh, or on one device, nothing is moved.

  Args:
    local: the experts of one device.
    params: of all experts, leaves [N, ...].
    x: leaves [B, ...] of any type, one array or a tree; B of all devices.
    experts_per_task: i32 [B, K] per task.
    num_experts: N.
    capacity: slots per expert over all devices, each of which has an even
      share of them for its own images; None drops nothing.
    valid: bool [B], False for padding; None: all valid.

  Returns:
    (results, plan, the rest of what `local` gives, leaves [N, ...]). Results
    are [N, S, ...] on each device, for `combine_exchanged`.

  Raises:
    InputError: no task, a capacity below 1, or images or experts that do not
      divide over the devices.
  """
  if not experts_per_task:
    raise errors.InputError("experts_per_task is empty: give at least one task")
  mesh = jax.sharding.get_abstract_mesh()
  batch, names = experts_per_task[0].shape[0], mesh.axis_names
  if not fits(batch, num_experts):
    raise errors.InputError(
      f"{batch} images and {num_experts} experts on a mesh of "
      f"{dict(mesh.shape)}: images must divide over all devices, experts over "
      f"{AXIS!r}"
    )
  if capacity is not None:
    capacity = -(-capacity // max(mesh.size, 1))
  if valid is None:
    valid = jnp.ones(batch, bool)

  def device(params, x, experts, valid):
    plan = buffers.make_plan(experts, num_experts, capacity, valid)
    slots = jax.tree.map(lambda v: buffers.dispatch(v, plan), x)
    rows, mask = _send(slots, plan.mask, parts())
    results, rest = local(params, rows, mask)
    found = _return(results, parts())
    dropped = tuple(_dropped(kept, valid, names) for kept in plan.kept)
    return found, plan.slots, plan.kept, dropped, rest

  by_image, by_expert = _specs()
  results, slots, kept, dropped, rest = meshes.on_each_device(
    device,
    in_specs=(by_expert, by_image, by_image, by_image),
    out_specs=(by_image, by_image, by_image, P(), by_expert),
  )(params, x, tuple(experts_per_task), valid)
  plan = Exchanged(tuple(experts_per_task), slots, kept, dropped)
  return results, plan, rest


def run_on_slots(local: Local, params: Any, slots: Array) -> Array:
  """Runs each expert, on its own device, on the slots of all groups.

  Args:
    local: the experts of one device; the mask that it gets is True everywhere,
      and what it gives beside results is left.
    params: of all experts, leaves [N, ...].
    slots: [G, N, S, ...], S slots of each of G groups for each expert; G and N
      divide over the devices (`fits`).

  Returns:
    [G, N, S, ...].
  """
  by_image, by_expert = _specs()

  def device(params, slots):
    groups, count, size, *shape = slots.shape
    rows = slots.swapaxes(0, 1).reshape(count, groups * size, *shape)
    rows = _there(rows, parts())
    results, _ = local(params, rows, jnp.ones(rows.shape[:2], bool))
    found = _return(results, parts())
    found = found.reshape(count, groups, size, *found.shape[2:])
    return found.swapaxes(0, 1)

  return meshes.on_each_device(
    device, in_specs=(by_expert, by_image), out_specs=by_image
  )(params, slots)


def combine_exchanged(
  results: Array, plan: Exchanged, task: int, weights: Array
) -> Array:
  """The weighted sum of one task over the experts it chose.

  Args:
    results: of `run_exchanged`.
    plan: the same.
    task: index of the task.
    weights: [B, K] of that task.

  Returns:
    [B, ...]; dropped choices add nothing, so that an image without any kept
    choice (padding, too) is 0.
  """

  def device(results, experts, slots, kept, weights):
    here = buffers.Plan(
      images=None,
      mask=None,
      experts=(experts,),
      slots=(slots,),
      kept=(kept,),
      dropped=(),
    )
    return buffers.combine(results, here, 0, weights)

  by_image, _ = _specs()
  return meshes.on_each_device(device, in_specs=by_image, out_specs=by_image)(
    results, plan.experts[task], plan.slots[task], plan.kept[task], weights
  )


def _specs() -> tuple[P, P]:
  """How images and experts are split on the mesh that is set."""
  names = jax.sharding.get_abstract_mesh().axis_names
  return P(names), P(AXIS) if AXIS in names else P()


def own_key(key: Array) -> Array:
  """Of a device, inside of `local`: a random key that no other one has."""
  for axis in jax.sharding.get_abstract_mesh().axis_names:
    key = jax.random.fold_in(key, lax.axis_index(axis))
  return key


def _dropped(kept: Array, valid: Array, names: tuple[str, ...]) -> Array:
  """Over all devices, the share of valid images' choices without a slot."""
  wanted = jnp.sum(valid) * kept.shape[1]
  lost = wanted - jnp.sum(kept)
  if names:
    wanted, lost = lax.psum((wanted, lost), names)
  return (lost / jnp.maximum(wanted, 1)).astype(jnp.float32)


def _send(slots: Any, mask: Array, devices: int) -> tuple[Any, Array]:
  """Slots [N, S, ...] of this device -> rows [n, R, ...] of its experts."""
  if devices == 1:
    return slots, mask
  # One message for all leaves: the time of an all-to-all is mostly waiting.
  packed, unpack = _pack((slots, mask))
  return unpack(_there(packed, devices))


def _there(slots: Array, devices: int) -> Array:
  """[N, S, ...] of this device -> [n, R, ...] of its experts."""
  if devices == 1:
    return slots
  count, size, *shape = slots.shape
  slots = slots.reshape(devices, count // devices, size, *shape)
  slots = lax.all_to_all(slots, AXIS, 0, 0, tiled=True)
  return slots.swapaxes(0, 1).reshape(-1, devices * size, *shape)


def _return(results: Array, devices: int) -> Array:
  """Results [n, R, ...] of this device's experts -> [N, S, ...]."""
  if devices == 1:
    return results
  count, rows, *shape = results.shape
  results = results.reshape(count, devices, rows // devices, *shape)
  results = lax.all_to_all(results.swapaxes(0, 1), AXIS, 0, 0, tiled=True)
  return results.reshape(devices * count, rows // devices, *shape)


def _pack(tree: Any) -> tuple[Array, Callable[[Array], Any]]:
  """Leaves [N, S, ...] as one array [N, S, F], and the way back.

  Numbers that are no floats travel as their bytes, 0 ... 255, which every type
  of floats holds exactly.
  """
  leaves, structure = jax.tree.flatten(tree)
  floats = [v.dtype for v in leaves if jnp.issubdtype(v.dtype, jnp.floating)]
  dtype = jnp.result_type(*floats) if floats else jnp.uint8
  flat = [_bytes(v).astype(dtype).reshape(*v.shape[:2], -1) for v in leaves]
  widths = [v.shape[-1] for v in flat]
  like = [jax.ShapeDtypeStruct(v.shape[2:], v.dtype) for v in leaves]

  def unpack(packed: Array) -> Any:
    ends = [sum(widths[: i + 1]) for i in range(len(widths))]
    parts = jnp.split(packed, ends[:-1], axis=-1)
    return structure.unflatten(map(_unbytes, parts, like))

  return jnp.concatenate(flat, -1), unpack


def _bytes(values: Array) -> Array:
  """Floats as they are; booleans 0 or 1; integers [..., bytes]."""
  if jnp.issubdtype(values.dtype, jnp.floating) or values.dtype == jnp.bool_:
    return values
  return lax.bitcast_convert_type(values, jnp.uint8)


def _unbytes(flat: Array, like: jax.ShapeDtypeStruct) -> Array:
  """[n, R, F] -> [n, R, ...] of the shape and type of `like`."""
  lead = flat.shape[:2]
  if like.dtype == jnp.bool_:
    return (flat > 0).reshape(*lead, *like.shape)
  if jnp.issubdtype(like.dtype, jnp.floating):
    return flat.astype(like.dtype).reshape(*lead, *like.shape)
  size = like.dtype.itemsize
  last = (size,) if size > 1 else ()
  whole = flat.astype(jnp.uint8).reshape(*lead, *like.shape, *last)
  return lax.bitcast_convert_type(whole, like.dtype)
