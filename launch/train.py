"""Trains a multi-task mixture of experts from a config, into a workdir.

  python launch/train.py --config=configs/demo.py --workdir=runs/demo
  python launch/train.py --config=configs/cub10.py --workdir=runs/cub10 \\
      --config.data.path=/data/CUB_200_2011 --config.model.experts=6

Started again on the same workdir, it goes on from the latest checkpoint.
Options after a colon go to the config file, those with --config. change single
values; mtlmoe_jax/config.py names and explains all of them.
"""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from mtlmoe_jax import launching

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file, for example configs/demo.py."
)
flags.DEFINE_string(
  "workdir", None, "Folder for checkpoints, metrics and the result."
)


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  workdir = launching.required("workdir")
  launching.required("config")
  launching.no_arguments(argv)
  # Here, not above: --help should not wait for JAX.
  from mtlmoe_jax.training import loop

  return loop.train(launching.config(_CONFIG), workdir)


if __name__ == "__main__":
  launching.run(main)
