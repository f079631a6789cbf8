r"""Evaluates a trained model on a split of its data.

  mtlmoe evaluate runs/first
  mtlmoe evaluate --workdir=runs/first --split=train --step=latest
  mtlmoe evaluate --workdir=runs/cub --data.path=/data/CUB_200_2011
  mtlmoe evaluate --workdir=runs/first --views=flip --calibrate

Prints every metric with its 95 % interval and formula, and writes
WORKDIR/eval/<split>/metrics.json, predictions.csv and report.html (open it in
a browser).
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from mtlmoe_jax.cli import flags as cli_flags


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_string("workdir", "", "Folder of the run, if not named alone.")
  cli_flags.define_prediction()
  cli_flags.define_split()
  flags.DEFINE_bool(
    "calibrate",
    False,
    "Fit a temperature on the validation split first, and keep it in "
    "WORKDIR/calibration.json for later evaluations and predictions.",
  )


def main(argv: Sequence[str]) -> None:
  """Flags -> one evaluation."""
  named, rest = cli_flags.workdir(argv)
  cli_flags.no_arguments(["", *rest])
  workdir = pathlib.Path(named)
  # Here, not above: --help should not wait for JAX.
  from mtlmoe_jax.checkpoints import restore
  from mtlmoe_jax.evaluation import evaluate, results
  from mtlmoe_jax.training import metric_log

  restored = restore.restore_for_eval(workdir, flags.FLAGS.step)
  folder = workdir / "eval"
  evaluation = evaluate.evaluate_restored(
    restored,
    folder,
    **cli_flags.flag_values("split", "data.path", "batch_size", "views"),
    calibrate=flags.FLAGS.calibrate,
    metrics_jsonl=metric_log.read(workdir),
  )
  split = flags.FLAGS.split
  print(f"{split} split, checkpoint at step {restored.step}")
  print(results.table(evaluation.metrics))
  print(f"report: {folder / split / 'report.html'}")
