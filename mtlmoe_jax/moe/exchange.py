""" "all_to_all": images go to the devices of their experts, and back.

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
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from mtlmoe_jax import errors
from mtlmoe_jax.devices import compilation, meshes
from mtlmoe_jax.moe import buffers, interface, pair_plan, pairs, strategies

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

  def combine(self, outputs: Array, task: int, weights: Array) -> Array:
    """See `interface.Plan`; outputs are those of `run_exchanged`."""
    by_image, _ = _specs()
    return meshes.on_each_device(
      buffers.weighted_sum, in_specs=by_image, out_specs=by_image
    )(outputs, self.experts[task], self.slots[task], self.kept[task], weights)


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


def apart(batch: int, num_experts: int) -> bool:
  """Whether experts are on several devices, and all divides over them."""
  split = parts() > 1 and meshes.compiler_partitions()
  return split and fits(batch, num_experts)


def run(
  experts: interface.OneByOne, batch: interface.Batch
) -> interface.Results:
  """Runs each expert on its own device; see `interface`."""
  loop = strategies.prefer_loop(
    batch.ks,
    batch.num_experts,
    compilation.backend(),
    rows_interact=experts.rows_interact,
    limited=batch.limited,
  )
  local = _looped(experts, batch) if loop else _side_by_side(experts)
  outputs, plan, _ = run_exchanged(local, experts.params, batch)
  return interface.Results(outputs, plan)


def _side_by_side(experts: interface.OneByOne) -> Local:
  """The experts of a device all at once."""
  run = jax.vmap(experts.once)
  return lambda params, rows, mask: (run(params, rows, mask), ())


def _looped(experts: interface.OneByOne, batch: interface.Batch) -> Local:
  """The experts of a device by a loop, which passes empty rows over."""
  filled = min(1.0, sum(batch.ks) / batch.num_experts)  # of all rows, about

  def local(params: Any, rows: Any, mask: Array) -> tuple[Array, Any]:
    count, size = mask.shape
    rows = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), rows)
    owner = jnp.repeat(jnp.arange(count, dtype=jnp.int32), size)[:, None]
    plan = pair_plan.make_pair_plan([owner], count, mask.reshape(-1))
    shape = jax.tree.leaves(rows)[0].shape
    expected = max(1, round(filled * count * size))
    tile = pair_plan.default_tile(shape, expected, count)
    out = pairs.run_pairs(
      experts.fn, params, rows, plan, tile=tile, remat=experts.remat
    )
    out = plan.combine(out, 0, jnp.ones(owner.shape))
    return out.reshape(count, size, *out.shape[1:]), ()

  return local


def run_exchanged(
  local: Local, params: Any, batch: interface.Batch
) -> tuple[Array, Exchanged, Any]:
  """Runs each expert, on its own device, on the images sent to it.

  Without a mesh, or on one device, nothing is moved.

  Args:
    local: the experts of one device.
    params: of all experts, leaves [N, ...].
    batch: the images of all devices. Its capacity counts slots per expert over
      all devices, each of which has an even share of them for its own images.

  Returns:
    (results, plan, the rest of what `local` gives, leaves [N, ...]). Results
    are [N, S, ...] on each device, for `Exchanged.combine`.

  Raises:
    InputError: a capacity below 1, or images or experts that do not divide over
      the devices.
  """
  num_experts, capacity, valid = batch.num_experts, batch.capacity, batch.valid
  mesh = jax.sharding.get_abstract_mesh()
  names = mesh.axis_names
  if not fits(batch.size, num_experts):
    raise errors.InputError(
      f"{batch.size} images and {num_experts} experts on a mesh of "
      f"{dict(mesh.shape)}: images must divide over all devices, experts over "
      f"{AXIS!r}"
    )
  if capacity is not None:
    capacity = -(-capacity // max(mesh.size, 1))
  if valid is None:
    valid = jnp.ones(batch.size, bool)

  def device(
    params: Any, x: Any, experts: tuple[Array, ...], valid: Array
  ) -> tuple[Any, ...]:
    plan = buffers.make_plan(experts, num_experts, capacity, valid)
    slots = jax.tree.map(plan.dispatch, x)
    rows, mask = _send(slots, plan.mask, parts())
    results, rest = local(params, rows, mask)
    results = _return(results, parts())
    dropped = tuple(_dropped(kept, valid, names) for kept in plan.kept)
    return results, plan.slots, plan.kept, dropped, rest

  by_image, by_expert = _specs()
  results, slots, kept, dropped, rest = meshes.on_each_device(
    device,
    in_specs=(by_expert, by_image, by_image, by_image),
    out_specs=(by_image, by_image, by_image, P(), by_expert),
  )(params, batch.x, tuple(batch.experts_per_task), valid)
  plan = Exchanged(tuple(batch.experts_per_task), slots, kept, dropped)
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

  def device(params: Any, slots: Array) -> Array:
    def apply(rows: Array) -> Array:
      rows = _there(rows, parts())
      results, _ = local(params, rows, jnp.ones(rows.shape[:2], bool))
      return _return(results, parts())

    return on_all_groups(apply, slots)

  return meshes.on_each_device(
    device, in_specs=(by_expert, by_image), out_specs=by_image
  )(params, slots)


def on_all_groups(apply: Callable[[Array], Array], slots: Array) -> Array:
  """Gives each expert its slots of all groups at once.

  Args:
    apply: maps rows [N, G S, ...] to results [N, G S, ...].
    slots: [G, N, S, ...].

  Returns:
    [G, N, S, ...].
  """
  groups, count, size, *shape = slots.shape
  rows = slots.swapaxes(0, 1).reshape(count, groups * size, *shape)
  results = apply(rows)
  results = results.reshape(count, groups, size, *results.shape[2:])
  return results.swapaxes(0, 1)


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
  types = [jax.ShapeDtypeStruct(v.shape[2:], v.dtype) for v in leaves]

  def unpack(packed: Array) -> Any:
    ends = [sum(widths[: i + 1]) for i in range(len(widths))]
    parts = jnp.split(packed, ends[:-1], axis=-1)
    leaves = map(_unbytes, parts, types)
    return jax.tree.unflatten(structure, leaves)

  return jnp.concatenate(flat, -1), unpack


def _bytes(values: Array) -> Array:
  """Floats as they are; booleans 0 or 1; integers [..., bytes]."""
  if jnp.issubdtype(values.dtype, jnp.floating) or values.dtype == jnp.bool_:
    return values
  return lax.bitcast_convert_type(values, jnp.uint8)


def _unbytes(flat: Array, kind: jax.ShapeDtypeStruct) -> Array:
  """[n, R, F] -> [n, R, ...] of the shape and type of `kind`."""
  lead = flat.shape[:2]
  if kind.dtype == jnp.bool_:
    return (flat > 0).reshape(*lead, *kind.shape)
  if jnp.issubdtype(kind.dtype, jnp.floating):
    return flat.astype(kind.dtype).reshape(*lead, *kind.shape)
  size = kind.dtype.itemsize
  last = (size,) if size > 1 else ()
  whole = flat.astype(jnp.uint8).reshape(*lead, *kind.shape, *last)
  return lax.bitcast_convert_type(whole, kind.dtype)
