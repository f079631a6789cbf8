"""conv2d's own choice against XLA's convolution, layer by layer.

  python benchmarks/convolution.py [--only NAME ...] [--rounds 10]
      [--json FILE] [--merge FILE ...] [--list]

A row is named after layer, experts and work: "x3" is a `vmap` over three
experts, kernel and input; "f" the value, "fx" that and the gradient of the
input (the kernel is frozen), "fb" that and both gradients. `all.py` leaves
these rows out: they are about one function.
"""

import sys

import harness
from harness import Contestant, Row

_EXPERTS = (1, 3)
_WORK = ("f", "fx", "fb")

# name: (images, size, channels in, channels out, kernel, strides, groups)
_LAYERS = {
  "stem": (4, 224, 3, 32, 3, 2, 1),
  "pointwise": (4, 28, 240, 80, 1, 1, 1),
  "full": (4, 14, 128, 128, 3, 1, 1),
  "depthwise_28x240_k5": (4, 28, 240, 240, 5, 1, 240),
  "depthwise_14x672_k5_s2": (4, 14, 672, 672, 5, 2, 672),
  "depthwise_7x1152_k5": (4, 7, 1152, 1152, 5, 1, 1152),
}
_SMALL = {
  "full": (2, 6, 4, 8, 3, 2, 1),
  "depthwise": (2, 6, 4, 4, 3, 1, 4),
}


def rows(small: bool) -> list[Row]:
  layers = _SMALL if small else _LAYERS
  return [
    Row(
      f"{name}_x{experts}_{work}",
      f"{experts} x {name}, {work}: conv2d's choice against native",
      _contestant("auto", layer, experts, work),
      (_contestant("native", layer, experts, work),),
    )
    for name, layer in layers.items()
    for experts in _EXPERTS
    for work in _WORK
  ]


def _contestant(
  impl: str, layer: tuple[int, ...], experts: int, work: str
) -> Contestant:
  options = {"layer": layer, "experts": experts, "work": work, "impl": impl}
  return Contestant(impl, "ours.convolution:layer", options)


if __name__ == "__main__":
  sys.exit(harness.main(harness.parser(__doc__), rows))
