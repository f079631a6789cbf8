"""One GPU, bfloat16: the same comparisons with B1 experts, and our strategies.

  python benchmarks/gpu.py [--only NAME] [--rounds 10] [--json FILE] [--list]

PyTorch runs under autocast, the quicker one of eager mode and torch.compile.
Of our own, `lax.ragged_dot`, index gather and one-hot einsum compete over
tokens, and native grouped convolutions with matrix products over convolutional
experts: what is the quickest there is what the package should choose on a GPU.
Without a GPU the rows run on the CPU: with `--small`, to see that they run.
"""

import dataclasses
import sys

import harness
from harness import Contestant, Row
from shapes import Mixture

_DTYPE = "bfloat16"
_BLOCK = Mixture(64, 8, 1, 1024, 256, 1024, side=14)
_CONV = Mixture(256, 8, 2, 1024, 256, 1024, side=14)
_TOKENS = Mixture(50176, 32, 2, 384, 1536, 384, activation="gelu")
_SMALL_CONV = Mixture(6, 4, 2, 16, 8, 16, side=4)
_SMALL_TOKENS = Mixture(12, 4, 2, 16, 32, 8, activation="gelu")
_FULL = {"backbone": "efficientnet_b1", "size": 240, "batch": 96}
_SMALL = {"backbone": "efficientnet_nano", "size": 32, "batch": 4}


def rows(small: bool) -> list[Row]:
  block = _SMALL_CONV if small else _BLOCK
  conv = _SMALL_CONV if small else _CONV
  tokens = _SMALL_TOKENS if small else _TOKENS
  few = dataclasses.replace(tokens, batch=min(tokens.batch, 3136))
  image = _SMALL if small else _FULL
  experts = 2 if small else 6
  rate = {"size": 256 if small else 8192, "dtype": _DTYPE}
  gather = {"strategy": "gather", "capacity_factor": 1.25}
  return [
    Row(
      "matmul_vs_torch",
      "a large matrix product, bfloat16",
      Contestant("ours", "ours.rate:matmul", rate),
      (Contestant("torch", "peers.rate:matmul", rate, needs="torch"),),
    ),
    Row(
      "block_dot_vs_native",
      "8 experts' bottlenecks: matrix products against grouped convolution",
      _ours("dot", "expert_block", block, formulation="dot"),
      (_ours("native", "expert_block", block, formulation="native"),),
    ),
    Row(
      "tokens_gather_vs_ragged",
      "ViT-S tokens, N 32, k 2: gather against lax.ragged_dot",
      _ours("gather", "mixture", tokens, **gather),
      (_ours("ragged", "mixture", tokens, strategy="ragged"),),
    ),
    Row(
      "tokens_gather_vs_einsum",
      "3136 ViT-S tokens, N 32, k 2: gather against einsum",
      _ours("gather", "mixture", few, **gather),
      (_ours("einsum", "mixture", few, **{**gather, "strategy": "einsum"}),),
    ),
    Row(
      "tokens_vs_torch",
      "ViT-S tokens, N 32, k 2: ours against sparse PyTorch",
      _ours("ours", "mixture", tokens, **gather),
      _torch("layers:mixture", tokens.options()),
    ),
    Row(
      "conv_vs_torch",
      "conv experts, N 8, k 2: ours against sparse PyTorch",
      _ours("ours", "mixture", conv, **gather),
      _torch("layers:mixture", conv.options()),
    ),
    Row(
      "b1_train_vs_torch",
      "one B1 expert, train step: ours against PyTorch",
      _one(image, train=True),
      _torch("training:one_expert", {**image, "train": True}),
    ),
    Row(
      "b1_forward_vs_torch",
      "one B1 expert, forward: ours against PyTorch",
      _one(image, train=False),
      _torch("training:one_expert", {**image, "train": False}),
    ),
    Row(
      "sparse_vs_dense",
      "train step, B1, N 6, k 2: sparse against dense",
      _step("ours", image, experts, "sparse"),
      (_step("dense", image, experts, "dense"),),
    ),
    Row(
      "sparse_vs_torch_mmoe",
      "train step, B1, N 6, k 2: ours against dense PyTorch MMoE",
      _step("ours", image, experts, "sparse"),
      _torch("training:mmoe", {**image, "experts": experts}),
    ),
  ]


def _ours(label: str, build: str, shape: Mixture, **how) -> Contestant:
  options = shape.options(**how, dtype=_DTYPE)
  return Contestant(label, f"ours.layers:{build}", options)


def _one(image: dict, train: bool) -> Contestant:
  options = {**image, "train": train, "dtype": _DTYPE}
  return Contestant("ours", "ours.training:one_expert", options)


def _step(label: str, image: dict, experts: int, compute: str) -> Contestant:
  config = {
    "precision": _DTYPE,
    "batch_size": image["batch"],
    "data.image_size": image["size"],
    "model.backbone": image["backbone"],
    "model.experts": experts,
    "model.k": 2,
    "model.share_gate": True,
    "model.norm": "frozen",
    "model.compute": compute,
    "model.capacity_factor": 1.25,
  }
  options = {"overrides": config}
  return Contestant(label, "ours.training:train_step", options)


def _torch(build: str, options: dict) -> tuple[Contestant, ...]:
  if "backbone" in options:
    options = {**options, "backbone": "efficientnet_b1"}
  return tuple(
    Contestant(
      "torch " + ("compile" if compiled else "eager"),
      f"peers.{build}",
      {**options, "compiled": compiled, "dtype": _DTYPE},
      needs="torch",
      optional=compiled,
    )
    for compiled in (False, True)
  )


if __name__ == "__main__":
  flags = harness.parser(__doc__)
  # The host prepares kernels: two threads are few beside a GPU.
  flags.set_defaults(threads=8)
  sys.exit(harness.main(flags, rows))
