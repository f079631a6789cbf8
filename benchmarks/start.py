r"""From the start of a process to its first answer: today's build beside ours.

  python benchmarks/start.py --workdir=runs/first --images=PHOTOS \
      --before=COMMIT [--rounds 10] [--json FILE]

Every contestant is a process of its own, `predict` on a folder of pictures and
all it writes, from a copy of the run that nobody else uses, with XLA's compiled
programs kept between starts:

  before        the package of COMMIT (a revision, or a folder that has it)
  checkpoint    ours, of a run that has its checkpoint alone
  untraced      the same where no program was traced before, either
  exported      ours, with weights and program beside the checkpoint

In every round each has its turn, in an order that turns from round to round. A
ratio is ours / before of one round; the median over the rounds is told, with
its quartiles. `load` is the most memory of a process that imports the package
and loads the model, `import` that of the import of JAX alone.
"""

import argparse
import dataclasses
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
from mtlmoe_jax.utils import files

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Starts before the first round, which fill the caches.
WARM = 2
# Where the traced programs are, below the folder of the compiled ones.
PROGRAMS = "mtlmoe_programs"
LOAD = """
import sys
import mtlmoe_jax as mm
mm.load(sys.argv[1])
"""


@dataclasses.dataclass(frozen=True)
class Spent:
  """What one process took.

  Attributes:
    wall: seconds from its start to its end.
    cpu: seconds of processors, of its children and threads, too.
    memory: the most that it held, MB.
  """

  wall: float
  cpu: float
  memory: float


@dataclasses.dataclass(frozen=True)
class Contestant:
  """One way to start.

  Attributes:
    name: for the eye.
    code: folder of the package.
    folder: its own: a copy of the run, outputs, compiled programs.
    forgets: paths below `folder` that are removed before every start.
  """

  name: str
  code: pathlib.Path
  folder: pathlib.Path
  forgets: tuple[str, ...] = ()

  def predict(self, images: pathlib.Path) -> Spent:
    """One start."""
    for name in ("out", *self.forgets):
      shutil.rmtree(self.folder / name, ignore_errors=True)
    return self._spent(
      str(self.code / "launch" / "predict.py"),
      f"--workdir={self.folder / 'run'}",
      f"--out={self.folder / 'out'}",
      str(images),
    )

  def load(self) -> Spent:
    """One import and load."""
    for name in self.forgets:
      shutil.rmtree(self.folder / name, ignore_errors=True)
    return self._spent("-c", LOAD, str(self.folder / "run"))

  def bare(self) -> Spent:
    """The import of JAX alone."""
    return self._spent("-c", "import jax; jax.devices()")

  def _spent(self, *arguments: str) -> Spent:
    # What is not this code's own: flatbuffers, say, in a folder of its own.
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    rest = [path for path in given if path and path != str(ROOT)]
    environment = {
      **os.environ,
      "PYTHONPATH": os.pathsep.join([str(self.code), *rest]),
      "JAX_COMPILATION_CACHE_DIR": str(self.folder / "programs"),
    }
    with tempfile.TemporaryFile("w+") as words:
      start = time.monotonic()
      process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        cwd=self.folder,
        stdout=words,
        stderr=subprocess.STDOUT,
      )
      _, status, usage = os.wait4(process.pid, 0)
      wall = time.monotonic() - start
      process.returncode = os.waitstatus_to_exitcode(status)
      if process.returncode:
        words.seek(0)
        sys.exit(
          f"{self.name} ended with {process.returncode}:\n{words.read()}"
        )
    cpu = usage.ru_utime + usage.ru_stime
    return Spent(wall, cpu, usage.ru_maxrss / 1024)


def contestants(
  before: pathlib.Path, run: pathlib.Path, work: pathlib.Path
) -> list[Contestant]:
  """All of them, `before` first, each with a copy of the run."""
  traced = f"programs/{PROGRAMS}"
  found = [
    Contestant("before", before, work / "before"),
    Contestant("checkpoint", ROOT, work / "checkpoint", ("run/exported",)),
    Contestant("untraced", ROOT, work / "untraced", ("run/exported", traced)),
    Contestant("exported", ROOT, work / "exported"),
  ]
  for one in found:
    shutil.copytree(
      run, one.folder / "run", ignore=shutil.ignore_patterns("exported")
    )
  return found


