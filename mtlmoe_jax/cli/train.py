"""Trains a multi-task mixture of experts from a config, into a workdir.

  mtlmoe train --config=configs/demo.py --workdir=runs/demo
  mtlmoe train --config=configs/cub10.py --workdir=runs/cub10 \\
      --config.data.path=/data/CUB_200_2011 --config.model.experts=6

Started again on the same workdir, it goes on from the latest checkpoint.
With several processes (hosts of a TPU slice, tasks of Slurm) the same command
is started on each; elsewhere, here two processes of one machine:

  for i in 0 1; do mtlmoe train --config=configs/demo.py \\
      --workdir=runs/demo --coordinator=localhost:9876 --processes=2 \\
      --process=$i & done; wait

Options after a colon go to the config file, those with --config. change single
values; docs/options.md names and explains all of them.
"""

from collections.abc import Sequence

from absl import flags

from mtlmoe_jax.cli import flags as cli_flags


def define() -> None:
  """Defines the flags."""
  cli_flags.define_config("Config file, for example configs/demo.py.")
  flags.DEFINE_string(
    "workdir", None, "Folder for checkpoints, metrics and the result."
  )
  cli_flags.define_processes()


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  workdir = cli_flags.required("workdir")
  cli_flags.required("config")
  cli_flags.no_arguments(argv)
  config = cli_flags.config()
  cli_flags.join_processes()
  # Here, not above: --help should not wait for JAX.
  from mtlmoe_jax.training import loop

  return loop.train(config, workdir)
