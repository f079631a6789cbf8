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

from mtlmoe_jax import files

FOLDER = pathlib.Path(__file__).resolve().parent
ROUNDS = 10
THREADS = 2
# A burst lasts about this long, whatever one repetition takes.
BURST_SECONDS = 1.0
MAX_REPEATS = 30
# Lines of a dead worker's last words that are shown.
LAST_WORDS = 12


@dataclasses.dataclass(frozen=True)
class Contestant:
  """What a worker builds and times.

  Attributes:
    label: for the eye.
    build: "module:function", found from this folder; see `worker.py`.
    options: the function's keyword arguments, as JSON knows them.
    needs: a module without which the row is left out.
    optional: a variant whose failure leaves the row's others alone (torch's
      compiler needs a C++ compiler).
  """

  label: str
  build: str
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  needs: str = ""
  optional: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
  """One comparison.

  Attributes:
    name: for `--only`.
    what: one line for people.
    ours: its time is the ratio's denominator.
    peers: the ratio is against the quickest of these.
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


@dataclasses.dataclass(frozen=True)
class Result:
  """What came out of a row.

  Attributes:
    row: the row.
    peer: label of the quickest peer, which the ratio is against.
    ratio: median over rounds.
    low: first quartile over rounds.
    high: third quartile.
    rounds: how many there were.
    medians: label -> median of its rounds' medians.
    infos: label -> what its builder told.
  """

  row: Row
  peer: str
  ratio: float
  low: float
  high: float
  rounds: int
  medians: dict[str, float]
  infos: dict[str, dict[str, Any]]

  def as_json(self) -> dict[str, Any]:
    """The entry of `--json`."""
    return {
      "name": self.row.name,
      "ratio": self.ratio,
      "low": self.low,
      "high": self.high,
      "rounds": self.rounds,
      "at_least": self.row.at_least,
    }


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
      env=_environment(threads),
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
    # The first repetition after the others' turn finds their data in the
    # caches, and its own freed memory given back, by a virtual machine to its
    # host even: it can take twice as long as those that follow.
    self._untimed = 1
    self._stop()

  def burst(self) -> list[float]:
    """Seconds of each timed repetition of one turn.

    Raises:
      WorkerError: it died.
    """
    self._signal(signal.SIGCONT)
    seconds = self._time(self._untimed, self._repeats)
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


def ratios(
  peer: Sequence[Sequence[float]], ours: Sequence[Sequence[float]]
) -> list[float]:
  """Each round's ratio, median(peer) / median(ours), of bursts by round."""
  return [
    statistics.median(p) / statistics.median(o) for p, o in zip(peer, ours)
  ]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
  """First quartile, median and third quartile, interpolated linearly."""
  if len(values) == 1:
    return (values[0],) * 3
  low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
  return low, middle, high


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


def measure(row: Row, rounds: int, threads: int) -> Result:
  """Runs one row.

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
  return result_of(row, labels, bursts, infos)


def result_of(
  row: Row,
  labels: Sequence[str],
  bursts: Sequence[Sequence[Sequence[float]]],
  infos: dict[str, dict[str, Any]],
) -> Result:
  """From bursts [contestant][round][repeat], ours first, to the figures."""
  medians = [
    statistics.median([statistics.median(b) for b in rounds])
    for rounds in bursts
  ]
  best = min(range(1, len(labels)), key=medians.__getitem__)
  low, ratio, high = spread(ratios(bursts[best], bursts[0]))
  return Result(
    row=row,
    peer=labels[best],
    ratio=ratio,
    low=low,
    high=high,
    rounds=len(bursts[0]),
    medians=dict(zip(labels, medians)),
    infos=infos,
  )


def line(result: Result) -> str:
  """One result for the eye."""
  bar = result.row.at_least
  told = "" if bar is None else f"  (at least {bar:g})"
  return (
    f"{result.row.name:32}{result.ratio:8.2f}  [{result.low:.2f} ... "
    f"{result.high:.2f}]  against {result.peer}{told}"
  )


def say(text: str) -> None:
  """Progress, on stderr."""
  print(text, file=sys.stderr, flush=True)


def parser(doc: str) -> argparse.ArgumentParser:
  """The flags that every program has."""
  out = argparse.ArgumentParser(
    description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  out.add_argument("--json", metavar="FILE", help="also write the figures")
  out.add_argument(
    "--only", metavar="NAME", action="append", help="one row; may be repeated"
  )
  out.add_argument("--rounds", type=int, default=ROUNDS)
  out.add_argument("--threads", type=int, default=THREADS)
  out.add_argument("--list", action="store_true", help="name the rows and stop")
  out.add_argument(
    "--small",
    action="store_true",
    help="tiny shapes: does it run? Its figures mean nothing",
  )
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
  rows = choose(flags, args, rows_of(args.small))
  if args.list:
    print_list(rows)
    return 0
  results = run(rows, args)
  finish(args, results)
  return 0 if len(results) == len(rows) else 1


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
  for name in args.only or ():
    if name not in names:
      flags.error(f"--only {name}: must be one of {', '.join(names)}")
  rows = [row for row in rows if not args.only or row.name in args.only]
  if args.list:
    return rows
  possible = []
  for row in rows:
    missing = {
      c.needs for c in (row.ours, *row.peers) if not installed(c.needs)
    }
    if not missing:
      possible.append(row)
      continue
    message = f"{row.name} needs {', '.join(missing)} (make bench)"
    if args.only:
      flags.error(message)
    say(f"left out: {message}")
  return possible


def installed(module: str) -> bool:
  """Whether a module could be imported; "" always can."""
  return not module or importlib.util.find_spec(module) is not None


def print_list(rows: Sequence[Row]) -> None:
  for row in rows:
    bar = "" if row.at_least is None else f" (at least {row.at_least:g})"
    print(f"{row.name:32}{row.what}{bar}")


def run(rows: Sequence[Row], args: argparse.Namespace) -> list[Result]:
  """Measures rows; prints each, and keeps `--json` up to date.

  A row with a dead worker is told and left out; the others are measured.
  """
  # So that a terminated program takes its workers with it.
  before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  results = []
  try:
    for row in rows:
      try:
        results.append(measure(row, args.rounds, args.threads))
        print(line(results[-1]), flush=True)
      except WorkerError as error:
        say(f"{row.name}: {error}")
      if args.json:
        files.write_json(args.json, [r.as_json() for r in results])
  finally:
    signal.signal(signal.SIGTERM, before)
  return results
