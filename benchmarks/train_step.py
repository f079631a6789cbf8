"""Whole training steps: ours sparse, ours dense, and PyTorch.

  python benchmarks/train_step.py [--only NAME ...] [--rounds 10]
      [--json FILE] [--merge FILE ...] [--list] [--plot FILE]

EfficientNet-Lite0 experts at 224 px, 16 images, tasks class and box, BatchNorm
with stored statistics, new parameters, AdamW with clipping; the same on both
sides. PyTorch is the dense multi-gate mixture of Ma et al. (2018) of timm's
experts, channels last, the quicker one of eager mode and torch.compile.

"N 6, k 2" means that an image uses 2 experts: both tasks share the gate. With
a gate for each task an image uses up to 4, on average 3.3 of 6 where the gates
choose independently; that is the row `two_gates_vs_dense`. Two gates that
choose together (`model.select=joint`) use 2: `joint_gates_vs_dense`.

The rows `grow_*` tell how the cost of a step grows with N and with k: the time
of a small model over that of the row's, 1 when it does not grow; `--plot` draws
them. `huge_pages` is one expert's step with pages of 2 MiB against 4 KiB.
"""

import functools
import sys

import growth
import harness
from harness import Contestant, Row

# How images reach the experts in the sparse model.
_SPARSE = {"model.compute": "sparse", "model.dispatch": "auto"}
_DENSE = {"model.compute": "dense"}

_FULL = {"backbone": "tf_efficientnet_lite0", "size": 224, "batch": 16}
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
      "lite0_forward_tiles",
      "one Lite0 expert, forward: image after image against all at once",
      _forward("tiles", shape, "pairs"),
      (_forward("at once", shape, "dense"),),
    ),
    *(
      Row(
        f"lite0_{name}_library",
        f"one Lite0 expert, {what}: matrix products by YNNPACK against by XLA",
        _library("YNNPACK", shape, train, True),
        (_library("XLA", shape, train, False),),
      )
      for name, what, train in (
        ("train", "train step", True),
        ("forward", "forward", False),
      )
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
    Row(
      "joint_gates_vs_dense",
      "train step, two gates that choose together, k 2: sparse against dense",
      _ours("ours", shape, experts, **two_gates, **{"model.select": "joint"}),
      (_ours("dense", shape, experts, **_DENSE),),
      2.0,
    ),
    Row(
      "huge_pages",
      "one Lite0 expert, train step: pages of 2 MiB against 4 KiB",
      _with_pages("2 MiB", shape, 1),
      (_with_pages("4 KiB", shape, 0),),
    ),
    *growth.rows(functools.partial(_growing, shape)),
  ]


def _forward(label: str, shape: dict, strategy: str) -> Contestant:
  options = {**shape, "train": False, "strategy": strategy}
  return Contestant(label, "ours.training:one_expert", options)


def _library(label: str, shape: dict, train: bool, used: bool) -> Contestant:
  options = {**shape, "train": train, "library": used}
  return Contestant(label, "ours.training:one_expert", options)


def _with_pages(label: str, shape: dict, hugetlb: int) -> Contestant:
  return Contestant(
    label,
    "ours.training:one_expert",
    {**shape, "train": True},
    env={"GLIBC_TUNABLES": f"glibc.malloc.hugetlb={hugetlb}"},
  )


def _growing(shape: dict, compute: str, experts: int, k: int) -> Contestant:
  how = {**(_SPARSE if compute == "sparse" else _DENSE), "model.k": k}
  return _ours(f"N {experts} k {k}", shape, experts, **how)


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
      needs=harness.TORCH_MODELS,
      optional=compiled,
    )
    for compiled in (False, True)
  )


if __name__ == "__main__":
  flags = harness.parser(__doc__)
  flags.add_argument("--plot", metavar="FILE", help="draw grow_* as .png, .svg")
  sys.exit(harness.main(flags, rows, growth.plot))
