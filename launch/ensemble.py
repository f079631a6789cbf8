r"""Evaluates several trained models together, on a split of their data.

  python launch/ensemble.py --out=runs/all runs/best/base/seed_*

Probabilities and boxes are averaged over the runs, whatever their backbones,
experts and image sizes are. Prints each run's figures and those of all; writes
OUT/metrics.json, predictions.csv and report.html. The runs' own folders stay
as they are.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from mtlmoe_jax import launching
from mtlmoe_jax.evaluation import ensemble, results
from mtlmoe_jax.training import checkpoint

flags.DEFINE_string("out", "", "Folder of what is written (required).")
_SPLIT = flags.DEFINE_string("split", "test", "test, validation or train.")
_STEP = flags.DEFINE_string(
  "step", "best", "Checkpoints: best (on validation), latest, or a step."
)
_DATA_PATH = flags.DEFINE_string(
  "data.path", "", "Where the data set is now; default: as in training."
)
_BATCH_SIZE = flags.DEFINE_integer(
  "batch_size",
  0,
  "Images at a time; default: config.eval.batch_size. Changes no result.",
  lower_bound=0,
)
_VIEWS = flags.DEFINE_string(
  "views",
  "",
  "What is seen of each image, as in launch/evaluate.py; default: "
  "config.eval.views of each run.",
)


def main(argv: Sequence[str]) -> None:
  """Flags -> one evaluation."""
  out = launching.required("out")
  ensemble.check_count(len(argv) - 1)

  def runs() -> Iterator[tuple[str, Any]]:
    for workdir in argv[1:]:
      print(workdir)
      yield workdir, checkpoint.restore_for_eval(workdir, _STEP.value)

  members, together = ensemble.evaluate_together(
    runs(),
    out,
    _SPLIT.value,
    data_path=_DATA_PATH.value,
    batch_size=_BATCH_SIZE.value,
    views=_VIEWS.value,
  )
  print(results.table(together.metrics))
  print(ensemble.table(members, together))
  print(f"report: {out}/report.html")


if __name__ == "__main__":
  launching.run(main)
