"""Cells: the runs of a suite, each with a folder of its own.

A suite is a list of variations, each run with several seeds. A cell is done
when its result is there, so that a suite that was stopped goes on where it was:
whole cells are skipped and a run in progress resumes from its checkpoint.
"""

import copy
import dataclasses
import functools
import gc
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors, pretrained
from mtlmoe_jax.checkpoints import restore_for_eval
from mtlmoe_jax.devices import compilation
from mtlmoe_jax.evaluation import ensemble, evaluate
from mtlmoe_jax.training import features, loop, workdir
from mtlmoe_jax.utils import files, progress

# The variation that changes nothing.
BASE = "base"
# Between the seeds of an ensemble's members: more than any suite has.
MEMBER_SEEDS = 1000
# How often a process that has nothing to do looks again.
POLL_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Train:
  """A variation that is a run of its own.

  Attributes:
    name: folder below the suite's.
    overrides: value by dotted key, changed of the base config.
    what: for people.
    group: heading it stands under.
    after: name of a variation whose run of the same seed this one starts from
      (`transfer.source`); "" for none.
  """

  name: str
  overrides: Mapping[str, Any]
  what: str
  group: str = ""
  after: str = ""

  def members(self, seed: int) -> list[tuple[str, int]]:
    """Name and seed of each run that this one builds on."""
    return [(self.after, seed)] if self.after else []

  def notes(self) -> list[str]:
    """What it is, for a listing."""
    notes = [f"{key}={value}" for key, value in self.overrides.items()]
    return notes + ([f"after {self.after}"] if self.after else [])


@dataclasses.dataclass(frozen=True)
class Reevaluate:
  """A variation that evaluates the checkpoint of another: nothing is trained.

  Attributes:
    name: folder below the suite's.
    overrides: value by dotted key, of `eval` alone.
    what: for people.
    group: heading it stands under.
    of: name of the other variation; its run of the same seed is evaluated.

  Raises:
    ValueError: an override that only a training would heed.
  """

  name: str
  overrides: Mapping[str, Any]
  what: str
  group: str = ""
  of: str = BASE

  def __post_init__(self) -> None:
    trained = [key for key in self.overrides if not key.startswith("eval.")]
    if trained:
      raise ValueError(f"{self.name}: {trained} must be trained with")

  def members(self, seed: int) -> list[tuple[str, int]]:
    """See `Train.members`."""
    return [(self.of, seed)]

  def notes(self) -> list[str]:
    """See `Train.notes`."""
    return [f"{key}={value}" for key, value in self.overrides.items()]


@dataclasses.dataclass(frozen=True)
class Ensemble:
  """A variation that averages runs of another: nothing is trained for itself.

  Attributes:
    name: folder below the suite's.
    of: name of the other variation.
    count: M: its run of the same seed, and M - 1 more of other seeds.
    what: for people.
    group: heading it stands under.
  """

  name: str
  of: str
  count: int
  what: str
  group: str = ""

  @property
  def overrides(self) -> Mapping[str, Any]:
    """None: its members have the config of theirs."""
    return {}

  def members(self, seed: int) -> list[tuple[str, int]]:
    """See `Train.members`."""
    return [(self.of, seed + MEMBER_SEEDS * i) for i in range(self.count)]

  def notes(self) -> list[str]:
    """See `Train.notes`."""
    return [f"{self.count} x {self.of} together"]


Variation = Train | Reevaluate | Ensemble


@dataclasses.dataclass(frozen=True)
class Cell:
  """One variation with one seed.

  Attributes:
    variation: of the base config.
    seed: of the run.
    folder: a workdir, or only its `eval` where nothing is trained.
    needs: workdirs of the runs that it builds on.
    extra: it is there for an ensemble alone, and no seed of the suite's.
  """

  variation: Variation
  seed: int
  folder: pathlib.Path
  needs: tuple[pathlib.Path, ...] = ()
  extra: bool = False

  @property
  def evaluation(self) -> pathlib.Path:
    """The folder of its metrics and predictions."""
    return self.folder / "eval" / "test"

  @property
  def trains(self) -> bool:
    """Whether it is a run of its own."""
    return isinstance(self.variation, Train)

  @property
  def name(self) -> str:
    """For messages."""
    return f"{self.variation.name}, seed {self.seed}"


