"""Dispatch and combine as products with one-hot arrays.

The form of GShard (Lepikhin et al. 2020, algorithm 2): the same buffers as
`dispatch`, made by matrix products in place of index gathers. The one-hot
arrays are [B, N, S], so that work and memory grow with the square of the
batch: for comparison, and for small sizes.

Letters: B images, N experts, K experts per image and task, S slots per expert.
"""

import jax
import jax.numpy as jnp

from mtlmoe_jax.moe.buffers import Plan

Array = jax.Array

# A lower precision would round the values that are only moved.
_EXACT = jax.lax.Precision.HIGHEST


def dispatch_onehot(x: Array, plan: Plan) -> Array:
  """Copies images into the experts' slots; empty slots are zero.

  Args:
    x: [B, ...] floating.
    plan: from `dispatch.make_plan`.

  Returns:
    [N, S, ...], of the type of x.
  """
  hits = plan.images[..., None] == jnp.arange(x.shape[0])
  hits = hits & plan.mask[..., None]  # [N, S, B]
  # 0 x NaN is NaN: what no slot holds (padding) must not be in the sum.
  used = jnp.any(hits, (0, 1)).reshape(-1, *(1,) * (x.ndim - 1))
  return jnp.einsum(
    "nsb,b...->ns...",
    hits.astype(x.dtype),
    jnp.where(used, x, 0),
    precision=_EXACT,
  )


def combine_onehot(
  outputs: Array, plan: Plan, task: int, weights: Array
) -> Array:
  """The weighted sum of one task over the experts it chose.

  Args:
    outputs: [N, S, ...], what the experts made of their slots.
    plan: from `dispatch.make_plan`.
    task: index of the task in `experts_per_task`.
    weights: [B, K] of that task.

  Returns:
    [B, ...]; dropped choices add nothing, as in `dispatch.combine`.
  """
  n, s = plan.mask.shape
  weights = jnp.where(plan.kept[task], weights, 0).astype(outputs.dtype)
  expert = jax.nn.one_hot(plan.experts[task], n, dtype=outputs.dtype)
  slot = jax.nn.one_hot(plan.slots[task], s, dtype=outputs.dtype)
  full = jnp.einsum("bk,bkn,bks->bns", weights, expert, slot, precision=_EXACT)
  mask = plan.mask.reshape(n, s, *(1,) * (outputs.ndim - 2))
  outputs = jnp.where(mask, outputs, 0)
  return jnp.einsum("bns,ns...->b...", full, outputs, precision=_EXACT)
