"""Downloads and unpacks CUB-200-2011 (1.1 GB), and can build its TFDS copy.

mtlmoe prepare_cub --out=DATA
mtlmoe prepare_cub --out=DATA --archive=CUB_200_2011.tgz
mtlmoe prepare_cub --out=DATA --tfds_dir=~/tensorflow_datasets
"""

import os
from collections.abc import Sequence

from absl import flags

from mtlmoe_jax.cli import flags as cli_flags

# As `data.prepare.EXPECTS`.
EXPECTS = ("full", "any")


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_string("out", "", "Folder to make CUB_200_2011 in.")
  flags.DEFINE_string(
    "archive", "", "A local CUB_200_2011.tgz; empty: download it."
  )
  flags.DEFINE_enum(
    "expect",
    "full",
    EXPECTS,
    "full: the official archive and counts; any: any part in its layout.",
  )
  flags.DEFINE_string(
    "tfds_dir",
    "",
    "Also build TFDS's caltech_birds2011 (ArrayRecord) there; needs the extra "
    "tfds-prepare and about 3.5 GB of disk.",
  )


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  cli_flags.no_arguments(argv)
  out = os.path.expanduser(cli_flags.required("out"))
  tfds_dir = os.path.expanduser(flags.FLAGS.tfds_dir)
  # Here, not above: --help should not wait for it.
  from mtlmoe_jax.data import prepare

  folder = prepare.prepare(
    out,
    os.path.expanduser(flags.FLAGS.archive),
    flags.FLAGS.expect,
    tfds_dir,
  )
  print(f"ready: --config.data.name=cub --config.data.path={folder}")
  if tfds_dir:
    print(f"ready: --config.data.name=tfds --config.data.path={tfds_dir}")
  return 0
