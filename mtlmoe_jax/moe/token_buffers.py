"""A plan for tokens: `dispatch.make_plan` for one gate and many items.

An image batch has tens of items, where ranking [N, B] twice costs nothing. A
batch of patch tokens has thousands: here the T K choices are sorted once by
expert, and no array is larger than T K or the slots.

Letters: T tokens, N experts, K selected per token, S slots per expert.
"""

import jax
import jax.numpy as jnp

from mtlmoe_jax import errors
from mtlmoe_jax.moe import buffers

Array = jax.Array


def make_token_plan(
  experts: Array,
  num_experts: int,
  capacity: int | None = None,
  valid: Array | None = None,
  priority: Array | None = None,
) -> buffers.Plan:
  """Gives every choice a slot: all first choices, then all second ones, ...

  Args:
    experts: i32 [T, K], distinct within a row, best first.
    num_experts: N.
    capacity: S; None is dropless, S = T, as is anything from T on.
    valid: bool [T], False for padding, which takes no slot; None: all valid.
    priority: f32 [T], who comes first among the choices of one rank (V-MoE's
      batch-priority routing, Riquelme et al. 2021, section 4: the largest
      weight); None, and among equals: the order of the tokens.

  Returns:
    The plan, its tuples with one entry, as `dispatch.make_plan([experts], ...)`
    gives it when there is no priority (what empty slots hold may differ).

  Raises:
    InputError: a capacity below 1.
  """
  if capacity is not None and capacity < 1:
    raise errors.InputError(f"capacity={capacity}: must be at least 1 slot")
  count, k = experts.shape
  slots = count if capacity is None else min(capacity, count)
  valid = jnp.ones(count, bool) if valid is None else valid
  order = jnp.arange(count)
  if priority is not None:
    order = jnp.argsort(-jax.lax.stop_gradient(priority), stable=True)
  # Choices by rank, then by token; padding goes to an expert beyond the last.
  wanted = jnp.where(valid[:, None], experts, num_experts)[order].T.reshape(-1)
  by_expert = jnp.argsort(wanted, stable=True)
  starts = jnp.searchsorted(wanted[by_expert], jnp.arange(num_experts + 1))
  place = jnp.zeros_like(by_expert).at[by_expert].set(jnp.arange(count * k))
  place = (place - starts[wanted]).reshape(k, count)
  slot = jnp.zeros_like(experts).at[order].set(place.T.astype(experts.dtype))
  kept = valid[:, None] & (slot < slots)
  held = starts[:-1, None] + jnp.arange(slots)
  mask = held < starts[1:, None]
  tokens = order[by_expert[jnp.where(mask, held, 0)] % count]
  lost = jnp.sum(valid[:, None] & ~kept)
  dropped = lost / jnp.maximum(jnp.sum(valid) * k, 1)
  return buffers.Plan(
    images=tokens,
    mask=mask,
    experts=(experts,),
    slots=(jnp.minimum(slot, slots - 1),),
    kept=(kept,),
    dropped=(dropped.astype(jnp.float32),),
  )
