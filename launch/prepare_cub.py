"""Downloads and unpacks CUB-200-2011 (1.1 GB), and can build its TFDS copy.

python launch/prepare_cub.py --out=DATA
python launch/prepare_cub.py --out=DATA --archive=CUB_200_2011.tgz
python launch/prepare_cub.py --out=DATA --tfds_dir=~/tensorflow_datasets
"""

import os
from collections.abc import Sequence

from absl import flags

from mtlmoe_jax.cli import flags as launching
from mtlmoe_jax.data import prepare

_OUT = flags.DEFINE_string("out", "", "Folder to make CUB_200_2011 in.")
_ARCHIVE = flags.DEFINE_string(
  "archive", "", "A local CUB_200_2011.tgz; empty: download it."
)
_EXPECT = flags.DEFINE_enum(
  "expect",
  "full",
  prepare.EXPECTS,
  "full: the official archive and counts; any: any part in its layout.",
)
_TFDS_DIR = flags.DEFINE_string(
  "tfds_dir",
  "",
  "Also build TFDS's caltech_birds2011 (ArrayRecord) there; needs the extra "
  "tfds-prepare and about 3.5 GB of disk.",
)


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  launching.no_arguments(argv)
  folder = prepare.prepare(
    os.path.expanduser(launching.required("out")),
    os.path.expanduser(_ARCHIVE.value),
    _EXPECT.value,
    os.path.expanduser(_TFDS_DIR.value),
  )
  print(f"ready: --config.data.name=cub --config.data.path={folder}")
  if _TFDS_DIR.value:
    print(
      "ready: --config.data.name=tfds "
      f"--config.data.path={os.path.expanduser(_TFDS_DIR.value)}"
    )
  return 0


if __name__ == "__main__":
  launching.run(main)
