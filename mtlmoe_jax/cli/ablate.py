"""Trains a model without and with each of its parts, and compares.

  mtlmoe ablate --config=configs/cub10_ablation.py \\
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

from mtlmoe_jax.cli import flags as cli_flags


def define() -> None:
  """Defines the flags."""
  cli_flags.define_config("The base, for example configs/cub10_ablation.py.")
  flags.DEFINE_string("workdir", None, "Folder of the suite.")
  flags.DEFINE_integer("seeds", 3, "Runs of each variation.")
  flags.DEFINE_string("only", "", "Names of variations, with commas.")
  flags.DEFINE_bool("dry_run", False, "List the runs, run nothing.")
  flags.DEFINE_string("out", "", "Markdown page; default WORKDIR/ablation.md.")
  flags.DEFINE_bool(
    "packed", False, "Numbers as NAME.json.xz, a quarter of the size."
  )


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  workdir = cli_flags.required("workdir")
  cli_flags.required("config")
  cli_flags.no_arguments(argv)
  file = config_flags.get_config_filename(flags.FLAGS["config"])
  config, options = cli_flags.config(), flags.FLAGS
  command = f"python launch/ablate.py --config={file} --seeds={options.seeds}"
  if options.only:
    command += f" --only={options.only}"
  # Here, not above: --help should not wait for JAX.
  from mtlmoe_jax.experiments import ablation, suite

  return suite.run(
    ablation.VARIATIONS,
    config,
    workdir,
    seeds=options.seeds,
    only=options.only,
    dry_run=options.dry_run,
    out=options.out or pathlib.Path(workdir) / "ablation.md",
    command=command,
    packed=options.packed,
  )
