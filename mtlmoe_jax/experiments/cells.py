"""Cells: the runs of a suite, each with a folder of its own.

A suite is a list of variations, each run with several seeds. A cell is done
when its result is there, so that a suite that was stopped goes on where it was:
whole cells are skipped and a run in progress resumes from its checkpoint.
"""

import copy
import dataclasses
import gc
import json
import pathlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors, files, pretrained, progress
from mtlmoe_jax.evaluation import evaluate
from mtlmoe_jax.training import checkpoint, loop, workdir

# The variation that changes nothing.
BASE = "base"
# How often a process that has nothing to do looks again.
POLL_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Variation:
  """What is changed of a base config, and what that asks.

  Attributes:
    name: folder below the suite's.
    overrides: value by dotted key; with keys of `eval` alone nothing is
      trained: the base's checkpoint is evaluated with them.
    what: for people.
    group: heading it stands under.
  """

  name: str
  overrides: Mapping[str, Any]
  what: str
  group: str = ""

  @property
  def trains(self) -> bool:
    """Whether it is a run of its own."""
    keys = self.overrides
    return not keys or not all(key.startswith("eval.") for key in keys)


@dataclasses.dataclass(frozen=True)
class Cell:
  """One variation with one seed.

  Attributes:
    variation: of the base config.
    seed: of the run.
    folder: a workdir, or only its `eval` where nothing is trained.
  """

  variation: Variation
  seed: int
  folder: pathlib.Path

  @property
  def evaluation(self) -> pathlib.Path:
    """The folder of its figures and predictions."""
    return self.folder / "eval" / "test"

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
  return [
    Cell(variation, seed, root / variation.name / f"seed_{seed}")
    for seed in range(seeds)
    for variation in variations
  ]


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
  # Cells with the same stem and the same images share its features.
  config.features.cache = str(cell.folder.parents[1] / "features")
  config_lib.check_config(config)
  # As a run does before it is saved.
  pretrained.set_normalisation(config)
  return config


def is_done(cell: Cell) -> bool:
  """Whether the cell's result is there."""
  if cell.variation.trains:
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
    if cell.variation.trains and is_done(cell):
      workdir.check_same(cell.folder / "config.json", config)
  start, ran, waits = time.monotonic(), 0, False
  while missing := [p for p in zip(cells, configs) if not is_done(p[0])]:
    left = ""
    if ran:
      each = (time.monotonic() - start) / ran
      left = f", {progress.duration(each * len(missing))} left"
    for cell, config in missing:
      if not _is_ready(cell):
        continue
      lock = cell.folder.with_name(f".{cell.folder.name}.lock")
      with files.claim(lock) as ours:
        # It may have been done since we looked.
        if not ours or is_done(cell):
          continue
        loop.say(f"== {len(missing)} to run: {cell.name}{left}")
        if code := _run(cell, config):
          return code
      ran, waits = ran + 1, False
      break
    else:
      if not waits:
        loop.say("waiting for the runs of other processes")
      waits = True
      time.sleep(POLL_SECONDS)
  return 0


def _is_ready(cell: Cell) -> bool:
  """Whether what the cell builds on is there."""
  return cell.variation.trains or (_trained(cell) / "result.json").is_file()


def _trained(cell: Cell) -> pathlib.Path:
  """The run whose checkpoint a cell evaluates."""
  return cell.folder.parents[1] / BASE / cell.folder.name


def _run(cell: Cell, config: ml_collections.ConfigDict) -> int:
  if cell.variation.trains:
    if code := loop.train(config, str(cell.folder)):
      return code
  else:
    _evaluate(cell, config)
  # A suite would otherwise keep each run's compiled programs.
  jax.clear_caches()
  gc.collect()
  return 0


def _evaluate(cell: Cell, config: ml_collections.ConfigDict) -> None:
  """The base's checkpoint with other options of evaluation."""
  restored = checkpoint.restore_for_eval(_trained(cell), config.eval.step)
  restored = dataclasses.replace(restored, config=config)
  evaluate.evaluate_restored(
    restored, cell.folder / "eval", data_path=config.data.path
  )


def read_result(cell: Cell) -> dict[str, Any]:
  """The figures of a cell that is done.

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


def plan(cells: Sequence[Cell]) -> str:
  """Which cells are done and which are missing, a line each."""
  lines = []
  for cell in cells:
    state = "done" if is_done(cell) else "missing"
    changes = ", ".join(f"{k}={v}" for k, v in cell.variation.overrides.items())
    lines.append(f"{state:8} {cell.name:32} {changes}".rstrip())
  return "\n".join(lines)
