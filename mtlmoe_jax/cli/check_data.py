"""Lists everything that is wrong with a data set, and shows ten samples.

  mtlmoe check_data PHOTOS
  mtlmoe check_data --config=configs/cub.py --config.data.path=DIR
  mtlmoe check_data --data.name=folder --data.path=DIR --out=look.png

Prints class counts and box statistics; exits with 2 when problems were found.
`mtlmoe check` is the same.
"""

import sys
from collections.abc import Sequence

from absl import flags

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.cli import flags as cli_flags

# Options of a config that have flags of their own.
_SHORT = (
  "data.name",
  "data.path",
  "data.tfds_name",
  "data.split_scheme",
  "data.classes",
  "data.extra.name",
  "data.extra.path",
)


def define() -> None:
  """Defines the flags."""
  cli_flags.define_config("Config file; --config.KEY=VALUE changes its values.")
  flags.DEFINE_string("out", "", "PNG file for ten samples with boxes.")
  for key in _SHORT:
    flags.DEFINE_string(key, None, f"config.{key}.")


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  cli_flags.no_arguments(argv[1:])
  # Here, not above: --help should not wait for Grain.
  from mtlmoe_jax.data import check
  from mtlmoe_jax.reports import sample_sheet

  config = config_lib.default_config()
  if flags.FLAGS.config is not None:
    config = cli_flags.config()
  for key in _SHORT:
    if flags.FLAGS[key].value is not None:
      config_lib.set_path(config, key, flags.FLAGS[key].value)
  for path in argv[1:]:
    config.data.path = path
    if config.data.name == "synthetic":
      config.data.name = config_lib.PATH_NAME
  config_lib.check_config(config)
  report = check.check(config)
  print(report.text)
  out = flags.FLAGS.out
  if out and report.source is not None and report.readable:
    sample_sheet.write(out, report.source, report.readable)
    print(f"samples: {out}")
  for problem in report.problems:
    print(f"error: {problem}", file=sys.stderr)
  print(f"{len(report.problems)} problem(s) found")
  return 2 if report.problems else 0
