"""What functions of arrays must know of the mesh they are traced under."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import PartitionSpec

Array = jax.Array


def compiler_partitions() -> bool:
  """Whether the compiler may split arrays over the devices of a mesh."""
  return devices() > 1


def devices() -> int:
  """Over how many devices the compiler may split arrays."""
  mesh = jax.sharding.get_abstract_mesh()
  names = [n for n in mesh.axis_names if n not in mesh.manual_axes]
  return math.prod(mesh.shape[name] for name in names)


def on_each_device(
  fn: Callable[..., Any], in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
  """`jax.shard_map` over the mesh that is set; `fn` itself without one."""
  if not jax.sharding.get_abstract_mesh().axis_names:
    return fn
  return jax.shard_map(fn, in_specs=in_specs, out_specs=out_specs)


def top_indices(values: Array, k: int) -> Array:
  """The places of the k largest along the last axis, the largest first.

  Args:
    values: [B, ..., n], rows of any kind.
    k: how many, at most n.

  Returns:
    i32 [B, ..., k]; of equal values the first. Rows that are split over
    devices stay where they are: the compiler itself would gather them all.
  """

  def top_of_rows(rows: Array) -> Array:
    return lax.top_k(rows, k)[1]

  count = devices()
  if count == 1 or values.shape[0] % count:
    return top_of_rows(values)
  split = PartitionSpec(jax.sharding.get_abstract_mesh().axis_names)
  return jax.shard_map(top_of_rows, in_specs=split, out_specs=split)(values)


def manual_axes(*arrays: Array) -> frozenset[str]:
  """Axes of `jax.shard_map` that one of the arrays varies over."""
  kinds = map(jax.typeof, arrays)
  # Older JAX calls the same set `vma`.
  sets = [k.mat.varying if hasattr(k, "mat") else k.vma for k in kinds]
  return frozenset().union(*sets)


def varying(array: Array, axes: frozenset[str]) -> Array:
  """`array`, varying over these axes as well.

  Inside `shard_map` a value that every device shares gets its gradient summed
  over the devices by this cast's transpose.
  """
  missing = tuple(axes - manual_axes(array))
  return lax.pcast(array, missing, to="varying") if missing else array
