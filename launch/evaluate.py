r"""Evaluates a trained model on a split of its data.

  python launch/evaluate.py --workdir=runs/first
  python launch/evaluate.py --workdir=runs/first --split=train --step=latest
  python launch/evaluate.py --workdir=runs/cub --data.path=/data/CUB_200_2011
  python launch/evaluate.py --workdir=runs/first --views=flip --calibrate

Prints every metric with its 95 % interval and formula, and writes
WORKDIR/eval/<split>/metrics.json, predictions.csv and report.html (open it in
a browser).
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from mtlmoe_jax import launching
from mtlmoe_jax.evaluation import evaluate, results
from mtlmoe_jax.training import checkpoint, metric_log

flags.DEFINE_string("workdir", "", "Folder of the run (required).")
SPLIT = flags.DEFINE_string("split", "test", "test, validation or train.")
STEP = flags.DEFINE_string(
  "step", "best", "Checkpoint: best (on validation), latest, or a step."
)
DATA_PATH = flags.DEFINE_string(
  "data.path", "", "Where the data set is now; default: as in training."
)
BATCH_SIZE = flags.DEFINE_integer(
  "batch_size",
  0,
  "Images at a time; default: config.eval.batch_size. Changes no result.",
  lower_bound=0,
)
VIEWS = flags.DEFINE_string(
  "views",
  "",
  "What is seen of each image: whole, flip, crops, crops+flip, each also with "
  "+zoom, or zoom; default: config.eval.views.",
)
CALIBRATE = flags.DEFINE_bool(
  "calibrate",
  False,
  "Fit a temperature on the validation split first, and keep it in "
  "WORKDIR/calibration.json for later evaluations and predictions.",
)


def main(argv: Sequence[str]) -> None:
  """Flags -> one evaluation."""
  launching.no_arguments(argv)
  workdir = pathlib.Path(launching.required("workdir"))
  restored = checkpoint.restore_for_eval(workdir, STEP.value)
  folder = workdir / "eval"
  evaluation = evaluate.evaluate_restored(
    restored,
    folder,
    SPLIT.value,
    data_path=DATA_PATH.value,
    batch_size=BATCH_SIZE.value,
    views=VIEWS.value,
    calibrate=CALIBRATE.value,
    metrics_jsonl=metric_log.read(workdir),
  )
  print(f"{SPLIT.value} split, checkpoint at step {restored.step}")
  print(results.table(evaluation.metrics))
  print(f"report: {folder / SPLIT.value / 'report.html'}")


if __name__ == "__main__":
  launching.run(main)
