r"""Says what images show and where, with a trained model.

  mtlmoe predict DIR IMAGE_OR_FOLDER ...
  mtlmoe predict --workdir=runs/first --out=predictions photos/ a.jpg
  mtlmoe predict DIR --boxes=detections.json FOLDER
  find /card -name '*.JPG' | mtlmoe predict DIR - --out_format=csv

The first word is the folder of the run where --workdir is not given. Then come
image files, folders (searched to any depth), patterns in quotes, videos, or -
for a list of paths from standard input. Writes into OUT: a file for each of
--out_format (predictions.json, .jsonl and .csv), passport.json, and per image
an overlay: the picture with the box, the class, its probability and the experts
that were asked.

What cannot be read is a row with the reason, and the exit code is 2. Started
again after a kill, the same command goes on with what is missing.
"""

import os
from collections.abc import Sequence

from absl import flags

from mtlmoe_jax import errors
from mtlmoe_jax.cli import flags as cli_flags

# As `predicting.pictures.OVERLAYS`.
OVERLAYS = ("auto", "none", "jpeg", "png")
# Outputs in which no row tells why it could not be read.
_WITHOUT_ERRORS = (
  *("predictions.coco.json", "predictions.coco_images.json"),
  *("predictions.label_studio.json", "predictions.label_studio.xml"),
)


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
  flags.DEFINE_string(
    "out_format",
    "json,jsonl,csv",
    "Files to write: json, jsonl, csv, parquet, megadetector, camtrap_dp, "
    "coco, label_studio; several with commas.",
  )
  flags.DEFINE_multi_string(
    "out_option",
    [],
    "NAME=VALUE for a format, such as camtrap_timezone=+02:00 (docs/outputs.md "
    "has them); may be given several times.",
  )
  flags.DEFINE_enum(
    "overlays",
    "auto",
    OVERLAYS,
    "Pictures with what was found: none, jpeg, png; auto: jpeg for up to "
    "1,000 images, else none.",
  )
  flags.DEFINE_bool("crops", False, "Write each object alone, OUT/crops.")
  flags.DEFINE_bool("thumbnails", False, "Write small images, OUT/thumbnails.")
  flags.DEFINE_integer(
    "every",
    0,
    "Of a video every so many frames; default: one a second.",
    lower_bound=0,
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
    from mtlmoe_jax.predicting import run

  options = run.Options(
    **cli_flags.flag_values(
      *("boxes", "batch_size", "views", "every", "overlays", "crops"),
      *("thumbnails", "out_format"),
    ),
    format_options=dict(map(_pair, flags.FLAGS.out_option)),
  )
  found = run.predict_files(restored, images, out, options)
  print(f"{found.count} images: {', '.join(found.names)} in {out}")
  if found.unreadable:
    raise errors.InputError(
      f"{found.unreadable} of {found.count} could not be read (the first: "
      f"{found.first_error}){_where_told(found.names)}"
    )


def _where_told(names: Sequence[str]) -> str:
  """Which of the files tells why something could not be read."""
  told = [name for name in names if name not in _WITHOUT_ERRORS]
  return f"; why is told in {told[0]}" if told else ""


def _pair(text: str) -> tuple[str, str]:
  name, equals, value = text.partition("=")
  if not equals:
    raise errors.InputError(f"--out_option={text}: must be NAME=VALUE")
  return name, value
