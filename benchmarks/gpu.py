"""One GPU, bfloat16: the same comparisons with B1 experts, and our strategies.

  python benchmarks/gpu.py [--only NAME ...] [--rounds 10] [--json FILE]
      [--merge FILE ...] [--list]

PyTorch runs under autocast, the quicker one of eager mode and torch.compile.
Of our own, `lax.ragged_dot`, index gather and one-hot einsum compete over
tokens; gather with the loop over pairs, and native grouped convolutions with
matrix products, over convolutional experts, in a layer and in the whole model:
what is the quickest there is what the package should choose on a GPU.
`python benchmarks/all.py` runs the same rows and writes RESULTS_GPU.md. With
`--small` the rows also run without a GPU, to see that they do.
"""

import dataclasses
import functools
import subprocess
import sys

import harness
from harness import Contestant, Row
from shapes import Mixture

# The host prepares kernels: two threads are few beside a GPU.
THREADS = 8
_DTYPE = "bfloat16"
_BLOCK = Mixture(64, 8, 1, 1024, 256, 1024, side=14)
_CONV = Mixture(256, 8, 2, 1024, 256, 1024, side=14)
_TOKENS = Mixture(50176, 32, 2, 384, 1536, 384, activation="gelu")
_SMALL_CONV = Mixture(6, 4, 2, 16, 8, 16, side=4)
_SMALL_TOKENS = Mixture(12, 4, 2, 16, 32, 8, activation="gelu")
# One expert; and six, whose maps three contestants keep in one GPU's memory.
_FULL = {"backbone": "tf_efficientnet_b1", "size": 240, "batch": 96}
_FULL_MIXTURE = {**_FULL, "batch": 32}
_SMALL = {"backbone": "efficientnet_nano", "size": 32, "batch": 4}


def rows(small: bool) -> list[Row]:
  block = _SMALL_CONV if small else _BLOCK
  conv = _SMALL_CONV if small else _CONV
  tokens = _SMALL_TOKENS if small else _TOKENS
  few = dataclasses.replace(tokens, batch=min(tokens.batch, 3136))
  image = _SMALL if small else _FULL
  images = _SMALL if small else _FULL_MIXTURE
  experts = 3 if small else 6
  rate = {"size": 256 if small else 8192, "dtype": _DTYPE}
  gather = {"strategy": "gather", "capacity_factor": 1.25}
  dropless = {"capacity_factor": None}
  sparse = _step("ours", images, experts)
  out = [
    Row(
      "matmul_vs_torch",
      "a large matrix product, bfloat16",
      Contestant("ours", "ours.rate:matmul", rate),
      (Contestant("torch", "peers.rate:matmul", rate, needs=harness.TORCH),),
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
      "conv_gather_vs_pairs",
      "conv experts, N 8, k 2: gather, capacity 1.25, against dropless",
      _ours("gather", "mixture", conv, **gather),
      (
        _ours("pairs", "mixture", conv, strategy="pairs", **dropless),
        _ours("full gather", "mixture", conv, strategy="gather", **dropless),
      ),
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
      sparse,
      (_step("dense", images, experts, **{"model.compute": "dense"}),),
    ),
    Row(
      "sparse_vs_torch_mmoe",
      "train step, B1, N 6, k 2: ours against dense PyTorch MMoE",
      sparse,
      _torch("training:mmoe", {**images, "experts": experts}),
    ),
    Row(
      "step_gather_vs_pairs",
      "train step, B1, N 6, k 2: gather, capacity 1.25, against pairs",
      sparse,
      (_step("pairs", images, experts, **{"model.dispatch": "pairs"}),),
    ),
    Row(
      "step_auto_vs_native_dot",
      "train step, B1, N 6, k 2: conv2d's choice against one form everywhere",
      sparse,
      tuple(
        dataclasses.replace(
          sparse,
          label=form,
          options={**sparse.options, "convolution": form},
          optional=True,
        )
        for form in ("native", "dot")
      ),
    ),
  ]
  if small:
    return out
  return [dataclasses.replace(row, prepare=need_gpu) for row in out]


@functools.cache
def need_gpu() -> None:
  """Ends the program where JAX or an installed PyTorch sees no GPU."""
  probes = {
    "jax": "import jax; jax.devices('gpu')",
    "torch": "import torch; torch.zeros(1, device='cuda')",
  }
  for module, code in probes.items():
    if not harness.installed(module):
      continue
    done = subprocess.run(
      [sys.executable, "-c", code], capture_output=True, text=True
    )
    if done.returncode:
      cause = (done.stderr.strip().splitlines() or ["it died"])[-1]
      sys.exit(
        f"{module} sees no GPU ({cause}): install its build for CUDA, or pass "
        "--small, or --precision=float32 to all.py"
      )


def _ours(label: str, build: str, shape: Mixture, **how) -> Contestant:
  options = shape.options(**how, dtype=_DTYPE)
  return Contestant(label, f"ours.layers:{build}", options)


def _one(image: dict, train: bool) -> Contestant:
  options = {**image, "train": train, "dtype": _DTYPE}
  return Contestant("ours", "ours.training:one_expert", options)


def _step(label: str, image: dict, experts: int, **overrides) -> Contestant:
  config = {
    "precision": _DTYPE,
    "batch_size": image["batch"],
    "data.image_size": image["size"],
    "model.backbone": image["backbone"],
    "model.experts": experts,
    "model.k": 2,
    "model.share_gate": True,
    "model.norm": "frozen",
    "model.compute": "sparse",
    "model.capacity_factor": 1.25,
    **overrides,
  }
  options = {"overrides": config}
  return Contestant(label, "ours.training:train_step", options)


def _torch(build: str, options: dict) -> tuple[Contestant, ...]:
  if "backbone" in options:
    options = {**options, "backbone": "efficientnet_b1"}
  models = build.startswith("training:")
  return tuple(
    Contestant(
      "torch " + ("compile" if compiled else "eager"),
      f"peers.{build}",
      {**options, "compiled": compiled, "dtype": _DTYPE},
      needs=harness.TORCH_MODELS if models else harness.TORCH,
      optional=compiled,
    )
    for compiled in (False, True)
  )


if __name__ == "__main__":
  flags = harness.parser(__doc__)
  flags.set_defaults(threads=THREADS, precision=_DTYPE)
  sys.exit(harness.main(flags, rows))
