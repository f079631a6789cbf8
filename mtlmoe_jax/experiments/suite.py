"""A suite from its variations to its page."""

import pathlib
from collections.abc import Sequence

import ml_collections

from mtlmoe_jax.experiments import cells as cells_lib
from mtlmoe_jax.experiments import collect
from mtlmoe_jax.reports.suite import publish
from mtlmoe_jax.training import loop


def run(
  variations: Sequence[cells_lib.Variation],
  base: ml_collections.ConfigDict,
  root: str | pathlib.Path,
  *,
  seeds: int,
  only: str,
  dry_run: bool,
  out: str | pathlib.Path,
  command: str,
  packed: bool = False,
) -> int:
  """Runs what is missing and writes the comparison.

  Args:
    variations: the base first.
    base: the config that they change.
    root: folder of the suite.
    seeds: runs of each variation.
    only: see `cells.choose`.
    dry_run: print the runs and run nothing.
    out: the page, Markdown; see `publish.publish`.
    command: that makes the page again, for the page.
    packed: see `publish.publish`.

  Returns:
    0, or 143 after a SIGTERM.

  Raises:
    InputError: see `cells.run` and `collect.compare`.
  """
  chosen = cells_lib.choose(variations, only)
  cells = cells_lib.make_cells(chosen, seeds, root)
  if dry_run:
    print(cells_lib.listing(cells))
    return 0
  if code := cells_lib.run(cells, base):
    return code
  findings = collect.compare(cells, data=base.data.name, command=command)
  for path in publish.publish(findings, pathlib.Path(out), packed=packed):
    loop.say(f"written: {path}")
  return 0
