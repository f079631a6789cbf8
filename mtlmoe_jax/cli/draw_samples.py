"""Draws birds of the built-in data set into a folder of PNG files.

  mtlmoe draw_samples --out=birds --count=8

The pictures are of the test split; predict.py takes the folder.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from mtlmoe_jax.cli import flags as cli_flags


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_string("out", None, "Folder for the pictures; made if need be.")
  flags.DEFINE_integer("count", 8, "How many to draw.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
  """Flags -> one call."""
  cli_flags.no_arguments(argv)
  out = pathlib.Path(cli_flags.required("out"))
  from mtlmoe_jax import config as config_lib
  from mtlmoe_jax.data.drawn import synthetic

  synthetic.draw_samples(
    config_lib.default_config().data.synthetic,
    out,
    flags.FLAGS.count,
  )
