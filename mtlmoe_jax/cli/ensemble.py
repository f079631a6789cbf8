r"""Evaluates several trained models together, on a split of their data.

  mtlmoe ensemble --out=runs/all runs/best/base/seed_*

Probabilities and boxes are averaged over the runs, whatever their backbones,
experts and image sizes are. Prints each run's figures and those of all; writes
OUT/metrics.json, predictions.csv and report.html. The runs' own folders stay
as they are.
"""

from collections.abc import Iterator, Sequence

from absl import flags

from mtlmoe_jax.cli import flags as cli_flags


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_string("out", "", "Folder of what is written (required).")
  cli_flags.define_prediction()
  cli_flags.define_split()


def main(argv: Sequence[str]) -> None:
  """Flags -> one evaluation."""
  out = cli_flags.required("out")
  # Here, not above: --help should not wait for JAX.
  from mtlmoe_jax.checkpoints import Restored, restore_for_eval
  from mtlmoe_jax.evaluation import ensemble, results

  ensemble.check_count(len(argv) - 1)

  def runs() -> Iterator[Restored]:
    for workdir in argv[1:]:
      print(workdir)
      yield restore_for_eval(workdir, flags.FLAGS.step)

  members, together = ensemble.evaluate_together(
    runs(),
    out,
    **cli_flags.flag_values("split", "data.path", "batch_size", "views"),
  )
  print(results.table(together.metrics))
  print(ensemble.table(members, together))
  print(f"report: {out}/report.html")
