"""Whole training steps: ours sparse, ours dense, and PyTorch.

  python benchmarks/train_step.py [--only NAME] [--rounds 10] [--json FILE]
      [--list]

EfficientNet-Lite0 experts at 224 px, 16 images, tasks class and box, BatchNorm
with stored statistics, new parameters, AdamW with clipping; the same on both
sides. PyTorch is the dense multi-gate mixture of Ma et al. (2018) of timm's
experts, channels last, the quicker one of eager mode and torch.compile.

"N 6, k 2" means that an image uses 2 experts: both tasks share the gate. With
a gate for each task an image uses up to 4, on average 3.3 of 6 where the gates
choose independently; that is the row `two_gates_vs_dense`.
"""

import sys

import harness
from harness import Contestant, Row

# How images reach the experts in the sparse model.
_SPARSE = {"model.compute": "sparse", "model.dispatch": "auto"}
_DENSE = {"model.compute": "dense"}

_FULL = {"backbone": "efficientnet_lite0", "size": 224, "batch": 16}
_SMALL = {"backbone": "efficientnet_nano", "size": 32, "batch": 6}


def rows(small: bool) -> list[Row]:
  shape = _SMALL if small else _FULL
  experts = 3 if small else 6
  sparse = _ours("ours", shape, experts, **_SPARSE)
  two_gates = {**_SPARSE, "model.share_gate": False}
  return [
    Row(
      "sparse_vs_dense",
      "train step, N 6, k 2: sparse against dense",
      sparse,
      (_ours("dense", shape, experts, **_DENSE),),
      2.2,
    ),
    Row(
      "sparse_vs_torch_mmoe",
      "train step, N 6, k 2: ours against dense PyTorch MMoE",
      sparse,
      _torch("mmoe", {**shape, "experts": experts}),
      1.3,
    ),
    Row(
      "lite0_train_vs_torch",
      "one Lite0 expert, train step: ours against PyTorch",
      Contestant("ours", "ours.training:one_expert", {**shape, "train": True}),
      _torch("one_expert", {**shape, "train": True}),
      0.8,
    ),
    Row(
      "lite0_forward_vs_torch",
      "one Lite0 expert, forward: ours against PyTorch",
      Contestant("ours", "ours.training:one_expert", {**shape, "train": False}),
      _torch("one_expert", {**shape, "train": False}),
      1.0,
    ),
    Row(
      "six_sparse_vs_two_dense",
      "train step: 2 experts dense over 6 experts, k 2",
      sparse,
      (_ours("2 dense", shape, 2, **_DENSE),),
      0.8,
    ),
    Row(
      "two_gates_vs_dense",
      "train step, a gate for each task, k 2: sparse against dense",
      _ours("ours", shape, experts, **two_gates),
      (_ours("dense", shape, experts, **_DENSE),),
    ),
  ]


def _ours(label: str, shape: dict, experts: int, **overrides) -> Contestant:
  config = {
    "batch_size": shape["batch"],
    "data.image_size": shape["size"],
    "model.backbone": shape["backbone"],
    "model.experts": experts,
    "model.k": 2,
    "model.share_gate": True,
    "model.norm": "frozen",
    **overrides,
  }
  options = {"overrides": config}
  return Contestant(label, "ours.training:train_step", options)


def _torch(build: str, options: dict) -> tuple[Contestant, ...]:
  return tuple(
    Contestant(
      "torch " + ("compile" if compiled else "eager"),
      f"peers.training:{build}",
      {**options, "backbone": "efficientnet_lite0", "compiled": compiled},
      needs="torch",
      optional=compiled,
    )
    for compiled in (False, True)
  )


if __name__ == "__main__":
  sys.exit(harness.main(harness.parser(__doc__), rows))
