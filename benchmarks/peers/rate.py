"""The rate of a large matrix product: what arithmetic could cost at best."""

from collections.abc import Callable

import torch

from peers import machine


def matmul(size: int, dtype: str) -> tuple[Callable[[], None], dict]:
  """A product of two [size, size] matrices."""
  options = {"dtype": getattr(torch, dtype), "device": machine.device()}
  a, b = (torch.randn(size, size, **options) for _ in range(2))
  out = torch.empty(size, size, **options)

  def run() -> None:
    torch.matmul(a, b, out=out)
    machine.wait()

  return run, {"flops": 2 * size**3}
