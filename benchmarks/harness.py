"""Fair timing of contestants against each other, and the programs' flags.

JAX and torch disturb each other's threads, so each contestant lives in a
process of its own (`worker.py`), from before its warm-up to the row's end. In
every round each in turn runs a short burst of timed repetitions, in an order
that turns round from round to round; all others are stopped (SIGSTOP)
meanwhile, so that they neither spin nor read data ahead. A round gives one
ratio, median(peer) / median(ours), and a row the median over its rounds; `low`
and `high` are the quartiles. Above 1 ours is the quicker one.

Every worker may use the same `--threads` CPUs, by affinity (which sizes XLA's
pool), and gets the same number in OMP_NUM_THREADS (torch's pool) and NPROC.
"""

import argparse
import contextlib
import dataclasses
import fnmatch
import importlib.util
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import origin
import results
from mtlmoe_jax.errors import InputError
from mtlmoe_jax.utils import files
from results import Result

FOLDER = pathlib.Path(__file__).resolve().parent
ROUNDS = 10
THREADS = 2
# A burst lasts about this long, whatever one repetition takes.
BURST_SECONDS = 1.0
MAX_REPEATS = 30
# What the peers import; torchvision through timm, and on its own.
TORCH = ("torch",)
TORCH_MODELS = ("torch", "timm", "torchvision")
# Lines of a dead worker's last words that are shown.
LAST_WORDS = 12


@dataclasses.dataclass(frozen=True)
class Contestant:
  """What a worker builds and times.

  Attributes:
    label: for the eye.
    build: "module:function", found from this folder; see `worker.py`.
    options: the function's keyword arguments, as JSON knows them.
    needs: modules without which the row is left out.
    optional: a variant whose failure leaves the row's others alone (torch's
      compiler needs a C++ compiler).
    env: environment variables of its process.
  """

  label: str
  build: str
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  needs: tuple[str, ...] = ()
  optional: bool = False
  env: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
  """One comparison.

  Attributes:
    name: for `--only`.
    what: one line for people.
    ours: its time is the ratio's denominator.
    peers: the ratio that counts is against the quickest of these; those
      against the others are told beside it.
    at_least: the bar; None where the figure is for information.
    quantity: "seconds" is timed; any other name is a key of both workers'
      info (bytes, say), which is read once.
    prepare: called before the workers start.
  """

  name: str
  what: str
  ours: Contestant
  peers: tuple[Contestant, ...]
  at_least: float | None = None
  quantity: str = "seconds"
  prepare: Callable[[], None] = lambda: None


class WorkerError(Exception):
  """A worker that died; the message says which and shows its last words."""


class Worker:
  """One contestant's process; stopped but while it is asked something."""

  def __init__(self, contestant: Contestant, threads: int):
    """Starts it; returns when it is warm.

    Raises:
      WorkerError: it died.
    """
    self.contestant = contestant
    self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
    spec = {
      "build": contestant.build,
      "options": contestant.options,
      "threads": threads,
    }
    self._process = subprocess.Popen(
      [sys.executable, str(FOLDER / "worker.py"), json.dumps(spec)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      text=True,
      env={**_environment(threads), **contestant.env},
      # A group of its own, with which a loader's processes stop as well.
      start_new_session=True,
    )
    try:
      self.info = self._answer()["info"]
      # Enough repetitions for a burst, from one that is not cold any more.
      once = max(self._time(0, 1)[0], 1e-6)
    except BaseException:
      self.close()
      raise
    self._repeats = min(max(round(BURST_SECONDS / once), 1), MAX_REPEATS)
    self._stop()

  def burst(self) -> list[float]:
    """Seconds of each timed repetition of one turn.

    Raises:
      WorkerError: it died.
    """
    self._signal(signal.SIGCONT)
    # The first repetition after the others' turn finds their data in the
    # caches, and its own freed memory given back, by a virtual machine to its
    # host even: it can take twice as long as those that follow.
    seconds = self._time(1, self._repeats)
    self._stop()
    return seconds

  def close(self) -> None:
    """Ends it, its children too."""
    with contextlib.suppress(ProcessLookupError):
      self._signal(signal.SIGKILL)
    self._process.communicate()
    self._errors.close()

  def _time(self, untimed: int, repeats: int) -> list[float]:
    request = json.dumps({"untimed": untimed, "repeats": repeats})
    try:
      self._process.stdin.write(request + "\n")
      self._process.stdin.flush()
    except BrokenPipeError:
      raise self._dead() from None
    return self._answer()["seconds"]

  def _answer(self) -> dict[str, Any]:
    line = self._process.stdout.readline()
    if not line:
      raise self._dead()
    return json.loads(line)

  def _dead(self) -> WorkerError:
    code = self._process.wait()
    self._errors.seek(0)
    words = self._errors.read().strip().splitlines()[-LAST_WORDS:]
    return WorkerError(
      f"{self.contestant.label} ({self.contestant.build}) ended with code "
      f"{code}:\n" + "\n".join(f"  | {line}" for line in words)
    )

  def _stop(self) -> None:
    self._signal(signal.SIGSTOP)
    # On a busy machine it takes a while until it has noticed.
    os.waitpid(self._process.pid, os.WUNTRACED)

  def _signal(self, number: int) -> None:
    os.killpg(self._process.pid, number)


def _environment(threads: int) -> dict[str, str]:
  names = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NPROC",
  )
  return {
    # Pages of 2 MiB (`mtlmoe_jax.huge_pages`) speed up both frameworks.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    **os.environ,
    **dict.fromkeys(names, str(threads)),
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Two frameworks share one GPU.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
  }


