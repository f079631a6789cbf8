"""The poster's experiments from a command to their pages."""

import dataclasses
import functools
import gc
import pathlib
from collections.abc import Sequence

import jax
import ml_collections
import numpy as np

from mtlmoe_jax.experiments import cells as cells_lib
from mtlmoe_jax.experiments import (
  claims,
  collect,
  costs,
  pay,
  reproduction,
  study,
)
from mtlmoe_jax.experiments.cells import Cell
from mtlmoe_jax.reports.suite import publish, stored
from mtlmoe_jax.training import loop


@dataclasses.dataclass(frozen=True)
class Options:
  """What is reproduced.

  Attributes:
    suite: of `reproduction.SUITES`, "all", or `pay.SUITE`.
    data: of `reproduction.DATA`; of pay of `pay.DATA`.
    preset: of `reproduction.PRESETS`.
    seeds: runs of each variation.
    data_path: of the data set; "" for synthetic.
    base_path: classes to transfer from, for cub10.
    pretrained: see `reproduction.base_config`.
    gates: see `reproduction.base_config`; those of pay are what it is about.
  """

  suite: str
  data: str
  preset: str
  seeds: int
  data_path: str = ""
  base_path: str = ""
  pretrained: str = ""
  gates: str = "pixels"


def run(
  options: Options,
  root: str | pathlib.Path,
  out: str | pathlib.Path,
  *,
  dry_run: bool = False,
  packed: bool = False,
) -> int:
  """Runs what is missing, studies the experts and writes the pages.

  Started again it goes on where it was stopped, however it was; several
  processes share the work.

  Args:
    options: what is reproduced.
    root: folder of the suite; one for each data set and preset.
    out: the page, Markdown; its pictures, web page and numbers lie beside it.
    dry_run: list the cells and what they cost, run nothing.
    packed: see `publish.publish`.

  Returns:
    0, or 143 after a SIGTERM.

  Raises:
    InputError: an option that is refused, or a folder with other runs.
  """
  o = options
  if o.suite == pay.SUITE:
    base = pay.base_config(o.data, o.preset, o.data_path)
    sets = pay.training_sets(o.preset, base)
    variations = pay.variations(o.preset, sets)
    questions = pay.questions(o.preset, sets)
  else:
    base = reproduction.base_config(
      o.data, o.preset, o.data_path, o.pretrained, o.gates
    )
    variations = reproduction.variations(
      o.suite, o.data, o.preset, base, o.base_path, o.pretrained
    )
    questions = []
  return run_cells(
    cells_lib.make_cells(variations, o.seeds, root),
    base,
    options,
    out,
    questions,
    dry_run=dry_run,
    packed=packed,
  )


def run_cells(
  cells: Sequence[Cell],
  base: ml_collections.ConfigDict,
  options: Options,
  out: str | pathlib.Path,
  questions: Sequence[claims.Question] = (),
  *,
  dry_run: bool = False,
  packed: bool = False,
) -> int:
  """As `run`, of cells that are made.

  Args:
    cells: of a suite.
    base: the config that they change.
    options: for the page.
    out: see `run`.
    questions: the suite's own, in place of the poster's claims; its runs are
      short, so that their FLOPs foretell no time, and their experts are not
      studied.
    dry_run: see `run`.
    packed: see `run`.

  Returns:
    0, or 143 after a SIGTERM.
  """
  if dry_run:
    seconds = None if questions else expected_seconds(cells, base)
    print(cells_lib.listing(cells, seconds))
    return 0
  if code := cells_lib.run(cells, base):
    return code
  facts = {
    "suite": options.suite,
    "data": options.data,
    "preset": options.preset,
    "command": command(options),
  }
  if questions:
    findings = collect.answer_questions(cells, questions, **facts)
  else:
    if code := cells_lib.share(_studies(cells)):
      return code
    findings = collect.collect(cells, base, **facts)
  for path in publish.publish(findings, pathlib.Path(out), packed=packed):
    loop.say(f"written: {path}")
  return 0


def publish_again(
  numbers: str | pathlib.Path,
  out: str | pathlib.Path,
  *,
  pictures: bool = True,
  packed: bool = False,
) -> int:
  """Writes a page and its pictures from its numbers alone.

  Args:
    numbers: file that `run` wrote beside its page.
    out: see `run`.
    pictures: whether to draw; else the page and its numbers alone.
    packed: see `run`.

  Returns:
    0.

  Raises:
    InputError: a file without such numbers.
  """
  for path in publish.publish(
    stored.read(numbers), pathlib.Path(out), pictures, packed
  ):
    loop.say(f"written: {path}")
  return 0


# What stands for the path of a data set.
_FOLDERS = {"folder": "CROPS"}


def command(options: Options) -> str:
  """What makes the pages again, with names in place of paths."""
  o = options
  parts = [
    "python launch/reproduce.py",
    f"--suite={o.suite} --data={o.data} --preset={o.preset}",
    f"--seeds={o.seeds} --workdir=DIR --out=PAGE.md",
  ]
  if o.data != "synthetic":
    parts.append(f"--data.path={_FOLDERS.get(o.data, 'CUB_200_2011')}")
  if o.base_path:
    parts.append("--base_path=CROPS")
  if o.gates != reproduction.GATES[0]:
    parts.append(f"--gates={o.gates}")
  if o.pretrained:
    parts.append(f"--pretrained={o.pretrained}")
  return " ".join(parts)


# The models whose experts are looked at: the poster's, and all attempts.
STUDIED = ("moe", "mtl_3", "mtl_6", *claims.ATTEMPTS)


def _studies(cells: Sequence[Cell]) -> list[cells_lib.Task]:
  attributes: study.Attributes = {}
  return [
    cells_lib.Task(
      f"experts of {cell.name}",
      cell.folder.with_name(f".{cell.folder.name}.lock"),
      collect.study_path(cell).is_file,
      lambda: True,
      functools.partial(_study, cell, attributes),
    )
    for cell in cells
    if cell.variation.name in STUDIED and not cell.extra
  ]


def _study(cell: Cell, attributes: study.Attributes) -> int:
  known = study.study(cell.folder, attributes=attributes)
  collect.write_study(cell, known)
  jax.clear_caches()
  gc.collect()
  return 0


def expected_seconds(
  cells: Sequence[Cell], base: ml_collections.ConfigDict
) -> dict[str, float]:
  """What a run of each variation takes, in seconds, roughly.

  By the FLOPs of its training; how many a second is what finished cells had,
  else `costs.CORE`.

  Args:
    cells: of a suite.
    base: the config that they change.

  Raises:
    InputError: data that cannot be opened.
  """
  work: dict[str, float] = {}
  opened: dict[str, tuple[int, int]] = {}
  for cell in cells:
    if cell.variation.name in work or not cell.trains:
      continue
    config = cells_lib.config_of(cell, base)
    length = (config.batch_size, config.epochs, config.steps)
    key = f"{config.data.to_json_best_effort()}{length}"
    if key not in opened:
      opened[key] = costs.training_images(config)
    images, classes = opened[key]
    forward = costs.trained_flops(config, classes)
    work[cell.variation.name] = costs.TRAINING * images * forward
  rates = [
    work[cell.variation.name] / took
    for cell in cells
    if cell.trains and (took := collect.seconds_of(cell))
  ]
  rate = float(np.median(rates)) if rates else costs.CORE
  return {name: flops / rate for name, flops in work.items()}