def make_cells(
  variations: Iterable[Variation], seeds: int, root: str | pathlib.Path
) -> list[Cell]:
  """All cells, seed by seed, so that a part of a suite is a whole comparison.

  Args:
    variations: with different names; the base comes first.
    seeds: each has the seeds 0 ... seeds - 1.
    root: folder of the suite.

  Raises:
    InputError: fewer than one seed.
  """
  if seeds < 1:
    raise errors.InputError(f"--seeds={seeds}: must be at least 1")
  root = pathlib.Path(root)
  known = {variation.name: variation for variation in variations}
  cells = []
  for seed in range(seeds):
    for variation in known.values():
      members = variation.members(seed)
      needs = [root / name / f"seed_{s}" for name, s in members]
      for (name, other), folder in zip(members, needs):
        if other != seed:
          cells.append(Cell(known[name], other, folder, extra=True))
      folder = root / variation.name / f"seed_{seed}"
      cells.append(Cell(variation, seed, folder, tuple(needs)))
  return cells


def choose(variations: Sequence[Variation], only: str) -> list[Variation]:
  """The variations with these names, and the base, which all are compared to.

  Args:
    variations: of the suite.
    only: names with commas between them; "" is all.

  Raises:
    InputError: an unknown name.
  """
  wanted = [name.strip() for name in only.split(",") if name.strip()]
  known = [variation.name for variation in variations]
  for name in wanted:
    if name not in known:
      raise errors.InputError(
        f"--only: unknown variation {name!r}; known are {', '.join(known)}"
      )
  return [
    v for v in variations if not wanted or v.name in wanted or v.name == BASE
  ]


def config_of(
  cell: Cell, base: ml_collections.ConfigDict
) -> ml_collections.ConfigDict:
  """The whole config of a cell.

  Raises:
    InputError: a value that is refused.
  """
  config = copy.deepcopy(base)
  for key, value in cell.variation.overrides.items():
    config_lib.set_path(config, key, value)
  config.seed = cell.seed
  if cell.extra:
    # Members of an ensemble learn from the same views: the stem runs once.
    config.features.seed = cell.seed % MEMBER_SEEDS
  if isinstance(cell.variation, Train) and cell.variation.after:
    config.transfer.source = str(cell.needs[0])
    # The checkpoint whose metrics a suite reports first.
    config.transfer.step = "latest"
  # Cells with the same stem and the same images share its features.
  config.features.cache = str(cell.folder.parents[1] / "features")
  return pretrained.settle(config)


def is_done(cell: Cell) -> bool:
  """Whether the cell's result is there."""
  if cell.trains:
    return (cell.folder / "result.json").is_file()
  return (cell.evaluation / "metrics.json").is_file()


def run(cells: Sequence[Cell], base: ml_collections.ConfigDict) -> int:
  """Runs what is missing, in order.

  Other processes may run the same cells at the same time: each takes the next
  one that nobody has. Who finds none waits for the others, and takes over what
  a killed one leaves.

  Args:
    cells: in an order where each base comes before what evaluates it.
    base: the config that the variations change.

  Returns:
    0 when all are done, 143 after a SIGTERM (start again to go on).

  Raises:
    InputError: a bad value in any cell (before anything runs), or a folder
      that holds another run.
  """
  configs = [config_of(cell, base) for cell in cells]
  for cell, config in zip(cells, configs):
    if cell.trains and is_done(cell):
      workdir.check_same(cell.folder / "config.json", config)
  tasks = [
    Task(
      cell.name,
      cell.folder.with_name(f".{cell.folder.name}.lock"),
      functools.partial(is_done, cell),
      functools.partial(_is_ready, cell),
      functools.partial(_run, cell, config),
    )
    for cell, config in zip(cells, configs)
  ]
  # Seeds have the same programs.
  with compilation.kept():
    return share(tasks)