def alternate(
  workers: Sequence[Any],
  rounds: int,
  progress: Callable[[int, list[list[float]]], None] = lambda *_: None,
) -> list[list[list[float]]]:
  """Bursts [worker][round][repeat]; every other round in reverse order.

  Args:
    workers: things with a method `burst`.
    rounds: how often each gets its turn.
    progress: called after each round with its number and bursts by worker.
  """
  bursts = [[] for _ in workers]
  order = list(enumerate(workers))
  for number in range(rounds):
    for i, worker in order if number % 2 == 0 else order[::-1]:
      bursts[i].append(worker.burst())
    progress(number, [b[-1] for b in bursts])
  return bursts


def measure(
  row: Row, rounds: int, threads: int, here: dict[str, str]
) -> Result:
  """Runs one row.

  Args:
    row: the row.
    rounds: how many.
    threads: CPUs of each contestant.
    here: of `origin.describe`.

  Raises:
    WorkerError: a contestant died that is not optional, or every peer did.
  """
  row.prepare()
  with contextlib.ExitStack() as stack:
    workers = []
    for contestant in (row.ours, *row.peers):
      say(f"{row.name}: warming up {contestant.label}")
      try:
        worker = Worker(contestant, threads)
      except WorkerError as error:
        if not contestant.optional:
          raise
        say(f"{row.name}: left out: {error}")
        continue
      stack.callback(worker.close)
      workers.append(worker)
    if len(workers) < 2:
      raise WorkerError("no peer could be started")
    labels = [w.contestant.label for w in workers]
    infos = {w.contestant.label: w.info for w in workers}
    if row.quantity != "seconds":
      bursts = [[[w.info[row.quantity]]] for w in workers]
    else:

      def progress(number: int, round_: list[list[float]]) -> None:
        told = ", ".join(
          f"{label} {statistics.median(burst) * 1e3:.1f} ms"
          for label, burst in zip(labels, round_)
        )
        say(f"{row.name}: round {number + 1}/{rounds}: {told}")

      bursts = alternate(workers, rounds, progress)
  return result_of(row, labels, bursts, infos, here)


def result_of(
  row: Row,
  labels: Sequence[str],
  bursts: Sequence[Sequence[Sequence[float]]],
  infos: dict[str, dict[str, Any]],
  here: dict[str, str],
) -> Result:
  """From bursts [contestant][round][repeat], ours first, to the figures."""
  values = {
    label: results.spread([statistics.median(b) for b in rounds])
    for label, rounds in zip(labels, bursts)
  }
  ratios = {
    label: results.spread(results.round_ratios(rounds, bursts[0]))
    for label, rounds in zip(labels[1:], bursts[1:])
  }
  peer = min(ratios, key=lambda label: values[label][1])
  low, ratio, high = ratios[peer]
  return Result(
    name=row.name,
    ratio=ratio,
    low=low,
    high=high,
    rounds=len(bursts[0]),
    at_least=row.at_least,
    what=row.what,
    quantity=row.quantity,
    ours=labels[0],
    peer=peer,
    ratios=ratios,
    values=values,
    infos=infos,
    origin=here,
  )


def say(text: str) -> None:
  """Progress, on stderr."""
  print(text, file=sys.stderr, flush=True)


