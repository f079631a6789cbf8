"""Trains a multi-task mixture of experts from a config, into a workdir.

  mtlmoe train PHOTOS
  mtlmoe train --config=configs/demo.py --workdir=runs/demo
  mtlmoe train --config=configs/cub10.py --workdir=runs/cub10 \\
      --config.data.path=/data/CUB_200_2011 --config.model.experts=6

PHOTOS is a folder of yours: alone it means --config=my_data, which chooses what
fits it (my_data:fast for minutes), and a workdir of its name in runs/.

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
from mtlmoe_jax.cli import photographs

# What PHOTOS stands for.
expanded = photographs.expanded


def define() -> None:
  """Defines the flags."""
  cli_flags.define_config("Config file, for example configs/demo.py.")
  flags.DEFINE_string(
    "workdir",
    None,
    "Folder for checkpoints, metrics and the result; of PHOTOS runs/NAME.",
  )
  cli_flags.define_processes()


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  cli_flags.no_arguments(argv[1:])
  photos = argv[1] if len(argv) > 1 else ""
  workdir = flags.FLAGS["workdir"].value or ""
  if photos and not workdir:
    workdir = photographs.workdir(photos)
  workdir = workdir or cli_flags.required("workdir")
  cli_flags.required("config")
  config = cli_flags.config()
  if photos:
    photographs.put(config, photos)
  cli_flags.join_processes()
  # Here, not above: --help should not wait for JAX.
  from mtlmoe_jax.devices import processes
  from mtlmoe_jax.training import loop

  code = loop.train(config, workdir)
  if code == 0:
    processes.say(photographs.following(workdir))
  return code
