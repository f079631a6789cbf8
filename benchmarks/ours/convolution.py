"""A single convolution over experts as a contestant."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from mtlmoe_jax.models.convolution import conv2d

_GRADIENTS = {"f": (), "fx": (0,), "fb": (0, 1)}


def layer(
  layer: Sequence[int], experts: int, work: str, impl: str
) -> tuple[Callable[[], None], dict]:
  """conv2d, under `vmap` where there are several experts.

  Args:
    layer: images, size, channels in, channels out, kernel, strides, groups.
    experts: each has a kernel and an input of its own.
    work: "f" forward, "fx" with the input's gradient, "fb" with both.
    impl: of `conv2d`.
  """
  b, size, c, o, k, strides, groups = layer
  keys = jax.random.split(jax.random.key(0))
  x = jax.random.normal(keys[0], (experts, b, size, size, c))
  kernel = jax.random.normal(keys[1], (experts, k, k, c // groups, o))
  conv = functools.partial(conv2d, strides=strides, groups=groups, impl=impl)
  if experts == 1:
    x, kernel = x[0], kernel[0]
  else:
    conv = jax.vmap(conv)

  def loss(x, kernel):
    return jnp.sum(conv(x, kernel) ** 2)

  gradients = _GRADIENTS[work]
  run = jax.jit(jax.value_and_grad(loss, gradients) if gradients else conv)
  return lambda: jax.block_until_ready(run(x, kernel)), {}
