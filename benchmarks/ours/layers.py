"""Single layers: an expert's convolutions, and mixtures with their gate.

Letters: B images or tokens, N experts, K selected, S slots per expert, H W C
the map, D channels.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtlmoe_jax.models.convolution import conv2d
from mtlmoe_jax.moe import buffers, engine, routing
from mtlmoe_jax.moe.ragged import ragged_mlp
from shapes import Mixture

AUX_WEIGHT = 0.01
_ACTIVATIONS = {"relu": jax.nn.relu, "gelu": jax.nn.gelu}
Run = Callable[[], None]


def mix(
  strategy: str,
  expert: Callable[[Any, jax.Array], jax.Array],
  params: Any,
  x: jax.Array,
  decision: routing.Routing,
  slots: int | None,
  remat: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """The weighted sum of experts: the one place that knows the strategies.

  Args:
    strategy: of `engine.STRATEGIES`.
    expert: (parameters of one, [S, ...]) -> [S, D].
    params: leaves [N, ...].
    x: [B, ...].
    decision: of the gate.
    slots: S.
    remat: as in `apply_experts`.

  Returns:
    [B, D] and the share of dropped choices.
  """
  results = engine.apply_experts(
    lambda params, x, mask: expert(params, x),
    params,
    x,
    [decision.experts],
    strategy=strategy,
    capacity=slots,
    remat=remat,
  )
  weights = decision.weights.astype(results.outputs.dtype)
  return results.combine(0, weights), results.dropped[0]


def ragged(
  activation: str, params: Any, x: jax.Array, decision: routing.Routing
) -> jax.Array:
  """MLP experts by `lax.ragged_dot` on the pairs sorted by expert, [B, D]."""
  results = ragged_mlp(
    x,
    *(params[name] for name in ("w1", "b1", "w2", "b2")),
    [decision.experts],
    activation=_ACTIVATIONS[activation],
  )
  return results.combine(0, decision.weights)


def mlp_expert(activation: str) -> Callable[..., jax.Array]:
  """Two layers with biases, [S, C] -> [S, D]."""
  act = _ACTIVATIONS[activation]

  def apply(params, x):
    x = act(x @ params["w1"] + params["b1"])
    return x @ params["w2"] + params["b2"]

  return apply


def conv_block(conv: Callable = conv2d) -> Callable[..., jax.Array]:
  """Bottleneck 1x1, 3x3, 1x1 with rectifiers between, [S, H, W, C] -> same."""

  def apply(params, x):
    x = jax.nn.relu(conv(x, params["w1"]))
    x = jax.nn.relu(conv(x, params["w2"]))
    return conv(x, params["w3"])

  return apply


def conv_expert(params: Any, x: jax.Array) -> jax.Array:
  """The bottleneck, then the average over the map: [S, H, W, C] -> [S, D]."""
  return jnp.mean(conv_block()(params, x), (1, 2))


def expert_params(shape: Mixture) -> dict[str, jax.Array]:
  """Of N experts, every leaf [N, ...]."""
  c, h, d = shape.width, shape.hidden, shape.out
  if shape.side:
    sizes = {"w1": (1, 1, c, h), "w2": (3, 3, h, h), "w3": (1, 1, h, d)}
  else:
    sizes = {"w1": (c, h), "b1": (h,), "w2": (h, d), "b2": (d,)}
  random = np.random.default_rng(1)
  return {
    name: jnp.asarray(
      random.standard_normal((shape.experts, *size), np.float32)
      * math.prod(size[:-1]) ** -0.5
    )
    for name, size in sizes.items()
  }


def expert_block(
  shape: dict[str, Any], formulation: str, dtype: str = "float32"
) -> tuple[Run, dict]:
  """Forward and backward of N bottlenecks, each on a batch B of its own.

  Args:
    shape: fields of `Mixture`.
    formulation: "nn.Conv", or one of `conv2d`'s: "auto", "native" or "dot";
      all under `vmap`.
    dtype: of the computation.
  """
  shape = Mixture(**shape)
  if formulation != "nn.Conv":
    conv = functools.partial(conv2d, impl=formulation)
    params, block = expert_params(shape), conv_block(conv)
  else:
    module = _FlaxBlock(shape.hidden, shape.out)
    keys = jax.random.split(jax.random.key(0), shape.experts)
    init = functools.partial(module.init, x=jnp.zeros(shape.input_shape))
    params, block = jax.jit(jax.vmap(init))(keys), module.apply
  size = (shape.experts, *shape.input_shape)
  x = jax.random.normal(jax.random.key(1), size, dtype)

  def loss(params, x):
    params = jax.tree.map(lambda p: p.astype(x.dtype), params)
    return jnp.mean(jax.vmap(block)(params, x).astype(jnp.float32) ** 2)

  step = jax.jit(jax.value_and_grad(loss, (0, 1)))
  flops = 3 * shape.flops * shape.experts // shape.k
  return lambda: jax.block_until_ready(step(params, x)), {"flops": flops}


class _FlaxBlock(nn.Module):
  hidden: int
  out: int

  @nn.compact
  def __call__(self, x):
    conv = functools.partial(nn.Conv, use_bias=False)
    x = nn.relu(conv(self.hidden, (1, 1))(x))
    x = nn.relu(conv(self.hidden, (3, 3))(x))
    return conv(self.out, (1, 1))(x)


def mixture(
  shape: dict[str, Any],
  strategy: str,
  capacity_factor: float | None = None,
  train: bool = True,
  dtype: str = "float32",
  remat: bool = False,
) -> tuple[Run, dict]:
  """A whole layer with its noisy top-k gate and balance losses.

  Args:
    shape: fields of `Mixture`.
    strategy: see `mix`; for MLPs also "ragged".
    capacity_factor: of S. None: dropless.
    train: forward and backward to parameters and input, or forward.
    dtype: of experts and input; the gate computes in float32.
    remat: as in `apply_experts`.
  """
  shape = Mixture(**shape)
  layer, arguments, slots = _layer(
    shape, strategy, capacity_factor, dtype, remat
  )
  params, x, noise = arguments
  step = jax.jit(_loss_gradient(layer) if train else layer)
  draws = itertools.cycle([jnp.asarray(n) for n in noise])
  dropped = jax.jit(lambda *a: layer(*a)[2])
  info = {
    "flops": shape.flops * (3 if train else 1),
    "slots": slots,
    "dropped": float(np.mean([dropped(params, x, n) for n in noise])),
  }
  return lambda: jax.block_until_ready(step(params, x, next(draws))), info


def memory(
  shape: dict[str, Any],
  strategy: str,
  capacity_factor: float | None = None,
  remat: bool = False,
) -> tuple[Run, dict]:
  """Bytes that forward and backward need for the time being; runs nothing."""
  layer, (params, x, noise), _ = _layer(
    Mixture(**shape), strategy, capacity_factor, "float32", remat
  )
  step = jax.jit(_loss_gradient(layer))
  compiled = step.lower(params, x, noise[0]).compile()
  bytes_ = compiled.memory_analysis().temp_size_in_bytes
  return lambda: None, {"temporary_bytes": bytes_}


def _layer(
  shape: Mixture,
  strategy: str,
  capacity_factor: float | None,
  dtype: str,
  remat: bool = False,
) -> tuple[Callable, tuple, int | None]:
  """layer(params, x, noise [B, N]), its arguments, and S."""
  noise = shape.noise()
  slots = _slots(shape, capacity_factor)
  expert = conv_expert if shape.side else mlp_expert(shape.activation)

  def layer(params, x, noise):
    pooled = x.mean((1, 2)) if shape.side else x
    pooled = pooled.astype(jnp.float32)
    std = jax.nn.softplus(pooled @ params["noise"]) + 0.01
    decision = routing.noisy_top_k_routing(
      pooled @ params["gate"], shape.k, std, noise
    )
    experts = jax.tree.map(lambda p: p.astype(x.dtype), params["experts"])
    if strategy == "ragged":
      out = ragged(shape.activation, experts, x, decision)
      dropped = jnp.zeros(())
    else:
      out, dropped = mix(strategy, expert, experts, x, decision, slots, remat)
    aux = decision.losses["importance"] + decision.losses["load"]
    return out, aux, dropped

  zeros = jnp.zeros((shape.width, shape.experts))
  params = {"experts": expert_params(shape), "gate": zeros, "noise": zeros}
  x = jax.random.normal(jax.random.key(2), shape.input_shape, dtype)
  return layer, (params, x, noise), slots


def _loss_gradient(layer: Callable) -> Callable:
  def loss(params, x, noise):
    out, aux, _ = layer(params, x, noise)
    return jnp.mean(out.astype(jnp.float32) ** 2) + AUX_WEIGHT * aux

  return jax.value_and_grad(loss, (0, 1))


def _slots(shape: Mixture, capacity_factor: float | None) -> int | None:
  if capacity_factor is None:
    return None
  return buffers.capacity(
    shape.batch, [shape.k], shape.experts, capacity_factor
  )