def parser(doc: str) -> argparse.ArgumentParser:
  """The flags that every program has."""
  out = argparse.ArgumentParser(
    description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  out.add_argument(
    "--json", metavar="FILE", help="also write the figures, after every row"
  )
  out.add_argument(
    "--only",
    metavar="NAME",
    nargs="+",
    action="extend",
    help="these rows; 'grow_*' is all that begin so; may be repeated",
  )
  out.add_argument(
    "--merge",
    metavar="FILE",
    nargs="+",
    action="extend",
    default=[],
    help="take the rows of these --json files, measure only the others",
  )
  out.add_argument("--rounds", type=int, default=ROUNDS)
  out.add_argument("--threads", type=int, default=THREADS)
  out.add_argument("--list", action="store_true", help="name the rows and stop")
  out.add_argument(
    "--small",
    action="store_true",
    help="tiny shapes: does it run? Its figures mean nothing",
  )
  out.set_defaults(precision="float32")
  return out


def main(
  flags: argparse.ArgumentParser,
  rows_of: Callable[[bool], list[Row]],
  finish: Callable[[argparse.Namespace, list[Result]], None] = lambda *_: None,
  argv: Sequence[str] | None = None,
) -> int:
  """A whole program: flags -> rows -> a table and `--json`.

  Args:
    flags: of `parser`, perhaps with others.
    rows_of: small -> the program's rows.
    finish: called with the flags' values and the results.
    argv: the flags; None: the command line's.

  Returns:
    Exit code: 0 whatever the figures are, 1 if a worker died.
  """
  args = flags.parse_args(argv)
  every = rows_of(args.small)
  rows = choose(flags, args, every)
  if args.list:
    print_list(rows)
    return 0
  try:
    earlier, rows, here = _resume(args, every, rows)
  except InputError as error:
    flags.error(str(error))
  figures = run(rows, args, earlier, here)
  order = [row.name for row in every]
  finish(args, sorted(figures, key=lambda result: order.index(result.name)))
  return 0 if len(figures) == len(rows) + len(earlier) else 1


def _resume(
  args: argparse.Namespace, every: list[Row], rows: list[Row]
) -> tuple[list[Result], list[Row], dict[str, str]]:
  """What `--merge` brings, the rows that are left, and this run's origin."""
  have = {result.name for path in args.merge for result in results.read(path)}
  rows = [row for row in rows if row.name not in have]
  here = origin.describe(args)
  names = [row.name for row in every]
  earlier = results.merge(args.merge, names, here if rows else None)
  return list(earlier.values()), rows, here


def choose(
  flags: argparse.ArgumentParser, args: argparse.Namespace, rows: list[Row]
) -> list[Row]:
  """The rows that `--only` names, or all that can be run here.

  A row whose peer's library is not installed is left out with a message; where
  `--only` asks for it, that ends the program (exit code 2), as an unknown name
  does.
  """
  if args.rounds < 1 or args.threads < 1:
    flags.error("--rounds and --threads must be at least 1")
  names = [row.name for row in rows]
  wanted = set()
  for pattern in args.only or names:
    found = fnmatch.filter(names, pattern)
    if not found:
      flags.error(f"--only {pattern}: must be one of {', '.join(names)}")
    wanted.update(found)
  rows = [row for row in rows if row.name in wanted]
  if args.list:
    return rows
  possible = []
  for row in rows:
    needs = {name for c in (row.ours, *row.peers) for name in c.needs}
    missing = sorted(name for name in needs if not installed(name))
    if not missing:
      possible.append(row)
      continue
    message = f"{row.name} needs {', '.join(missing)} (make bench)"
    if args.only:
      flags.error(message)
    say(f"left out: {message}")
  return possible


def installed(module: str) -> bool:
  """Whether a module could be imported."""
  return importlib.util.find_spec(module) is not None


def print_list(rows: Sequence[Row]) -> None:
  for row in rows:
    bar = "" if row.at_least is None else f" (at least {row.at_least:g})"
    print(f"{row.name:32}{row.what}{bar}")


def run(
  rows: Sequence[Row],
  args: argparse.Namespace,
  earlier: Sequence[Result],
  here: dict[str, str],
) -> list[Result]:
  """Measures rows; prints each, and keeps `--json` up to date.

  A row with a dead worker is told and left out; the others are measured.

  Args:
    rows: what is to be measured.
    args: the flags' values.
    earlier: measured already; they come first in the answer and in `--json`.
    here: of `origin.describe`.
  """
  # So that a terminated program takes its workers with it.
  before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  out = list(earlier)
  for result in earlier:
    print(result.line(), flush=True)
  try:
    for row in rows:
      try:
        out.append(measure(row, args.rounds, args.threads, here))
        print(out[-1].line(), flush=True)
      except WorkerError as error:
        say(f"{row.name}: {error}")
      if args.json:
        files.write_json(args.json, [dataclasses.asdict(r) for r in out])
  finally:
    signal.signal(signal.SIGTERM, before)
  return out
