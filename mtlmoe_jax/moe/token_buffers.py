"""Plans for tokens: `buffers.make_plan` for one gate and many items.

An image batch has tens of items, where ranking [N, B] twice costs nothing. A
batch of patch tokens has thousands: here the T K choices are sorted once by
expert, and no array is larger than T K or the slots.

Letters: T tokens, N experts, K selected per token, S slots per expert; G groups
of L tokens, each with slots of its own, T = G L.
"""

import dataclasses

import jax
import jax.numpy as jnp

from mtlmoe_jax import errors
from mtlmoe_jax.moe import buffers

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GroupPlan:
  """A plan for each group of tokens, as one plan of all of them.

  Attributes:
    plans: leaves with a leading axis G.
    dropped: f32 scalar, one: the share of all valid choices without a slot.
  """

  plans: buffers.SlotPlan
  dropped: tuple[Array, ...]

  @property
  def mask(self) -> Array:
    """bool [G, N, S], True where a slot holds a token."""
    return self.plans.mask

  @property
  def kept(self) -> tuple[Array, ...]:
    """bool [T, K], one; see `interface.Plan`."""
    return tuple(kept.reshape(-1, kept.shape[-1]) for kept in self.plans.kept)

  def dispatch(self, x: Array) -> Array:
    """Copies tokens [T, ...] into slots [G, N, S, ...]; empty ones are 0."""
    x = self._grouped(x)
    return jax.vmap(lambda plan, x: plan.dispatch(x))(self.plans, x)

  def combine(self, outputs: Array, task: int, weights: Array) -> Array:
    """See `interface.Plan`; outputs are [G, N, S, ...]."""

    def of_group(
      plan: buffers.SlotPlan, outputs: Array, weights: Array
    ) -> Array:
      return plan.combine(outputs, task, weights)

    y = jax.vmap(of_group)(self.plans, outputs, self._grouped(weights))
    return y.reshape(-1, *y.shape[2:])

  def _grouped(self, values: Array) -> Array:
    """[T, ...] -> [G, L, ...]."""
    return values.reshape(self.mask.shape[0], -1, *values.shape[1:])


def make_group_plan(
  experts: Array,
  num_experts: int,
  groups: int,
  capacity: int,
  valid: Array,
  priority: Array | None = None,
) -> GroupPlan:
  """`make_token_plan` for each group of tokens.

  Args:
    experts: i32 [T, K], distinct within a row, best first.
    num_experts: N.
    groups: G, a divisor of T.
    capacity: S of each group.
    valid: bool [T], False for padding, which takes no slot.
    priority: f32 [T], see `make_token_plan`.

  Returns:
    The plan.

  Raises:
    InputError: a capacity below 1.
  """

  def grouped(values: Array) -> Array:
    return values.reshape(groups, -1, *values.shape[1:])

  def of_group(
    experts: Array, valid: Array, priority: Array | None
  ) -> buffers.SlotPlan:
    return make_token_plan(experts, num_experts, capacity, valid, priority)

  plans = jax.vmap(of_group)(*jax.tree.map(grouped, (experts, valid, priority)))
  lost = valid[:, None] & ~plans.kept[0].reshape(experts.shape)
  wanted = jnp.maximum(jnp.sum(valid) * experts.shape[1], 1)
  return GroupPlan(plans, ((jnp.sum(lost) / wanted).astype(jnp.float32),))


def make_token_plan(
  experts: Array,
  num_experts: int,
  capacity: int | None = None,
  valid: Array | None = None,
  priority: Array | None = None,
) -> buffers.SlotPlan:
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
    The plan, its tuples with one entry, as `buffers.make_plan([experts], ...)`
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
  place = starts[:-1, None] + jnp.arange(slots)
  mask = place < starts[1:, None]
  tokens = order[by_expert[jnp.where(mask, place, 0)] % count]
  lost = jnp.sum(valid[:, None] & ~kept)
  dropped = lost / jnp.maximum(jnp.sum(valid) * k, 1)
  return buffers.SlotPlan(
    images=tokens,
    mask=mask,
    experts=(experts,),
    slots=(jnp.minimum(slot, slots - 1),),
    kept=(kept,),
    dropped=(dropped.astype(jnp.float32),),
  )
