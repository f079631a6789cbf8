"""Times conv2d's own choice against XLA's convolution, layer by layer.

  python benchmarks/convolution.py [--only NAME] [--rounds 10] [--json FILE]

Each case runs both ways in turn and prints the medians, of wall time and of
CPU time (steadier on a shared machine), and their ratio: above 1, conv2d's
choice is faster. "f+b" is the value with both gradients, "f+dx" with the
kernel frozen. "3 x" is a `vmap` over three experts, kernel and input.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mtlmoe_jax.models.convolution import conv2d

EXPERTS = 3

# name: (images, size, channels in, channels out, kernel, strides, groups)
LAYERS = {
  "stem": (4, 224, 3, 32, 3, 2, 1),
  "pointwise": (4, 28, 240, 80, 1, 1, 1),
  "full": (4, 14, 128, 128, 3, 1, 1),
  "depthwise_28x240_k5": (4, 28, 240, 240, 5, 1, 240),
  "depthwise_14x672_k5_s2": (4, 14, 672, 672, 5, 2, 672),
  "depthwise_7x1152_k5": (4, 7, 1152, 1152, 5, 1, 1152),
}
WORK = {"f": (), "f+dx": (0,), "f+b": (0, 1)}


def build(conv: Callable, work: str) -> Callable:
  if work == "f":
    return jax.jit(conv)

  def loss(x, kernel):
    return jnp.sum(conv(x, kernel) ** 2)

  return jax.jit(jax.value_and_grad(loss, WORK[work]))


def alternate(runs: dict[str, Callable], rounds: int) -> dict[str, dict]:
  """Medians in milliseconds after one warm-up, both ways in every round."""
  times = {name: ([], []) for name in runs}
  for run in runs.values():
    jax.block_until_ready(run())
  for _ in range(rounds):
    for name, run in runs.items():
      cpu, wall = time.process_time(), time.perf_counter()
      jax.block_until_ready(run())
      times[name][0].append((time.perf_counter() - wall) * 1e3)
      times[name][1].append((time.process_time() - cpu) * 1e3)
  return {
    name: {"wall_ms": statistics.median(w), "cpu_ms": statistics.median(c)}
    for name, (w, c) in times.items()
  }


def measure(layer: str, experts: int, work: str, rounds: int) -> dict:
  b, size, c, o, k, strides, groups = LAYERS[layer]
  keys = jax.random.split(jax.random.key(0))
  x = jax.random.normal(keys[0], (experts, b, size, size, c))
  kernel = jax.random.normal(keys[1], (experts, k, k, c // groups, o))
  if experts == 1:
    x, kernel = x[0], kernel[0]
  runs = {}
  for impl in ("auto", "native"):
    conv = functools.partial(conv2d, strides=strides, groups=groups, impl=impl)
    conv = jax.vmap(conv) if experts > 1 else conv
    runs[impl] = functools.partial(build(conv, work), x, kernel)
  result = alternate(runs, rounds)
  ratio = result["native"]["cpu_ms"] / max(result["auto"]["cpu_ms"], 1e-3)
  return {
    "layer": layer,
    "experts": experts,
    "work": work,
    **result,
    "ratio": ratio,
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--only", choices=LAYERS, help="one layer")
  parser.add_argument("--rounds", type=int, default=10)
  parser.add_argument("--json", metavar="FILE", help="also write the figures")
  args = parser.parse_args()
  print(f"{jax.default_backend()}, {args.rounds} rounds, medians in ms")
  print(
    f"{'layer':24}{'work':>10}{'auto':>9}{'native':>9}"
    f"{'auto CPU':>10}{'native CPU':>12}{'ratio':>7}"
  )
  rows = []
  for layer in [args.only] if args.only else LAYERS:
    for experts in (1, EXPERTS):
      for work in WORK:
        row = measure(layer, experts, work, args.rounds)
        rows.append(row)
        auto, native = row["auto"], row["native"]
        name = work if experts == 1 else f"{experts} x {work}"
        print(
          f"{layer:24}{name:>10}{auto['wall_ms']:9.1f}"
          f"{native['wall_ms']:9.1f}{auto['cpu_ms']:10.1f}"
          f"{native['cpu_ms']:12.1f}{row['ratio']:7.1f}",
          flush=True,
        )
  if args.json:
    temporary = pathlib.Path(f"{args.json}.tmp")
    temporary.write_text(json.dumps(rows, indent=2))
    os.replace(temporary, args.json)


if __name__ == "__main__":
  main()
