r"""Computes predictions again and says whether they are the same to the bit.

  mtlmoe verify runs/first/predictions
  mtlmoe verify predictions.jsonl --sample=200 --workdir=runs/first

passport.json beside the file tells model, views and versions. The exit code is
0 where all rows of the sample are equal to the bit, and 1 where one is not:
then the largest differences are told, and what has changed since.
"""

import os
from collections.abc import Sequence

from absl import flags

from mtlmoe_jax import errors


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_string(
    "workdir", "", "Folder of the run; default: where it was then."
  )
  flags.DEFINE_integer(
    "sample", 50, "Rows to compare, evenly spread; 0: all.", lower_bound=0
  )
  flags.DEFINE_string(
    "images",
    "",
    "Folder that relative paths of images begin at; default: as then.",
  )


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  if len(argv) != 2:
    raise errors.InputError(
      f"verify takes one file of predictions, not {len(argv) - 1}: name a "
      "predictions.jsonl"
    )
  # Here, not above: --help should not wait for JAX.
  from mtlmoe_jax.checkpoints import restore_for_prediction
  from mtlmoe_jax.predicting import verify

  path = argv[1]
  if os.path.isdir(path):
    path = os.path.join(path, "predictions.jsonl")
  then = verify.read_passport(path)
  workdir = flags.FLAGS.workdir or then["run"]
  restored = restore_for_prediction(workdir, str(then["checkpoint"]["step"]))
  found = verify.verify(restored, path, flags.FLAGS.sample, flags.FLAGS.images)
  for line in found.changed:
    print(f"changed: {line}")
  if found.equal == found.compared:
    print(f"{found.compared} of {found.rows} rows computed again: bit-equal")
    return 0
  print(
    f"{found.compared} of {found.rows} rows computed again: {found.equal} are "
    f"bit-equal, {found.compared - found.equal} differ; {found.classes} have "
    f"another class, probabilities differ by up to {found.probability:.2g}, "
    f"sides of boxes by up to {found.box:.2g} of the image"
  )
  for line in found.examples:
    print(f"  {line}")
  return 1
