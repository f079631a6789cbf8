"""The rate of a large matrix product: what arithmetic could cost at best."""

from collections.abc import Callable

import jax


def matmul(size: int, dtype: str) -> tuple[Callable[[], None], dict]:
  """A product of two [size, size] matrices."""
  keys = jax.random.split(jax.random.key(0))
  a, b = (jax.random.normal(key, (size, size), dtype) for key in keys)
  product = jax.jit(lambda a, b: a @ b)
  run = lambda: jax.block_until_ready(product(a, b))  # noqa: E731
  return run, {"flops": 2 * size**3, "device": jax.devices()[0].device_kind}
