"""Dispatch and combine as products with one-hot arrays.

"einsum", the form of GShard (Lepikhin et al. 2020, algorithm 2): the same
buffers as of `buffers`, made by matrix products in place of index gathers. The
one-hot arrays are [B, N, S], so that work and memory grow with the square of
the batch: for comparison, and for small sizes.

Letters: B images, N experts, K experts per image and task, S slots per expert.
"""

import dataclasses

import jax
import jax.numpy as jnp

from mtlmoe_jax.moe import buffers, interface

Array = jax.Array

# A lower precision would round the values that are only moved.
_EXACT = jax.lax.Precision.HIGHEST


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OneHotPlan(buffers.SlotPlan):
  """A plan of slots that moves by matrix products."""

  def dispatch(self, x: Array) -> Array:
    """Copies images into the experts' slots; empty slots are zero.

    Args:
      x: [B, ...] floating.

    Returns:
      [N, S, ...], of the type of x.
    """
    hits = self.images[..., None] == jnp.arange(x.shape[0])
    hits = hits & self.mask[..., None]  # [N, S, B]
    # 0 x NaN is NaN: what no slot holds (padding) must not be in the sum.
    used = jnp.any(hits, (0, 1)).reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.einsum(
      "nsb,b...->ns...",
      hits.astype(x.dtype),
      jnp.where(used, x, 0),
      precision=_EXACT,
    )

  def combine(self, outputs: Array, task: int, weights: Array) -> Array:
    """See `interface.Plan`; outputs are [N, S, ...]."""
    n, s = self.mask.shape
    weights = jnp.where(self.kept[task], weights, 0).astype(outputs.dtype)
    expert = jax.nn.one_hot(self.experts[task], n, dtype=outputs.dtype)
    slot = jax.nn.one_hot(self.slots[task], s, dtype=outputs.dtype)
    full = jnp.einsum(
      "bk,bkn,bks->bns", weights, expert, slot, precision=_EXACT
    )
    mask = self.mask.reshape(n, s, *(1,) * (outputs.ndim - 2))
    outputs = jnp.where(mask, outputs, 0)
    return jnp.einsum("bns,ns...->b...", full, outputs, precision=_EXACT)


def run(
  experts: interface.Experts, batch: interface.Batch
) -> interface.Results:
  """Runs experts on buffers of their images; see `interface`."""
  plan = buffers.make_plan(
    batch.experts_per_task, batch.num_experts, batch.capacity, batch.valid
  )
  plan = OneHotPlan(**vars(plan))
  return interface.apply_plan(experts.mapped(shared=False), plan, batch.x)
