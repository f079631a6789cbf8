"""Balance without a loss: a bias per expert that moves the selection.

An auxiliary loss balances by a gradient that disturbs the gate. The bias
(Wang et al. 2024, arXiv 2408.15664, algorithm 1; DeepSeek-V3, arXiv
2412.19437, eq. 16) does it without one: it is added to the logits for the
selection only, so that weights and gradients are those of the gate alone, and
after each step it goes up for experts that got less than the mean and down for
those that got more. Only differences matter: a common shift selects the same.

Letters: B images (or tokens), N experts, K selected.
"""

import jax
import jax.numpy as jnp

from mtlmoe_jax.moe import routing

Array = jax.Array


def update_bias(
  bias: Array, experts: Array, rate: float, valid: Array | None = None
) -> Array:
  """bias + rate sign(mean load - load).

  Args:
    bias: f32 [N].
    experts: i32 [B, K], what was selected with it.
    rate: the step; the papers use 1e-3, over sigmoids in 0 ... 1. Logits
      spread more: 1e-3 ... 1e-2.
    valid: bool [B], False for padding; None: all are valid.

  Returns:
    f32 [N]; the same where an expert's load is just the mean, and everywhere
    when nothing was selected.
  """
  load = routing.hard_load(experts, bias.shape[0], valid)
  return bias + rate * jnp.sign(jnp.mean(load) - load)
