r"""Says what images show and where, with a trained model.

  python launch/predict.py --workdir=DIR --out=OUT IMAGE_OR_FOLDER ...
  python launch/predict.py --workdir=runs/first --out=predictions photos/ a.jpg

Folders are searched to any depth for image files. Writes into OUT:
predictions.json, predictions.csv, and per image an overlay: a PNG with the box,
the class, its probability and the experts that were asked.

A file named here that is no image stops the command before anything is
written. Unreadable files inside a named folder do not: the others are written,
then they are listed and the exit code is 2.
"""

from collections.abc import Sequence

from absl import flags

from mtlmoe_jax.cli import flags as launching
from mtlmoe_jax.evaluation import predict
from mtlmoe_jax.training import checkpoint

flags.DEFINE_string("workdir", "", "Folder of the run (required).")
flags.DEFINE_string("out", "", "Folder for the predictions (required).")
launching.define_asking()


def main(argv: Sequence[str]) -> None:
  """Flags -> one call."""
  workdir, out = launching.required("workdir"), launching.required("out")
  entries = predict.predict_images(
    checkpoint.restore_for_eval(workdir, flags.FLAGS.step),
    argv[1:],
    out,
    **launching.values("batch_size", "views"),
    workdir=workdir,
  )
  print(f"{len(entries)} images: predictions.json, .csv and pictures in {out}")


if __name__ == "__main__":
  launching.run(main)
