"""All benchmark programs, and their figures as a page.

  python benchmarks/all.py [--out FILE] [--plot FILE] [--rounds 10]
      [--only NAME ...] [--json FILE] [--merge FILE ...] [--list]
      [--precision float32|bfloat16]

Without --only and --small the page is RESULTS.md with growth.png, or
RESULTS_GPU.md for bfloat16. float32 runs a matrix product, moe_layer.py,
train_step.py and input_pipeline.py; bfloat16 runs gpu.py. The default is
bfloat16 where there is a GPU. A run that was cut short goes on with
`--json FILE --merge FILE`.
"""

import argparse
import functools
import os
import pathlib
import sys
from collections.abc import Sequence

import gpu
import growth
import harness
import input_pipeline
import moe_layer
import origin
import page
import train_step
from harness import Contestant, Row
from mtlmoe_jax.utils import files
from results import Result


def rows(precision: str, small: bool) -> list[Row]:
  if precision == "bfloat16":
    return gpu.rows(small)
  rate = {"size": 256 if small else 3072, "dtype": "float32"}
  matmul = Row(
    page.MATMUL,
    "a large matrix product",
    Contestant("ours", "ours.rate:matmul", rate),
    (Contestant("torch", "peers.rate:matmul", rate, needs=harness.TORCH),),
  )
  programs = (moe_layer, train_step, input_pipeline)
  return [matmul, *(row for program in programs for row in program.rows(small))]


def paths(args: argparse.Namespace) -> tuple[str, str]:
  """Page and plot: the flags', else those here; "" is none.

  A partial run does not replace the page and the plot of a full one.
  """
  out, plot = args.out or "", args.plot or ""
  if args.only or args.small:
    return out, plot
  name = "RESULTS_GPU.md" if args.precision == "bfloat16" else "RESULTS.md"
  out = out or str(harness.FOLDER / name)
  return out, plot or str(pathlib.Path(out).parent / "growth.png")


def write(args: argparse.Namespace, results: Sequence[Result]) -> None:
  """The page and the plot, as far as there is something to show."""
  out, args.plot = paths(args)
  growth.plot(args, results)
  if not out or not results:
    return
  picture = args.plot if growth.curves(results) else ""
  if picture:
    picture = os.path.relpath(picture, pathlib.Path(out).parent)
  measured = {result.name for result in results}
  names = [row.name for row in rows(args.precision, args.small)]
  missing = [name for name in names if name not in measured]
  files.write_text(out, page.page(results, missing, picture))


def main(argv: Sequence[str] | None = None) -> int:
  flags = harness.parser(__doc__)
  flags.add_argument("--out", metavar="FILE", help="where the page goes")
  flags.add_argument("--precision", choices=("float32", "bfloat16"))
  flags.set_defaults(precision="bfloat16" if origin.gpu_name() else "float32")
  flags.add_argument("--plot", metavar="FILE", help="draw grow_* as .png, .svg")
  precision = flags.parse_args(argv).precision
  if precision == "bfloat16":
    flags.set_defaults(threads=gpu.THREADS)
  return harness.main(flags, functools.partial(rows, precision), write, argv)


if __name__ == "__main__":
  sys.exit(main())
