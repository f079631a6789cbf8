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
# as come). At factor 2 the draws of 16 images over 8 experts lose 0.3 %, where
# V-MoE's 1.25 is enough for tokens (Riquelme et al. 2021).
_SPARSE = "gather"
_DROPLESS = {"strategy": "pairs", "capacity_factor": None}
_IMAGES = {"strategy": _SPARSE, "capacity_factor": 2.0}
_TOKENS = {"strategy": _SPARSE, "capacity_factor": 1.25}


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
      _IMAGES,
    ),
    _against_torch(
      "head_64_vs_torch",
      "MLP heads, B 64, N 16, k 2",
      0.9,
      _SMALL_MLP if small else _HEAD_64,
      _IMAGES,
    ),
    _against_torch(
      "vit_s_8_vs_torch",
      "784 ViT-S tokens, N 8, k 2",
      0.9,
      _SMALL_MLP if small else _VIT_8,
      _TOKENS,
    ),
    _against_torch(
      "vit_s_32_vs_torch",
      "3136 ViT-S tokens, N 32, k 2",
      0.75,
      tokens,
      _TOKENS,
    ),
    _against_torch(
      "conv_vs_torch", "conv experts, B 16, N 8, k 2", 0.7, conv, _DROPLESS
    ),
    Row(
      "dispatch_memory",
      "temporary memory at 32 experts: einsum's over ours",
      _memory(_SPARSE, tokens),
      (_memory("einsum", tokens),),
      4.0,
      quantity="temporary_bytes",
    ),
  ]


def _block(formulation: str, shape: Mixture) -> Contestant:
  options = shape.options(formulation=formulation)
  return Contestant(formulation, "ours.layers:expert_block", options)


def _ours(label: str, shape: Mixture, **how) -> Contestant:
  return Contestant(label, "ours.layers:mixture", shape.options(**how))


def _memory(strategy: str, shape: Mixture) -> Contestant:
  options = shape.options(**{**_TOKENS, "strategy": strategy})
  return Contestant(strategy, "ours.layers:memory", options)


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
