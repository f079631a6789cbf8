"""Dispatch of images to experts and the weighted sum back, on plain arrays.

Letters: B images, N experts, K experts per image and task, S slots per expert.

"gather": `make_plan` gives each (image, expert) pair that any task chose one
slot of its expert, `SlotPlan.dispatch` copies the images into [N, S, ...]
buffers, the experts run on those, `SlotPlan.combine` takes each task's weighted
sum of the results. No array is larger than [B, N] or the buffers themselves:
there is no [B, N, S] mask.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mtlmoe_jax import errors
from mtlmoe_jax.moe import interface

Array = jax.Array

# The priority of a pair that no task chose: after all others.
_NONE = 2**30


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SlotPlan:
  """Who goes where; the tuples have one entry per task.

  Attributes:
    images: i32 [N, S], the image in each slot, some valid index where empty.
    mask: bool [N, S], True where a slot holds an image. The images of an
      expert fill its first slots.
    experts: i32 [B, K], the choices the plan was made for.
    slots: i32 [B, K], the slot of each choice at its expert; in 0 ... S-1 even
      where it was dropped.
    kept: bool [B, K], False where the expert was full or the image is padding.
    dropped: f32 scalar, share of the valid images' choices that found no slot.
  """

  images: Array
  mask: Array
  experts: tuple[Array, ...]
  slots: tuple[Array, ...]
  kept: tuple[Array, ...]
  dropped: tuple[Array, ...]

  def dispatch(self, x: Array) -> Array:
    """Copies images into the experts' slots; empty slots are zero.

    Args:
      x: [B, ...].

    Returns:
      [N, S, ...], of the type of x.
    """
    return jnp.where(_expand(self.mask, x.ndim + 1), x[self.images], 0)

  def combine(self, outputs: Array, task: int, weights: Array) -> Array:
    """See `interface.Plan`; outputs are [N, S, ...]."""
    return weighted_sum(
      outputs, self.experts[task], self.slots[task], self.kept[task], weights
    )


def run(
  experts: interface.Experts, batch: interface.Batch
) -> interface.Results:
  """Runs experts on buffers of their images; see `interface`."""
  plan = make_plan(
    batch.experts_per_task, batch.num_experts, batch.capacity, batch.valid
  )
  return interface.apply_plan(experts.mapped(shared=False), plan, batch.x)


def capacity(
  batch_size: int, ks: Sequence[int], num_experts: int, factor: float
) -> int:
  """Slots per expert, S = ceil(factor B sum(k) / N), at most B.

  Args:
    batch_size: B.
    ks: experts per image, one per task.
    num_experts: N.
    factor: 1 is room for the mean load if no two tasks shared an expert; 0 is
      dropless, S = B.

  Returns:
    S, from 1 to B.

  Raises:
    InputError: a negative factor.
  """
  if factor < 0:
    raise errors.InputError(
      f"capacity factor {factor}: must be 0 (dropless) or more"
    )
  if factor == 0:
    return batch_size
  # Binary fractions may land just above a whole number (1.1 * 10 = 11.000...2).
  slots = math.ceil(factor * batch_size * sum(ks) / num_experts - 1e-9)
  return min(max(slots, 1), batch_size)


def make_plan(
  experts_per_task: Sequence[Array],
  num_experts: int,
  capacity: int | None = None,
  valid: Array | None = None,
) -> SlotPlan:
  """Gives every chosen (image, expert) pair, once for all tasks, a slot.

  An expert with more pairs than slots takes first the images for which it is
  some task's first choice, then some task's second choice, and so on; within
  those, in the order of the batch. The rest is dropped: it adds nothing to the
  sum and the other weights stay as they are. (The order of GShard, Lepikhin et
  al. 2020, over the union of the tasks.)

  Args:
    experts_per_task: i32 [B, K] per task, distinct within a row, best first. K
      may differ between tasks.
    num_experts: N.
    capacity: S; None is dropless, S = B, as is anything from B on.
    valid: bool [B], False for padding, which takes no slot; None: all valid.

  Returns:
    The plan.

  Raises:
    InputError: no task, or a capacity below 1.
  """
  if not experts_per_task:
    raise errors.InputError("experts_per_task is empty: give at least one task")
  if capacity is not None and capacity < 1:
    raise errors.InputError(f"capacity={capacity}: must be at least 1 slot")
  batch = experts_per_task[0].shape[0]
  slots = batch if capacity is None else min(capacity, batch)
  valid = jnp.ones(batch, bool) if valid is None else valid
  priority = _priority(experts_per_task, num_experts, valid).T  # [N, B]
  # Two stable sorts: the images by priority, then the place of each image.
  order = jnp.argsort(priority, axis=1, stable=True)
  place = jnp.argsort(order, axis=1, stable=True).T  # [B, N]
  taken, kept, dropped = [], [], []
  for experts in experts_per_task:
    slot = jnp.take_along_axis(place, experts, axis=1)
    fits = slot < slots
    lost = jnp.sum(valid[:, None] & ~fits)
    wanted = jnp.maximum(jnp.sum(valid) * experts.shape[1], 1)
    taken.append(jnp.minimum(slot, slots - 1))
    kept.append(valid[:, None] & fits)
    dropped.append((lost / wanted).astype(jnp.float32))
  return SlotPlan(
    images=order[:, :slots],
    mask=jnp.arange(slots) < jnp.sum(priority < _NONE, 1, keepdims=True),
    experts=tuple(experts_per_task),
    slots=tuple(taken),
    kept=tuple(kept),
    dropped=tuple(dropped),
  )


def _priority(
  experts_per_task: Sequence[Array], num_experts: int, valid: Array
) -> Array:
  """Best rank of each expert among the choices of all tasks, i32 [B, N]."""
  batch = experts_per_task[0].shape[0]
  out = jnp.full((batch, num_experts), _NONE, jnp.int32)
  for experts in experts_per_task:
    rank = jnp.broadcast_to(jnp.arange(experts.shape[1]), experts.shape)
    hits = experts[..., None] == jnp.arange(num_experts)  # [B, K, N]
    ranks = jnp.where(hits, rank[..., None], _NONE)
    out = jnp.minimum(out, jnp.min(ranks, axis=1))
  return jnp.where(valid[:, None], out, _NONE)


def weighted_sum(
  outputs: Array, experts: Array, slots: Array, kept: Array, weights: Array
) -> Array:
  """The weighted sum of one task over the experts it chose.

  Args:
    outputs: [N, S, ...], what the experts made of their slots.
    experts: i32 [B, K].
    slots: i32 [B, K], the slot of each choice at its expert.
    kept: bool [B, K].
    weights: [B, K].

  Returns:
    [B, ...]; choices that were not kept add nothing.
  """
  chosen = outputs[experts, slots]  # [B, K, ...]
  # Selected, not multiplied by 0: an unused slot may hold anything.
  chosen = jnp.where(_expand(kept, chosen.ndim), chosen, 0)
  weights = weights.astype(outputs.dtype)
  return jnp.sum(chosen * _expand(weights, chosen.ndim), axis=1)


def _expand(values: Array, ndim: int) -> Array:
  """Appends axes of size 1 until the rank is `ndim`."""
  return values.reshape(values.shape + (1,) * (ndim - values.ndim))
