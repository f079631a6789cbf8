"""Routing in which experts choose among the patch tokens of one image.

Expert choice and Soft MoE compare the items of a group with each other. With
the images of a batch as items a prediction would depend on its batch-mates;
here the group is one image and its items are its tokens, so that no image sees
another. Both are balanced by construction: their importance, load and balance
losses are 0, and only `z` is there for who weighs it.

Letters: G images, M tokens of an image, N experts, C tokens that an expert
takes, P slots of an expert, D features. Everything but the tokens themselves
is float32.
"""

import dataclasses

import jax
import jax.numpy as jnp

from mtlmoe_jax import errors
from mtlmoe_jax.devices import meshes
from mtlmoe_jax.moe import routing

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExpertChoice:
  """Which tokens each expert takes.

  Attributes:
    tokens: i32 [G, N, C], distinct for an expert, best first.
    mask: bool [G, N, C], False where there were too few valid tokens.
    weights: f32 [G, N, C], the share of the expert in the token's softmax; 0
      where the mask is False.
    probs: f32 [G, M, N], softmax over experts.
    losses: see `routing.Routing`; all but `z` are 0.
    metrics: see `routing.Routing`, and `dropped`: the share of tokens that no
      expert took.
  """

  tokens: Array
  mask: Array
  weights: Array
  probs: Array
  losses: dict[str, Array]
  metrics: dict[str, Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SoftRouting:
  """How slots mix tokens, and tokens mix slots.

  Attributes:
    dispatch: f32 [G, M, N, P], the share of each token in a slot; sums to 1
      over tokens, 0 for padding.
    combine: f32 [G, M, N, P], the share of each slot in a token; sums to 1
      over slots.
    losses: see `routing.Routing`; all but `z` are 0.
    metrics: see `routing.Routing` (of `combine` summed over an expert's
      slots), and `dropped`, which is 0.
  """

  dispatch: Array
  combine: Array
  losses: dict[str, Array]
  metrics: dict[str, Array]


def expert_choice_routing(
  logits: Array, capacity: int, valid: Array | None = None
) -> ExpertChoice:
  """Each expert takes its C best tokens (Zhou et al. 2022, section 3.2).

  A token is served by 0 ... N experts. An expert ranks tokens by the token's
  softmax over experts, and that share is the weight.

  Args:
    logits: [G, M, N].
    capacity: C, from 1 to M.
    valid: bool [G, M], False for padding, which nobody takes; None: all valid.

  Returns:
    The choice. Equal tokens go to the lower index.

  Raises:
    InputError: C is not in 1 ... M.
  """
  groups, count = logits.shape[:2]
  if not 1 <= capacity <= count:
    raise errors.InputError(
      f"capacity={capacity} tokens per expert: must be from 1 to the number of "
      f"tokens, {count}"
    )
  valid = jnp.ones((groups, count), bool) if valid is None else valid
  logits = routing.bounded(logits)
  probs = jax.nn.softmax(logits)
  # Ranked by the logarithm: shares that underflow would be full of ties.
  rank = jnp.where(valid[..., None], jax.nn.log_softmax(logits), -jnp.inf)
  rank = jnp.swapaxes(jax.lax.stop_gradient(rank), 1, 2)  # [G, N, M]
  tokens = meshes.top_indices(rank, capacity)
  mask = jax.vmap(lambda v, t: v[t])(valid, tokens)
  picked = jnp.take_along_axis(jnp.swapaxes(probs, 1, 2), tokens, axis=2)
  weights = jnp.where(mask, picked, 0)
  served = jax.vmap(lambda t, m: jnp.zeros(count, bool).at[t].max(m))(
    tokens.reshape(groups, -1), mask.reshape(groups, -1)
  )
  lost = jnp.sum(valid & ~served) / jnp.maximum(jnp.sum(valid), 1)
  losses, metrics = _losses_and_metrics(
    logits,
    probs,
    jnp.sum(weights, (0, 2)),
    jnp.sum(mask, (0, 2)).astype(jnp.float32),
    valid,
  )
  metrics["dropped"] = lost.astype(jnp.float32)
  return ExpertChoice(tokens, mask, weights, probs, losses, metrics)


def gather_chosen(x: Array, choice: ExpertChoice) -> Array:
  """Copies the tokens [G, M, D] that were taken into [G, N, C, D]."""
  taken = jax.vmap(lambda x, t: x[t])(x, choice.tokens)
  return jnp.where(choice.mask[..., None], taken, 0)


def combine_chosen(
  outputs: Array, choice: ExpertChoice, num_tokens: int
) -> Array:
  """Adds the experts' weighted outputs up again.

  Args:
    outputs: [G, N, C, D], what the experts made of `gather_chosen`.
    choice: the same choice.
    num_tokens: M.

  Returns:
    [G, M, D] of the type of the outputs; a token that nobody took is 0.
  """
  weights = choice.weights[..., None].astype(outputs.dtype)
  # Selected, not multiplied by 0: an empty slot may hold anything.
  outputs = jnp.where(choice.mask[..., None], outputs * weights, 0)
  groups, _, _, width = outputs.shape

  def add(tokens: Array, values: Array) -> Array:
    zeros = jnp.zeros((num_tokens, width), values.dtype)
    return zeros.at[tokens].add(values)

  return jax.vmap(add)(
    choice.tokens.reshape(groups, -1), outputs.reshape(groups, -1, width)
  )


def soft_routing(logits: Array, valid: Array | None = None) -> SoftRouting:
  """Slots that are means of tokens (Puigcerver et al. 2024, eqs. 1-3).

  Args:
    logits: [G, M, N, P], X Phi.
    valid: bool [G, M], False for padding, which is in no slot; None: all
      valid.

  Returns:
    The routing.
  """
  groups, count, num_experts, slots = logits.shape
  valid = jnp.ones((groups, count), bool) if valid is None else valid
  there = valid[..., None, None]
  logits = routing.bounded(logits)
  some = jnp.any(there, axis=1, keepdims=True)  # A softmax of nothing is NaN.
  dispatch = jax.nn.softmax(logits, axis=1, where=there | ~some)
  dispatch = jnp.where(there, dispatch, 0)
  flat = logits.reshape(groups, count, num_experts * slots)
  combine = jax.nn.softmax(flat).reshape(logits.shape)
  probs = jnp.sum(combine, axis=3)
  received = jnp.sum(jnp.where(valid[..., None], probs, 0), (0, 1))
  even = jnp.full(num_experts, groups * slots, jnp.float32)
  losses, metrics = _losses_and_metrics(flat, probs, received, even, valid)
  metrics["dropped"] = jnp.zeros(())
  return SoftRouting(dispatch, combine, losses, metrics)


def mix_in(x: Array, soft: SoftRouting) -> Array:
  """The slots [G, N, P, D] of tokens [G, M, D], of their type."""
  return jnp.einsum("gmd,gmnp->gnpd", x, soft.dispatch.astype(x.dtype))


def mix_out(outputs: Array, soft: SoftRouting) -> Array:
  """The tokens [G, M, D] of slots [G, N, P, D] after the experts."""
  shares = soft.combine.astype(outputs.dtype)
  return jnp.einsum("gnpd,gmnp->gmd", outputs, shares)


def _losses_and_metrics(
  logits: Array, probs: Array, importance: Array, load: Array, valid: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
  """Losses and metrics over all tokens [G, M, ...] of the batch."""
  num_experts, valid = probs.shape[-1], valid.reshape(-1)
  names = ("importance", "load", "balance", "z", "information")
  losses = {name: jnp.zeros(()) for name in names}
  if num_experts > 1:
    losses["z"] = routing.z_loss(logits.reshape(-1, logits.shape[-1]), valid)
  probs = probs.reshape(-1, num_experts)
  return losses, routing.gate_metrics(probs, importance, load, valid)
