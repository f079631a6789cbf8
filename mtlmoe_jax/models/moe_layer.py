"""A mixture of experts over patch tokens, in place of the MLP of a ViT block.

Sparse layers of this kind are V-MoE's (Riquelme et al. 2021), with the choice
of expert choice (Zhou et al. 2022) and Soft MoE (Puigcerver et al. 2024):

  y, routing = MoEMlp(experts=8, hidden=1536)(norm(x), train)
  x = x + y

Letters: B images, M tokens of an image, D features, N experts, K selected per
token, S rows an expert sees, P slots of Soft MoE, G groups of L tokens.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtlmoe_jax.config import MOE_GATES as KINDS
from mtlmoe_jax.config import MOE_GROUPS as GROUPS
from mtlmoe_jax.devices import meshes
from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models.gates import GateOptions, Head
from mtlmoe_jax.models.layers import scaled_normal
from mtlmoe_jax.moe import (
  buffers,
  everyone,
  exchange,
  expert_choice,
  interface,
  routing,
  token_buffers,
)

TokenRouting = (
  routing.Routing | expert_choice.ExpertChoice | expert_choice.SoftRouting
)


class Mlp(nn.Module):
  """Two layers with a GELU between them.

  Attributes:
    hidden: width between the layers.
    dropout: rate, after the GELU.
    train: drop.
    approximate: GELU's tanh form.
    dtype: type of the computation.
  """

  hidden: int
  dropout: float = 0.0
  train: bool = False
  approximate: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [S, D] to [S, D]."""
    width = x.shape[-1]
    up = nn.Dense(
      self.hidden, dtype=self.dtype, kernel_init=scaled_normal(2.0), name="up"
    )
    down = nn.Dense(
      width, dtype=self.dtype, kernel_init=scaled_normal(1.0), name="down"
    )
    x = nn.gelu(up(x), approximate=self.approximate)
    return down(nn.Dropout(self.dropout, deterministic=not self.train)(x))


