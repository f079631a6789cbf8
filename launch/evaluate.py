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

from mtlmoe_jax.cli import flags as launching
from mtlmoe_jax.evaluation import evaluate, results
from mtlmoe_jax.training import checkpoint, metric_log

flags.DEFINE_string("workdir", "", "Folder of the run (required).")
launching.define_asking()
launching.define_split()
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
  restored = checkpoint.restore_for_eval(workdir, flags.FLAGS.step)
  folder = workdir / "eval"
  evaluation = evaluate.evaluate_restored(
    restored,
    folder,
    **launching.values("split", "data.path", "batch_size", "views"),
    calibrate=CALIBRATE.value,
    metrics_jsonl=metric_log.read(workdir),
  )
  split = flags.FLAGS.split
  print(f"{split} split, checkpoint at step {restored.step}")
  print(results.table(evaluation.metrics))
  print(f"report: {folder / split / 'report.html'}")


if __name__ == "__main__":
  launching.run(main)
