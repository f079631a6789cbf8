"""Trains a multi-task mixture of experts from a config, into a workdir.

  python launch/train.py --config=configs/demo.py --workdir=runs/demo
  python launch/train.py --config=configs/cub10.py --workdir=runs/cub10 \\
      --config.data.path=/data/CUB_200_2011 --config.model.experts=6

Started again on the same workdir, it goes on from the latest checkpoint.
With several processes (hosts of a TPU slice, tasks of Slurm) the same command
is started on each; elsewhere, here two processes of one machine:

  for i in 0 1; do python launch/train.py --config=configs/demo.py \\
      --workdir=runs/demo --coordinator=localhost:9876 --processes=2 \\
      --process=$i & done; wait

Options after a colon go to the config file, those with --config. change single
values; docs/options.md names and explains all of them.
"""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from mtlmoe_jax.cli import flags as launching

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file, for example configs/demo.py."
)
flags.DEFINE_string(
  "workdir", None, "Folder for checkpoints, metrics and the result."
)
launching.define_processes()


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  workdir = launching.required("workdir")
  launching.required("config")
  launching.no_arguments(argv)
  launching.join_processes()
  # Here, not above: --help should not wait for JAX.
  from mtlmoe_jax.training import loop

  return loop.train(launching.config(_CONFIG), workdir)


if __name__ == "__main__":
  launching.run(main)
