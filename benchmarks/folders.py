r"""Folders of images from a command's start to its end, beside others.

  python benchmarks/folders.py drawn --workdir=RUN --images=DRAWN \
      --before=COMMIT
  python benchmarks/folders.py photographs --workdir=RUN --images=PHOTOS \
      --torch=PYTHON

`drawn`: `mtlmoe predict` with an overlay of each image, ours (JPEG) beside the
package of COMMIT (a revision, or a folder that has it). 400 of `mtlmoe
draw_samples --out=DRAWN --count=400` and the run of `make demo` are meant.

`photographs`: a table without overlays, ours beside a script of PyTorch
(`peers/folder.py`: a timm network of the same size, a DataLoader with two
workers, channels_last), run by PYTHON; `--compile` adds it compiled. Meant are
2,000 photographs of 500 x 375 pixels and a run with one Lite0 of 224 pixels.
`busy` is the share of our time in which a forward pass was on its way.

Every contestant is a process of its own, with compiled programs of earlier
starts at hand. In every round each has its turn, in an order that turns.
Ratios are of one round; medians over the rounds are told, with quartiles.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import origin
import start

FOLDER = pathlib.Path(__file__).resolve().parent
# As `mtlmoe` starts itself (`devices.huge_pages`).
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
Run = Callable[[], dict[str, float]]


def drawn(options: argparse.Namespace, work: pathlib.Path) -> dict[str, Run]:
  """Ours and the package of before, both as commands."""
  code = start.code_of(options.before, work)
  runs: dict[str, Run] = {}
  for name, package, flags in (
    ("ours", start.ROOT, ["--overlays=jpeg"]),
    ("before", code, []),
  ):
    folder = work / name
    shutil.copytree(options.workdir, folder / "run")
    runs[name] = lambda folder=folder, package=package, flags=flags: spent(
      [
        *(sys.executable, str(package / "launch" / "predict.py")),
        *(f"--workdir={folder / 'run'}", f"--out={folder / 'out'}"),
        *(*flags, str(options.images)),
      ],
      folder,
      PYTHONPATH=str(package),
      JAX_COMPILATION_CACHE_DIR=str(folder / "programs"),
    )
  return runs


def photographs(
  options: argparse.Namespace, work: pathlib.Path
) -> dict[str, Run]:
  """Ours and PyTorch, each telling what its loop took."""
  folder = work / "ours"
  shutil.copytree(options.workdir, folder / "run")
  ours = [
    *(sys.executable, str(FOLDER / "ours" / "folder.py")),
    *(str(folder / "run"), str(options.images), str(folder / "out")),
    *("overlays=none", "out_format=csv"),
  ]
  runs: dict[str, Run] = {
    "ours": lambda: spent(
      ours,
      folder,
      PYTHONPATH=str(start.ROOT),
      JAX_COMPILATION_CACHE_DIR=str(folder / "programs"),
      **HUGE_PAGES,
    )
  }
  for name, flags in (("torch", []), ("torch, compiled", ["--compile"])):
    if flags and not options.compile:
      continue
    (work / name).mkdir()
    runs[name] = lambda name=name, flags=flags: spent(
      [
        *(options.torch, str(FOLDER / "peers" / "folder.py")),
        *(str(options.images), str(work / name / "out.csv"), *flags),
      ],
      work / name,
      **HUGE_PAGES,
    )
  return runs


def spent(
  command: Sequence[str], folder: pathlib.Path, **environment: str
) -> dict[str, float]:
  """Runs a command; seconds, and what its last line of JSON tells."""
  shutil.rmtree(folder / "out", ignore_errors=True)
  begun = time.monotonic()
  done = subprocess.run(
    command,
    env={**os.environ, **environment},
    cwd=folder,
    capture_output=True,
    text=True,
    check=False,
  )
  seconds = time.monotonic() - begun
  if done.returncode:
    sys.exit(f"{command[1]} ended with {done.returncode}:\n{done.stderr}")
  last = (done.stdout.strip().splitlines() or [""])[-1]
  told = json.loads(last) if last.startswith("{") else {}
  return {"wall": seconds, **told}


def table(rounds: dict[str, list[dict[str, float]]]) -> str:
  """Medians, and each one's seconds over ours, in Markdown."""
  lines = ["| | wall s | over ours |", "|---|---|---|"]
  for name, rows in rounds.items():
    ratios = [
      row["wall"] / ours["wall"] for row, ours in zip(rows, rounds["ours"])
    ]
    middle = statistics.median(row["wall"] for row in rows)
    lines.append(f"| {name} | {middle:.2f} | {start.spread(ratios)} |")
  first = rounds["ours"][0]
  if "busy" in first:
    shares = [row["busy"] / row["all"] for row in rounds["ours"]]
    loops = [row["busy"] / row["loop"] for row in rounds["ours"]]
    lines.append(
      f"\nbusy: {start.spread(shares)} of the process, {start.spread(loops)} "
      "of the loop over batches"
    )
  return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
  """Flags -> a table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("row", choices=("drawn", "photographs"))
  parser.add_argument("--workdir", required=True, type=pathlib.Path)
  parser.add_argument("--images", required=True, type=pathlib.Path)
  parser.add_argument("--before", default="", help="of drawn: a commit")
  parser.add_argument("--torch", default="", help="of photographs: a Python")
  parser.add_argument("--compile", action="store_true")
  parser.add_argument("--rounds", type=int, default=10)
  options = parser.parse_args(argv)
  options.images = options.images.resolve()
  needed = "before" if options.row == "drawn" else "torch"
  if not getattr(options, needed):
    parser.error(f"{options.row} needs --{needed}")
  with tempfile.TemporaryDirectory(prefix="mtlmoe-folders-") as folder:
    work = pathlib.Path(folder)
    make = drawn if options.row == "drawn" else photographs
    runs = make(options, work)
    for run in runs.values():
      run()
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    names = list(runs)
    for i in range(options.rounds):
      for name in names[i % len(names) :] + names[: i % len(names)]:
        rounds[name].append(runs[name]())
      print(f"round {i + 1} of {options.rounds}", file=sys.stderr, flush=True)
    print(f"{options.row}, {origin.commit()}\n{table(rounds)}")


if __name__ == "__main__":
  main()
