"""A suite from its variations to its page."""

import pathlib
from collections.abc import Sequence

import ml_collections

from mtlmoe_jax.experiments import cells as cells_lib
from mtlmoe_jax.experiments import comparison
from mtlmoe_jax.reports.suite import ablation_page as page_lib
from mtlmoe_jax.reports.suite import forest
from mtlmoe_jax.training import loop
from mtlmoe_jax.utils import files


def run(
  variations: Sequence[cells_lib.Variation],
  base: ml_collections.ConfigDict,
  root: str | pathlib.Path,
  *,
  seeds: int,
  only: str,
  dry_run: bool,
  out: str | pathlib.Path,
  title: str,
  command: str,
) -> int:
  """Runs what is missing and writes the comparison.

  Args:
    variations: the base first.
    base: the config that they change.
    root: folder of the suite.
    seeds: runs of each variation.
    only: see `cells.choose`.
    dry_run: print the runs and run nothing.
    out: the page, Markdown; its picture has the same name and `.svg`.
    title: of the page.
    command: that makes the page again, for the page.

  Returns:
    0, or 143 after a SIGTERM.

  Raises:
    InputError: see `cells.run` and `comparison.compare`.
  """
  chosen = cells_lib.choose(variations, only)
  cells = cells_lib.make_cells(chosen, seeds, root)
  if dry_run:
    print(cells_lib.plan(cells))
    return 0
  if code := cells_lib.run(cells, base):
    return code
  lines = comparison.compare(cells)
  out, picture = pathlib.Path(out), ""
  if len(lines) > 1:
    picture = out.with_suffix(".svg").name
    files.write_bytes(out.with_name(picture), forest.draw(lines))
  facts = _facts(cells, base)
  files.write_text(out, page_lib.page(title, lines, command, facts, picture))
  loop.say(f"written: {out}")
  return 0


def _facts(
  cells: Sequence[cells_lib.Cell], base: ml_collections.ConfigDict
) -> list[str]:
  result = cells_lib.read_result(cells[0])
  meta = result["meta"]
  return [
    f"{len({cell.seed for cell in cells})} seeds, {result['n']} test images of "
    f"{base.data.name}, {len(meta['class_names'])} classes; "
    f"{meta['device']}, commit {meta['commit'][:7] or 'unknown'}."
  ]
