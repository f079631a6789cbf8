"""All benchmark programs, and their figures as a page.

  python benchmarks/all.py [--out FILE] [--rounds 10]
      [--only NAME] [--json FILE] [--list] [--precision float32|bfloat16]

Without --only and --small the page is RESULTS.md, or RESULTS_GPU.md for
bfloat16. float32 runs a matrix product, moe_layer.py, train_step.py and
input_pipeline.py; bfloat16 runs gpu.py. The default is bfloat16 where
there is a GPU.
"""

import argparse
import datetime
import functools
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence

import gpu
import growth
import harness
import input_pipeline
import moe_layer
import train_step
from harness import Contestant, Result, Row
from mtlmoe_jax import files

_PACKAGES = (
  "mtlmoe_jax", "jax", "jaxlib", "flax", "optax", "grain", "numpy", "pillow",
  "torch", "timm", "torchvision",
)  # fmt: skip


def rows(precision: str, small: bool) -> list[Row]:
  if precision == "bfloat16":
    return gpu.rows(small)
  rate = {"size": 256 if small else 3072, "dtype": "float32"}
  matmul = Row(
    "matmul_vs_torch",
    "a large matrix product",
    Contestant("ours", "ours.rate:matmul", rate),
    (Contestant("torch", "peers.rate:matmul", rate, needs="torch"),),
  )
  programs = (moe_layer, train_step, input_pipeline)
  return [matmul, *(row for program in programs for row in program.rows(small))]


def page(args: argparse.Namespace, results: Sequence[Result]) -> str:
  """The figures in Markdown."""
  parts = [
    "# Benchmark results",
    f"Written by `python benchmarks/all.py` on "
    f"{datetime.date.today().isoformat()}; {args.precision}, "
    f"{args.threads} threads, {args.rounds} rounds.",
    "A ratio is the peer's time over ours (above 1: ours is quicker), the "
    "median over alternated rounds; in brackets the quartiles. Times are "
    "medians of the rounds' medians. " + _deviations(args),
    machine(),
    comparisons(results),
    floors(results),
    costs(results),
  ]
  return "\n\n".join(part for part in parts if part) + "\n"


def page_path(args: argparse.Namespace) -> str:
  """`--out`; else RESULTS.md here, which a partial run does not replace."""
  if args.out or args.only or args.small:
    return args.out or ""
  gpu_page = args.precision == "bfloat16"
  return str(harness.FOLDER / f"RESULTS{'_GPU' if gpu_page else ''}.md")


def _deviations(args: argparse.Namespace) -> str:
  out = []
  if args.small:
    out.append("**Tiny shapes (`--small`): the figures mean nothing.**")
  if args.only:
    out.append(f"Only {', '.join(args.only)}.")
  return " ".join(out)


def machine() -> str:
  """What ran, in Markdown."""
  versions = ", ".join(
    f"{name} {importlib.metadata.version(name)}"
    for name in _PACKAGES
    if harness.installed({"pillow": "PIL"}.get(name, name))
  )
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
  entries = {
    "processor": f"{_processor()}, {os.cpu_count()} CPUs, {memory:.0f} GiB",
    "GPU": gpu_name() or "none",
    "system": f"{platform.system()} {platform.release()}, Python "
    f"{platform.python_version()}",
    "versions": versions,
    "commit": _output("git", "rev-parse", "--short", "HEAD") or "unknown",
  }
  return "## Machine\n\n" + "\n".join(f"- {k}: {v}" for k, v in entries.items())


def _processor() -> str:
  cpus = pathlib.Path("/proc/cpuinfo")
  for line in cpus.read_text().splitlines() if cpus.exists() else ():
    if line.startswith("model name"):
      return line.partition(":")[2].strip()
  return platform.processor() or platform.machine()


def gpu_name() -> str:
  """Name of the first NVIDIA GPU; "" without one."""
  if not shutil.which("nvidia-smi"):
    return ""
  told = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
  return told.splitlines()[0] if told else ""


def _output(*command: str) -> str:
  done = subprocess.run(
    command, capture_output=True, text=True, cwd=harness.FOLDER, check=False
  )
  return done.stdout.strip() if done.returncode == 0 else ""


