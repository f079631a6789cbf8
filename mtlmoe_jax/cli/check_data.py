"""Lists everything that is wrong with a data set, and shows ten samples.

  mtlmoe check_data --config=configs/cub.py --config.data.path=DIR
  mtlmoe check_data --data.name=folder --data.path=DIR --out=look.png
  mtlmoe check_data --data.name=folder --data.path=DIR --data.group_by=similar \
      --split_out=split.csv --leakage

Prints class counts, box statistics and near-duplicates; exits with 2 when
problems were found.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.cli import flags as cli_flags

if TYPE_CHECKING:
  from mtlmoe_jax.data import check

# Options of a config that have flags of their own.
_SHORT = (
  "data.name",
  "data.path",
  "data.tfds_name",
  "data.split_scheme",
  "data.split_file",
  "data.group_by",
  "data.classes",
  "data.extra.name",
  "data.extra.path",
)


def define() -> None:
  """Defines the flags."""
  cli_flags.define_config("Config file; --config.KEY=VALUE changes its values.")
  flags.DEFINE_string("out", "", "PNG file for ten samples with boxes.")
  flags.DEFINE_string(
    "split_out", "", "CSV file for which image is in which part and group."
  )
  flags.DEFINE_bool(
    "leakage",
    False,
    "Measures what images of one group in training and test are worth.",
  )
  for key in _SHORT:
    flags.DEFINE_string(key, None, f"config.{key}.")


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  cli_flags.no_arguments(argv)
  # Here, not above: --help should not wait for Grain.
  from mtlmoe_jax.data import check
  from mtlmoe_jax.reports import sample_sheet

  config = config_lib.default_config()
  if flags.FLAGS.config is not None:
    config = cli_flags.config()
  for key in _SHORT:
    if flags.FLAGS[key].value is not None:
      config_lib.set_path(config, key, flags.FLAGS[key].value)
  config_lib.check_config(config)
  report = check.check(config)
  print(report.text)
  out = flags.FLAGS.out
  if out and report.source is not None and report.readable:
    sample_sheet.write(out, report.source, report.readable)
    print(f"samples: {out}")
  if flags.FLAGS.split_out:
    _write_split(flags.FLAGS.split_out, report)
  if flags.FLAGS.leakage and not report.problems:
    from mtlmoe_jax.experiments import leakage

    leaks, notes = leakage.measure(config)
    print("\n".join(map(str, [*leaks, *notes])))
  for problem in report.problems:
    print(f"error: {problem}", file=sys.stderr)
  print(f"{len(report.problems)} problem(s) found")
  return 2 if report.problems else 0


def _write_split(path: str, report: "check.Report") -> None:
  from mtlmoe_jax.data import split_files

  data = report.data
  if data is None or data.files is None:
    print(f"{path} is not written: there is no split of image files")
    return
  split_files.write(path, data.ids(), data.files.ids, data.groups)
  print(f"split: {path}")