def code_of(commit: str, work: pathlib.Path) -> pathlib.Path:
  """The package of a commit of this repository, or of a folder."""
  if (pathlib.Path(commit) / "mtlmoe_jax").is_dir():
    return pathlib.Path(commit).resolve()
  folder = work / "code"
  folder.mkdir()
  archive = subprocess.run(
    ["git", "archive", commit], cwd=ROOT, capture_output=True, check=False
  )
  if archive.returncode:
    sys.exit(f"--before={commit}: {archive.stderr.decode().strip()}")
  subprocess.run(["tar", "x", "-C", folder], input=archive.stdout, check=True)
  return folder


def rounds_of(
  all_of_them: Sequence[Contestant],
  count: int,
  measure: Callable[[Contestant], Spent],
) -> dict[str, list[Spent]]:
  """What each spent in each round."""
  spent: dict[str, list[Spent]] = {one.name: [] for one in all_of_them}
  for i in range(count):
    turn = i % len(all_of_them)
    for one in (*all_of_them[turn:], *all_of_them[:turn]):
      spent[one.name].append(measure(one))
    print(f"round {i + 1} of {count}", file=sys.stderr, flush=True)
  return spent


def table(spent: dict[str, list[Spent]]) -> str:
  """Medians, and ratios to `before` with their quartiles, in Markdown."""
  lines = [
    "| | wall s | CPU s | MB | wall / before | CPU / before |",
    "|---|---|---|---|---|---|",
  ]
  for name, rows in spent.items():
    middle = [
      statistics.median(getattr(row, field) for row in rows)
      for field in ("wall", "cpu", "memory")
    ]
    cells = [f"{middle[0]:.2f}", f"{middle[1]:.2f}", f"{middle[2]:.0f}"]
    for field in ("wall", "cpu"):
      ratios = [
        getattr(row, field) / getattr(other, field)
        for row, other in zip(rows, spent["before"])
      ]
      cells.append(spread(ratios))
    lines.append(f"| {name} | {' | '.join(cells)} |")
  return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
  """The median of ratios, and their quartiles where there are several."""
  if len(values) < 2:
    return f"{values[0]:.2f}"
  low, middle, high = statistics.quantiles(values, n=4)
  return f"{middle:.2f} ({low:.2f} ... {high:.2f})"


def main(argv: Sequence[str] | None = None) -> None:
  """Flags -> two tables."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workdir", required=True, type=pathlib.Path)
  parser.add_argument("--images", required=True, type=pathlib.Path)
  parser.add_argument("--before", required=True, help="a commit, or a folder")
  parser.add_argument("--rounds", type=int, default=10)
  parser.add_argument("--json", type=pathlib.Path)
  options = parser.parse_args(argv)
  images = options.images.resolve()
  with tempfile.TemporaryDirectory(prefix="mtlmoe-start-") as folder:
    work = pathlib.Path(folder)
    code = code_of(options.before, work)
    found = contestants(code, options.workdir.resolve(), work)
    for one in found:
      for _ in range(WARM):
        one.predict(images)
    first = rounds_of(found, options.rounds, lambda one: one.predict(images))
    print(f"to the end of predict, {origin.commit()}\n{table(first)}\n")
    loaded = rounds_of(found, min(options.rounds, 3), lambda one: one.load())
    print(f"import and load\n{table(loaded)}\n")
    bare = found[-1].bare()
    print(f"import jax alone: {bare.memory:.0f} MB, {bare.cpu:.2f} s of CPU")
    if options.json:
      values = {
        what: {
          name: [dataclasses.asdict(row) for row in rows]
          for name, rows in spent.items()
        }
        for what, spent in (("predict", first), ("load", loaded))
      }
      files.write_text(options.json, json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
  main()
