"""The sparse PyTorch layer as a contestant.

Letters: B images or tokens, N experts.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from peers import machine, moe
from shapes import Mixture

AUX_WEIGHT = 0.01


def mixture(
  shape: dict[str, Any],
  compiled: bool = False,
  train: bool = True,
  dtype: str = "float32",
) -> tuple[Callable[[], None], dict]:
  """A whole layer with its noisy top-k gate and balance losses.

  Args:
    shape: fields of `Mixture`.
    compiled: gate and experts by torch.compile, with a dynamic number of rows.
      The dispatch between them stays eager: how many rows an expert gets is
      known only when the gate has decided.
    train: forward and backward to parameters and input, or forward.
    dtype: "float32" or, by autocast, "bfloat16".
  """
  device = machine.device()
  shape = Mixture(**shape)
  torch.manual_seed(0)
  sizes = shape.width, shape.hidden, shape.out
  if shape.side:
    experts = [moe.ConvExpert(*sizes) for _ in range(shape.experts)]
  else:
    experts = [
      moe.mlp_expert(*sizes, shape.activation) for _ in range(shape.experts)
    ]
  gate = moe.NoisyTopKGate(shape.width, shape.experts, shape.k)
  layer = moe.SparseMoE(gate, experts).to(device)
  random = np.random.default_rng(2)
  x = torch.from_numpy(random.standard_normal(shape.input_shape, np.float32))
  x = x.to(device, getattr(torch, dtype))
  if shape.side:
    # The same memory: channels last already.
    x = x.permute(0, 3, 1, 2)
    layer = layer.to(memory_format=torch.channels_last)
  if compiled:
    layer.gate.compile()
    for expert in layer.experts:
      expert.compile(dynamic=True)
  draws = itertools.cycle(torch.from_numpy(shape.noise()).to(device))

  def forward() -> torch.Tensor:
    with machine.autocast(dtype):
      out, aux = layer(x, next(draws))
    return out.float().square().mean() + AUX_WEIGHT * aux

  def train_once() -> None:
    layer.zero_grad(set_to_none=True)
    x.grad = None
    forward().backward()
    machine.wait()

  def forward_once() -> None:
    with torch.inference_mode():
      forward()
    machine.wait()

  x.requires_grad_(train)
  return (train_once if train else forward_once), {}
