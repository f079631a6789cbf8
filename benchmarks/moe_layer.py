"""Mixture-of-experts layers: our strategies, and a sparse PyTorch peer.

  python benchmarks/moe_layer.py [--only NAME ...] [--rounds 10]
      [--json FILE] [--merge FILE ...] [--list]

The PyTorch peer is dropless; each row tells what share ours dropped. Its time
is the quicker one of eager mode and torch.compile. `dispatch_memory` compares
the compiler's temporary memory, not times.
"""

import sys

import harness
from harness import Contestant, Row
from shapes import Mixture

# Batch, experts, k, ...: the shapes of the rows.
_BLOCK = Mixture(4, 8, 1, 1024, 256, 1024, side=14)
_CONV = Mixture(16, 8, 2, 1024, 256, 1024, side=14)
_HEAD_16 = Mixture(16, 8, 2, 2048, 1024, 256)
_HEAD_64 = Mixture(64, 16, 2, 2048, 1024, 256)
_VIT_8 = Mixture(784, 8, 2, 384, 1536, 384, activation="gelu")
_VIT_32 = Mixture(3136, 32, 2, 384, 1536, 384, activation="gelu")

_SMALL_CONV = Mixture(6, 4, 2, 16, 8, 16, side=4)
_SMALL_MLP = Mixture(12, 4, 2, 16, 32, 8, activation="gelu")

# How images reach the experts, and how many an expert can take (None: as many
# as come). Few images meet heads of megabytes: buffers for all experts at once,
# at factor 2, where the draws of 16 images over 8 experts lose 0.3 %.
_DROPLESS = {"strategy": "pairs", "capacity_factor": None}
_HEADS = {"strategy": "gather", "capacity_factor": 2.0}
# V-MoE's (Riquelme et al. 2021).
_BUFFERS = {"strategy": "gather", "capacity_factor": 1.25}
_ONE_HOT = {"strategy": "einsum", "capacity_factor": 1.25}


def rows(small: bool) -> list[Row]:
  block = _SMALL_CONV if small else _BLOCK
  conv = _SMALL_CONV if small else _CONV
  tokens = _SMALL_MLP if small else _VIT_32
  sparse = _ours("ours", conv, **_DROPLESS)
  return [
    Row(
      "expert_conv",
      "8 experts' bottlenecks: conv2d against nn.Conv, both under vmap",
      _block("auto", block),
      (_block("nn.Conv", block),),
      8.0,
    ),
    Row(
      "conv_vs_dense",
      "conv experts, B 16, N 8, k 2, dropless: sparse against dense",
      sparse,
      (_ours("dense", conv, strategy="dense"),),
      3.5,
    ),
    _against_torch(
      "head_16_vs_torch",
      "MLP heads, B 16, N 8, k 2",
      0.9,
      _SMALL_MLP if small else _HEAD_16,
      _HEADS,
    ),
    _against_torch(
      "head_64_vs_torch",
      "MLP heads, B 64, N 16, k 2",
      0.9,
      _SMALL_MLP if small else _HEAD_64,
      _HEADS,
    ),
    _against_torch(
      "vit_s_8_vs_torch",
      "784 ViT-S tokens, N 8, k 2",
      0.9,
      _SMALL_MLP if small else _VIT_8,
      _DROPLESS,
    ),
    _against_torch(
      "vit_s_32_vs_torch",
      "3136 ViT-S tokens, N 32, k 2",
      0.75,
      tokens,
      _DROPLESS,
    ),
    _against_torch(
      "conv_vs_torch", "conv experts, B 16, N 8, k 2", 0.7, conv, _DROPLESS
    ),
    _memory("", "pairs with remat", tokens, {**_DROPLESS, "remat": True}, 4.0),
    _memory("_stored", "pairs", tokens, _DROPLESS),
    _memory("_gather", "gather", tokens, _BUFFERS),
    Row(
      "remat_time",
      "3136 ViT-S tokens, N 32, k 2: pairs with remat against without",
      _ours("remat", tokens, **_DROPLESS, remat=True),
      (_ours("stored", tokens, **_DROPLESS),),
    ),
  ]


def _block(formulation: str, shape: Mixture) -> Contestant:
  options = shape.options(formulation=formulation)
  return Contestant(formulation, "ours.layers:expert_block", options)


def _ours(label: str, shape: Mixture, **how) -> Contestant:
  return Contestant(label, "ours.layers:mixture", shape.options(**how))


def _memory(
  name: str,
  what: str,
  shape: Mixture,
  how: dict,
  at_least: float | None = None,
) -> Row:
  ours, einsum = (
    Contestant(label, "ours.layers:memory", shape.options(**options))
    for label, options in (("ours", how), ("einsum", _ONE_HOT))
  )
  return Row(
    f"dispatch_memory{name}",
    f"temporary memory at 32 experts: einsum's over that of {what}",
    ours,
    (einsum,),
    at_least,
    quantity="temporary_bytes",
  )


def _against_torch(
  name: str, what: str, at_least: float, shape: Mixture, how: dict
) -> Row:
  peers = [
    Contestant(
      "torch " + ("compile" if compiled else "eager"),
      "peers.layers:mixture",
      shape.options(compiled=compiled),
      needs=harness.TORCH,
      optional=compiled,
    )
    for compiled in (False, True)
  ]
  what = f"{what}: ours against sparse PyTorch"
  return Row(name, what, _ours("ours", shape, **how), tuple(peers), at_least)


if __name__ == "__main__":
  sys.exit(harness.main(harness.parser(__doc__), rows))
