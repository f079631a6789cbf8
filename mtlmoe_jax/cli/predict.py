r"""Says what images show and where, with a trained model.

  mtlmoe predict DIR IMAGE_OR_FOLDER ...
  mtlmoe predict --workdir=runs/first --out=predictions photos/ a.jpg
  mtlmoe predict DIR --boxes=detections.json FOLDER

The first word is the folder of the run where --workdir is not given. Folders
are searched to any depth for image files. Writes into OUT:
predictions.json, predictions.csv, and per image an overlay: a PNG with the box,
the class, its probability and the experts that were asked.

A file named here that is no image stops the command before anything is
written. Unreadable files inside a named folder do not: the others are written,
then they are listed and the exit code is 2.
"""

import os
from collections.abc import Sequence

from absl import flags

from mtlmoe_jax.cli import flags as cli_flags


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_string("workdir", "", "Folder of the run.")
  flags.DEFINE_string(
    "out", "", "Folder for the predictions; default: WORKDIR/predictions."
  )
  flags.DEFINE_string(
    "boxes",
    "",
    "A detector's boxes (MegaDetector's JSON, COCO, ...): each is predicted.",
  )
  cli_flags.define_prediction()


def main(argv: Sequence[str]) -> None:
  """Flags -> one call."""
  workdir, images = cli_flags.workdir(argv)
  out = flags.FLAGS.out or os.path.join(workdir, "predictions")
  # Here, not above: --help should not wait for JAX.
  from mtlmoe_jax.utils import garbage

  with garbage.imports():
    from mtlmoe_jax.checkpoints import restore_for_prediction

    restored = restore_for_prediction(workdir, flags.FLAGS.step)
    from mtlmoe_jax.evaluation import predict

  entries = predict.predict_images(
    restored,
    images,
    out,
    **cli_flags.flag_values("boxes", "batch_size", "views"),
  )
  print(f"{len(entries)} images: predictions.json, .csv and pictures in {out}")
