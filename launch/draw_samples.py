"""Draws birds of the built-in data set into a folder of PNG files.

  python launch/draw_samples.py --out=birds --count=8

The pictures are of the test split; predict.py takes the folder.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from mtlmoe_jax.cli import flags as launching

flags.DEFINE_string("out", None, "Folder for the pictures; made if need be.")
flags.DEFINE_integer("count", 8, "How many to draw.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
  """Flags -> one call."""
  launching.no_arguments(argv)
  from mtlmoe_jax import config as config_lib
  from mtlmoe_jax.data.drawn import synthetic

  synthetic.draw_samples(
    config_lib.default_config().data.synthetic,
    pathlib.Path(launching.required("out")),
    flags.FLAGS.count,
  )


if __name__ == "__main__":
  launching.run(main)