class SoftHead(nn.Module):
  """The slots of Soft MoE, compared with tokens by their angle.

  Both are scaled to length 1, and the logits by one learned number, so that
  wide features do not make the softmaxes one-hot (Puigcerver et al. 2024,
  section 2.3).

  Attributes:
    experts: N.
    slots: P.
  """

  experts: int
  slots: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Logits [B, M, N, P] of tokens [B, M, D], float32."""
    shape = (x.shape[-1], self.experts, self.slots)
    init = nn.initializers.normal(1.0)
    slots = _unit(self.param("slots", init, shape), 0)
    scale = self.param("scale", nn.initializers.ones, ())
    return jnp.einsum("bmd,dnp->bmnp", _unit(x, -1), scale * slots)


class MoEMlp(nn.Module):
  """N two-layer MLPs, and a gate that says which serves a token.

  Parameters: `gate/...` and `experts/{up,down}/{kernel,bias}` with a leading
  axis N.

  Attributes:
    experts: N.
    hidden: width between the layers of an expert.
    gate: "noisy_top_k", "top_k", "dense" (see `routing`), "expert_choice" or
      "soft" (see `token_routing`).
    k: K; with "expert_choice" the mean number of experts per token. "dense"
      and "soft" use all experts.
    group: who competes for an expert's slots in training: the tokens of one
      "image", or of the whole "batch" (fewer are dropped for the same
      capacity; top-k kinds only), which on several devices is the part of it
      that a device has. In evaluation it is always the image, so that no
      prediction depends on other images.
    capacity_factor: slots per expert in a group = ceil(factor L K / N); 0 is
      dropless, computed as "dense" is. With "expert_choice", the tokens an
      expert takes, in evaluation too.
    eval_capacity_factor: the same in evaluation, for the top-k kinds.
    batch_priority: full experts turn away the tokens with the least weight,
      not the last ones (V-MoE's batch-priority routing).
    slots: P, of "soft".
    noise: scale of the noise of the top-k kinds, see `GateOptions`.
    temperature: divides the logits (but those of "soft").
    bias_rate: see `GateOptions`.
    dropout: rate inside the experts.
    approximate: GELU's tanh form; published ViTs have the exact one.
    dtype: type of the experts' computation; the gate's is float32.
  """

  experts: int
  hidden: int
  gate: str = "noisy_top_k"
  k: int = 2
  group: str = "image"
  capacity_factor: float = 1.25
  eval_capacity_factor: float = 0.0
  batch_priority: bool = False
  slots: int = 1
  noise: float = 1.0
  temperature: float = 1.0
  bias_rate: float = 0.0
  dropout: float = 0.0
  approximate: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    train: bool = False,
    valid: jax.Array | None = None,
    noise: jax.Array | None = None,
  ) -> tuple[jax.Array, TokenRouting]:
    """Maps the tokens of images.

    Args:
      x: [B, M, D].
      train: limited capacity, dropout, noise; random streams "dropout" and
        "gating" (without the latter: no noise).
      valid: bool [B] or [B, M], False for padding, which takes no slot and
        counts in no loss; None: all valid.
      noise: scalar, the scale of the noise now; None: the attribute.

    Returns:
      y [B, M, D] of type `dtype`, 0 for a token that no expert served (the
      block's residual then carries it on) and meaningless for padding; and
      the routing. Its losses and metrics are over the valid tokens of the
      whole batch; metrics hold `dropped`, the share of choices (with
      "expert_choice": of tokens) that found no place. Of the top-k kinds and
      "dense" it is a `routing.Routing` with arrays [B, M, ...].

    Raises:
      InputError: an unknown gate or group, or a group that the gate cannot
        have.
    """
    self._check()
    batch, count, _ = x.shape
    if valid is None:
      valid = jnp.ones(batch, bool)
    valid = jnp.broadcast_to(valid.reshape(batch, -1), (batch, count))
    if self.gate == "soft":
      return self._soft(x, train, valid)
    if self.gate == "expert_choice":
      return self._expert_choice(x, train, valid)
    return self._token_choice(x, train, valid, noise)

  def _check(self) -> None:
    for name, value, known in (
      ("gate", self.gate, KINDS),
      ("group", self.group, GROUPS),
    ):
      if value not in known:
        raise InputError(
          f"MoEMlp {name}={value!r}: must be one of {', '.join(known)}"
        )
    if self.group == "batch" and self.gate in ("expert_choice", "soft"):
      raise InputError(
        f"MoEMlp group='batch' with gate={self.gate!r}: a prediction would "
        "depend on the other images of its batch; use group='image'"
      )

  def _soft(
    self, x: jax.Array, train: bool, valid: jax.Array
  ) -> tuple[jax.Array, expert_choice.SoftRouting]:
    """Every slot a mean of tokens, every token a mean of slots."""
    logits = SoftHead(self.experts, self.slots, name="gate")(_float(x))
    routed = expert_choice.soft_routing(logits, valid)
    slots = expert_choice.mix_in(x.astype(self.dtype), routed)
    return expert_choice.mix_out(self._on_slots(slots, train), routed), routed

  def _expert_choice(
    self, x: jax.Array, train: bool, valid: jax.Array
  ) -> tuple[jax.Array, expert_choice.ExpertChoice]:
    """Every expert takes as many tokens of each image."""
    batch, count, width = x.shape
    options = GateOptions(
      "dense", self.experts, noise=0.0, temperature=self.temperature
    )
    head = Head(options, name="gate")
    logits = head(_float(x).reshape(-1, width)).logits
    logits = logits.reshape(batch, count, self.experts)
    capacity = self._capacity(count, self.capacity_factor)
    choice = expert_choice.expert_choice_routing(logits, capacity, valid)
    slots = expert_choice.gather_chosen(x.astype(self.dtype), choice)
    outputs = self._on_slots(slots, train)
    return expert_choice.combine_chosen(outputs, choice, count), choice

  def _token_choice(
    self,
    x: jax.Array,
    train: bool,
    valid: jax.Array,
    noise: jax.Array | None,
  ) -> tuple[jax.Array, routing.Routing]:
    """Every token takes K experts, as long as they have room."""
    batch, count, width = x.shape
    options = GateOptions(
      self.gate,
      self.experts,
      noise=self.noise,
      temperature=self.temperature,
      bias_rate=self.bias_rate,
    )
    head = Head(options, name="gate")
    scores = head(_float(x).reshape(-1, width), train, noise)
    flat = valid.reshape(-1)
    routed = routing.separate_routing(self.gate, scores, self.k, flat)
    if train:
      head.balance(routed.experts, flat)
    groups = batch
    if train and self.group == "batch":
      # As many as there are devices: those of others are not waited for.
      groups = math.gcd(batch, meshes.devices())
    length = batch * count // groups
    factor = self.capacity_factor if train else self.eval_capacity_factor
    capacity = self._capacity(length, factor)
    if self.gate == "dense" or capacity == length:
      # Nothing can be dropped, so that no buffer is smaller than all tokens.
      results = interface.apply_plan(
        lambda rows, _: self._stack(train, None)(rows),
        everyone.Everyone((routed.experts,), None, self.experts),
        x.astype(self.dtype).reshape(-1, width),
      )
    else:
      weights, first = routed.weights, None
      if self.batch_priority:
        first = jnp.max(weights, axis=1)
      results = interface.apply_plan(
        lambda slots, _: self._on_slots(slots, train),
        token_buffers.make_group_plan(
          routed.experts, self.experts, groups, capacity, flat, first
        ),
        x.astype(self.dtype).reshape(-1, width),
      )
    y = results.combine(0, routed.weights)
    (dropped,) = results.dropped
    shaped = {
      name: getattr(routed, name).reshape(batch, count, -1)
      for name in ("experts", "weights", "probs")
    }
    metrics = {**routed.metrics, "dropped": dropped}
    routed = dataclasses.replace(routed, **shaped, metrics=metrics)
    return y.reshape(batch, count, width), routed

  def _capacity(self, length: int, factor: float) -> int:
    return buffers.capacity(length, [self.k], self.experts, factor)

  def _on_slots(self, slots: jax.Array, train: bool) -> jax.Array:
    """Experts on slots [G, N, S, D]: all groups of an expert at once.

    With experts on several devices the slots go there and come back.
    """
    apart = exchange.apart(slots.shape[0], self.experts)
    if not apart or self.is_initializing():
      return exchange.on_all_groups(self._stack(train, 0), slots)
    key = self.make_rng("dropout") if train and self.dropout else None

    def local(
      params: Any, rows: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, None]:
      del mask
      experts = self._stack(train, 0, rows.shape[0], parent=None)
      rngs = None if key is None else {"dropout": exchange.own_key(key)}
      outputs: Any = experts.apply({"params": params}, rows, rngs=rngs)
      return outputs, None

    params = self.variables["params"]["experts"]
    return exchange.run_on_slots(local, params, slots)

  def _stack(
    self,
    train: bool,
    in_axis: int | None,
    count: int | None = None,
    **place: Any,
  ) -> nn.Module:
    """The experts, or `count` of them.

    Args:
      train: see `__call__`.
      in_axis: None where all see the same rows.
      count: None: all.
      **place: where the module belongs; here, as `experts`, without it.
    """
    stack = nn.vmap(
      Mlp,
      variable_axes={"params": 0},
      split_rngs={"params": True, "dropout": True},
      in_axes=in_axis,
      out_axes=0,
      axis_size=count or self.experts,
    )
    return stack(
      self.hidden,
      self.dropout,
      train,
      self.approximate,
      self.dtype,
      **(place or {"name": "experts"}),
    )


def _float(x: jax.Array) -> jax.Array:
  return x.astype(jnp.float32)


def _unit(x: jax.Array, axis: int) -> jax.Array:
  """Scaled to length 1 along an axis; zeros stay, with a finite gradient."""
  return x * jax.lax.rsqrt(jnp.sum(x * x, axis, keepdims=True) + 1e-12)
