"""Forward passes of prediction: ours, plain `jax.jit`, and two runtimes.

  python benchmarks/forward.py [--only NAME ...] [--rounds 10]
      [--json FILE] [--merge FILE ...] [--list]

Rows `mixture_*` are the whole step of prediction with three Lite0 experts, k 2
and a gate for each task, behind four shared stages ("stem") or from the pixels
on ("whole"): norms folded, options and dispatch by shape, against `jax.jit` of
the same step and the variables as they are restored.

Rows `network_*` are one Lite0 with a classifier, float32, also in onnxruntime
and OpenVINO: the same network and weights as an ONNX graph of convolutions and
clips, norms folded, channels first, a fixed batch (`peers/runtimes.py`; the
package has no export to ONNX yet). `network_torch_*` is timm's in PyTorch.

`forward_folded` is one image with norms folded before against in the program.
"""

import sys

import harness
from harness import Contestant, Row

_SIZES, _BATCHES = (96, 224), (1, 4, 16)
# Units that experts share.
_SHARED = {"stem": 4, "whole": 0}


def rows(small: bool) -> list[Row]:
  sizes, batches = ((32,), (1, 4)) if small else (_SIZES, _BATCHES)
  out = []
  for name, shared in _SHARED.items():
    for size in sizes:
      for batch in batches:
        shape = {"size": size, "batch": batch, "shared": shared}
        out.append(
          Row(
            f"mixture_{name}_{size}_{batch}",
            f"3 Lite0, k 2, {name}, {size} px, {batch}: ours against jax.jit",
            _mixture("ours", shape, True),
            (_mixture("jax.jit", shape, False),),
            1.0,
          )
        )
  for size in sizes:
    for batch in batches:
      shape = {"size": size, "batch": batch}
      out.append(
        Row(
          f"network_{size}_{batch}",
          f"one Lite0, {size} px, {batch}: ours against jax.jit and runtimes",
          _network("ours", shape, True),
          (
            _network("jax.jit", shape, False),
            _runtime("onnxruntime", shape),
            _runtime("openvino", shape),
          ),
        )
      )
  shape = {"size": sizes[-1], "batch": batches[-1]}
  out.append(
    Row(
      f"network_torch_{sizes[-1]}_{batches[-1]}",
      f"one Lite0, {sizes[-1]} px, {batches[-1]}: ours against PyTorch",
      _network("ours", shape, True),
      tuple(
        Contestant(
          "torch " + ("compile" if compiled else "eager"),
          "peers.training:one_expert",
          {
            **shape,
            "backbone": "efficientnet_lite0",
            "train": False,
            "compiled": compiled,
          },
          needs=harness.TORCH_MODELS,
          optional=compiled,
        )
        for compiled in (False, True)
      ),
    )
  )
  shape = {"size": sizes[-1], "batch": 1}
  out.append(
    Row(
      "forward_folded",
      f"one Lite0, {sizes[-1]} px, 1: norms folded before against in each call",
      _network("before", shape, True),
      (_network("in each call", shape, True, fold=False),),
    )
  )
  return out


def _mixture(label: str, shape: dict, ours: bool) -> Contestant:
  return Contestant(label, "ours.forward:mixture", {**shape, "ours": ours})


def _network(label: str, shape: dict, ours: bool, **options) -> Contestant:
  options = {**shape, "ours": ours, **options}
  return Contestant(label, "ours.forward:network", options)


def _runtime(name: str, shape: dict) -> Contestant:
  return Contestant(name, f"peers.runtimes:{name}", shape, needs=(name, "onnx"))


if __name__ == "__main__":
  sys.exit(harness.main(harness.parser(__doc__), rows))