def comparisons(results: Sequence[Result]) -> str:
  lines = [
    "## Comparisons",
    "",
    "| row | what | ratio | quartiles | at least | ours | quickest peer | "
    "images/s, ours and peer | dropped |",
    "|---|---|---|---|---|---|---|---|---|",
  ]
  for r in results:
    if r.row.name.startswith("grow_"):
      continue
    label = r.row.ours.label
    info, times = r.infos[label], (r.medians[label], r.medians[r.peer])
    bar = r.row.at_least
    cells = [
      f"`{r.row.name}`",
      r.row.what,
      f"**{r.ratio:.2f}**",
      f"{r.low:.2f} ... {r.high:.2f}",
      "" if bar is None else f"{bar:g} {'(yes)' if r.ratio >= bar else '(NO)'}",
      _quantity(r, times[0]),
      f"{_quantity(r, times[1])} ({r.peer})",
      " / ".join(f"{info['images'] / t:.1f}" for t in times)
      if "images" in info
      else "",
      f"{info['dropped']:.1%}" if "dropped" in info else "",
    ]
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def _quantity(result: Result, value: float) -> str:
  if result.row.quantity == "seconds":
    return f"{value * 1e3:.1f} ms"
  return f"{value / 2**20:.0f} MiB"


def floors(results: Sequence[Result]) -> str:
  """What the useful arithmetic would cost at the matrix product's rate."""
  rates = [r for r in results if r.row.name == "matmul_vs_torch"]
  if not rates:
    return ""
  r = rates[0]
  flops = r.infos[r.row.ours.label]["flops"]
  rate = flops / r.medians[r.row.ours.label]
  lines = [
    "## Arithmetic floor",
    "",
    f"A large matrix product runs at {rate / 1e9:.0f} GFLOP/s in JAX and "
    f"{flops / r.medians[r.peer] / 1e9:.0f} in PyTorch. The floor is the time "
    "of the useful work at JAX's rate: of the selected experts alone, the "
    "backward pass counted twice the forward one; gates, optimiser and "
    "memory traffic are free in it.",
    "",
    "| row | useful GFLOP | floor | ours | share of the rate |",
    "|---|---|---|---|---|",
  ]
  for r in results:
    info, took = r.infos[r.row.ours.label], r.medians[r.row.ours.label]
    if (
      "flops" in info and r not in rates and not r.row.name.startswith("grow_")
    ):
      floor = info["flops"] / rate
      lines.append(
        f"| `{r.row.name}` | {info['flops'] / 1e9:.1f} | {floor * 1e3:.1f} ms "
        f"| {took * 1e3:.1f} ms | {floor / took:.0%} |"
      )
  return "\n".join(lines)


def costs(results: Sequence[Result]) -> str:
  """How cost grows with experts and with those selected."""
  curves = growth.curves(results)
  if not curves:
    return ""
  lines = [
    "## How cost grows",
    "",
    "Time of a layer of convolutional experts, forward and backward, relative "
    "to N 2 (k 2; a single expert has k 1) and to k 1 (N 8).",
    "",
  ]
  for label, points in curves.items():
    lines += [
      f"| {label} | {' | '.join(str(p[0]) for p in points)} |",
      "|---" * (len(points) + 1) + "|",
      f"| relative time | {' | '.join(f'{p[1]:.2f}' for p in points)} |",
      "",
    ]
  return "\n".join(lines).rstrip()


def main(argv: Sequence[str] | None = None) -> int:
  flags = harness.parser(__doc__)
  flags.add_argument("--out", metavar="FILE", help="where the page goes")
  flags.add_argument("--precision", choices=("float32", "bfloat16"))
  flags.set_defaults(precision="bfloat16" if gpu_name() else "float32")
  flags.add_argument("--plot", metavar="FILE", help="draw grow_* as .png, .svg")
  precision = flags.parse_args(argv).precision

  def finish(args: argparse.Namespace, results: list[Result]) -> None:
    path = page_path(args)
    if path:
      files.write_text(path, page(args, results))
    growth.plot(args, results)

  return harness.main(flags, functools.partial(rows, precision), finish, argv)


if __name__ == "__main__":
  sys.exit(main())
