"""Trains a model without and with each of its parts, and compares.

  python launch/ablate.py --config=configs/cub10_ablation.py \\
      --workdir=runs/ablation --config.data.path=CUB_200_2011 --seeds=3

Started again it goes on where it was stopped; started several times side by
side (say, one for each core or GPU) the processes share the runs. --dry_run
lists the runs; --only takes some variations; --out also writes the page there
(with a picture beside it). The variations are in
mtlmoe_jax/experiments/ablation.py.
"""

import pathlib
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from mtlmoe_jax.cli import flags as launching

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "The base, for example configs/cub10_ablation.py."
)
flags.DEFINE_string("workdir", None, "Folder of the suite.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each variation.")
_ONLY = flags.DEFINE_string("only", "", "Names of variations, with commas.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "List the runs, run nothing.")
_OUT = flags.DEFINE_string(
  "out", "", "Markdown page; default WORKDIR/ablation.md."
)


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  workdir = launching.required("workdir")
  launching.required("config")
  launching.no_arguments(argv)
  file = config_flags.get_config_filename(flags.FLAGS["config"])
  command = f"python launch/ablate.py --config={file} --seeds={_SEEDS.value}"
  if _ONLY.value:
    command += f" --only={_ONLY.value}"
  # Here, not above: --help should not wait for JAX.
  from mtlmoe_jax.experiments import ablation, cells, suite

  alone = _ONLY.value == cells.BASE
  return suite.run(
    ablation.VARIATIONS,
    launching.config(_CONFIG),
    workdir,
    seeds=_SEEDS.value,
    only=_ONLY.value,
    dry_run=_DRY_RUN.value,
    out=_OUT.value or pathlib.Path(workdir) / "ablation.md",
    title="The base" if alone else "What each part is worth",
    command=command,
  )


if __name__ == "__main__":
  launching.run(main)
