"""Two-layer MLP experts over tokens as grouped matrix products.

Letters: B tokens, N experts, K experts per token and task, P pairs, C input
width, F hidden width, D output width.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from mtlmoe_jax import errors
from mtlmoe_jax.moe import interface, pair_plan

Array = jax.Array


def ragged_mlp(
  x: Array,
  kernel_in: Array,
  bias_in: Array,
  kernel_out: Array,
  bias_out: Array,
  experts_per_task: Sequence[Array],
  *,
  activation: Callable[[Array], Array] = jax.nn.gelu,
  valid: Array | None = None,
) -> interface.Results:
  """Dropless MLP experts by `jax.lax.ragged_dot` over the sorted pairs.

  The same values as `engine.apply_experts` with a two-layer MLP. Opt-in, and
  no strategy of the engine: XLA:CPU computes a ragged product densely, N times
  the work, and so do some releases for GPUs; measure before using it.

  Args:
    x: [B, C].
    kernel_in: [N, C, F].
    bias_in: [N, F].
    kernel_out: [N, F, D].
    bias_out: [N, D].
    experts_per_task: i32 [B, K] per task, distinct within a row.
    activation: between the layers, element by element.
    valid: bool [B], False for padding; None: all valid.

  Returns:
    Results of [B, D].

  Raises:
    InputError: x that is not [B, C] for these kernels, or no task.
  """
  n, c, _ = kernel_in.shape
  if x.ndim != 2 or x.shape[1] != c:
    raise errors.InputError(
      f"ragged_mlp of x {x.shape} with kernel_in {kernel_in.shape}: x must be "
      f"[B, {c}]"
    )
  plan = pair_plan.make_pair_plan(experts_per_task, n, valid)
  rows = plan.images.shape[0]
  total = jnp.sum(plan.counts)
  # Rows of no pair go to the last expert, as zeros: what a ragged product
  # does with rows beyond its groups depends on the backend.
  sizes = plan.counts.at[-1].add(rows - total)
  expert = jnp.repeat(jnp.arange(n), sizes, total_repeat_length=rows)
  inside = (jnp.arange(rows) < total)[:, None]
  hidden = lax.ragged_dot(
    jnp.where(inside, x[plan.images], 0), kernel_in, sizes
  )
  hidden = activation(hidden + bias_in[expert])
  out = lax.ragged_dot(hidden, kernel_out, sizes) + bias_out[expert]
  return interface.Results(out, plan)