@dataclasses.dataclass(frozen=True)
class Task:
  """A piece of work that one of several processes does.

  Attributes:
    name: for messages.
    lock: file that whoever does it holds.
    is_done: whether its result is there.
    is_ready: whether what it builds on is there.
    run: does it; 0, or a code that stops everything.
  """

  name: str
  lock: pathlib.Path
  is_done: Callable[[], bool]
  is_ready: Callable[[], bool]
  run: Callable[[], int]


def share(tasks: Sequence[Task]) -> int:
  """Does what nobody has done and nobody does, until all is done.

  Args:
    tasks: in an order where each comes after what it builds on.

  Returns:
    0, or the code of the task that stopped.
  """
  start, first, waits = time.monotonic(), None, False
  while missing := [task for task in tasks if not task.is_done()]:
    # What other processes do counts as well.
    first = first or len(missing)
    left = ""
    if done := first - len(missing):
      each = (time.monotonic() - start) / done
      left = f", {progress.duration(each * len(missing))} left"
    for task in missing:
      if not task.is_ready():
        continue
      with files.claim(task.lock) as ours:
        # It may have been done since we looked.
        if not ours or task.is_done():
          continue
        loop.say(f"== {len(missing)} of {len(tasks)} left: {task.name}{left}")
        if code := task.run():
          return code
      waits = False
      break
    else:
      if not waits:
        loop.say("waiting for the runs of other processes")
      waits = True
      time.sleep(POLL_SECONDS)
  return 0


def _is_ready(cell: Cell) -> bool:
  """Whether what the cell builds on is there."""
  return all((folder / "result.json").is_file() for folder in cell.needs)


def _run(cell: Cell, config: ml_collections.ConfigDict) -> int:
  if cell.trains:
    if code := loop.train(config, str(cell.folder)):
      return code
  else:
    _evaluate(cell, config)
  # A suite would otherwise keep each run's compiled programs.
  jax.clear_caches()
  gc.collect()
  return 0


def _evaluate(cell: Cell, config: ml_collections.ConfigDict) -> None:
  """Checkpoints that are there: with other options, or several together."""
  options = dict(data_path=config.data.path)
  if isinstance(cell.variation, Ensemble):
    runs = (restore_for_eval(run, config.eval.step) for run in cell.needs)
    ensemble.evaluate_together(
      runs, cell.evaluation, batches_of=features.of_run, **options
    )
    return
  restored = restore_for_eval(cell.needs[0], config.eval.step)
  # The base's temperature is of its own options of `eval`.
  restored = dataclasses.replace(restored, config=config, calibration=None)
  evaluate.evaluate_restored(restored, cell.folder / "eval", **options)


def read_result(cell: Cell) -> dict[str, Any]:
  """The metrics of a cell that is done.

  Raises:
    InputError: they are not there.
  """
  path = cell.evaluation / "metrics.json"
  try:
    return json.loads(path.read_text("utf-8"))
  except (OSError, ValueError) as error:
    raise errors.InputError(
      f"{path}: no result of {cell.name} ({error}); run the suite again"
    ) from None


def listing(
  cells: Sequence[Cell], seconds: Mapping[str, float] | None = None
) -> str:
  """Which cells are done and which are missing, a line each.

  Args:
    cells: of a suite.
    seconds: what a run of a variation takes, by its name; adds a column and
      the sum of what is missing. None: without them.
  """
  lines, left = [], 0.0
  for cell in cells:
    done = is_done(cell)
    variation = cell.variation
    duration = ""
    if seconds is not None:
      expected = seconds.get(variation.name, 0.0)
      left += 0 if done else expected
      duration = f"{progress.duration(expected):>8} "
    state = "done" if done else "missing"
    line = f"{state:8} {duration}{cell.name:32} {', '.join(variation.notes())}"
    lines.append(line.rstrip())
  if seconds is not None:
    lines.append(
      f"{sum(not is_done(c) for c in cells)} of {len(cells)} cells missing: "
      f"about {progress.duration(left)}, less with several processes"
    )
  return "\n".join(lines)
