""" "dense": every expert runs on every image. The oracle of all strategies.

Letters: B images, N experts, K experts per image and task.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from mtlmoe_jax.moe import interface, routing

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Everyone:
  """The plan: everyone goes everywhere.

  Attributes:
    experts: i32 [B, K] per task.
    valid: bool [B], False for padding; None: all valid.
    num_experts: N.
  """

  experts: tuple[Array, ...]
  valid: Array | None
  num_experts: int = dataclasses.field(metadata={"static": True})

  @property
  def mask(self) -> Array:
    """Which images chose which expert, bool [N, B]."""
    index = jnp.arange(self.num_experts)[:, None, None]
    chosen = [jnp.any(e == index, -1) for e in self.experts]
    mask = functools.reduce(jnp.logical_or, chosen)
    return mask if self.valid is None else mask & self.valid

  @property
  def kept(self) -> tuple[Array, ...]:
    """See `interface.Plan`."""
    if self.valid is None:
      return tuple(jnp.ones(e.shape, bool) for e in self.experts)
    valid = self.valid[:, None]
    return tuple(jnp.broadcast_to(valid, e.shape) for e in self.experts)

  @property
  def dropped(self) -> tuple[Array, ...]:
    """Always 0."""
    return tuple(jnp.zeros((), jnp.float32) for _ in self.experts)

  def dispatch(self, x: Array) -> Array:
    """The images themselves, [B, ...]: all experts share them."""
    return x

  def combine(self, outputs: Array, task: int, weights: Array) -> Array:
    """See `interface.Plan`; outputs are [N, B, ...]."""
    total = combine_dense(outputs, self.experts[task], weights)
    if self.valid is None:
      return total
    valid = self.valid.reshape(-1, *(1,) * (total.ndim - 1))
    return jnp.where(valid, total, 0)


def run(
  experts: interface.Experts, batch: interface.Batch
) -> interface.Results:
  """Runs every expert on every image; see `interface`."""
  plan = Everyone(tuple(batch.experts_per_task), batch.valid, batch.num_experts)
  return interface.apply_plan(experts.mapped(shared=True), plan, batch.x)


def combine_dense(outputs: Array, experts: Array, weights: Array) -> Array:
  """The weighted sum when every expert ran on every image.

  A sum over N with zero weights, not a gather: experts sharded over devices
  then add up their parts in place.

  Args:
    outputs: [N, B, ...].
    experts: i32 [B, K], distinct within a row.
    weights: [B, K].

  Returns:
    [B, ...].
  """
  full = routing.full_weights(experts, weights, outputs.shape[0])  # [B, N]
  full = full.T.astype(outputs.dtype)
  full = full.reshape(full.shape + (1,) * (outputs.ndim - 2))
  return jnp.sum(outputs * full, axis=0)
