"""Lists everything that is wrong with a data set, and shows ten samples.

  python launch/check_data.py --config=configs/cub.py --config.data.path=DIR
  python launch/check_data.py --data.name=folder --data.path=DIR --out=look.png

Prints class counts and box statistics; exits with 2 when problems were found.
"""

import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.cli import flags as launching

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file; --config.KEY=VALUE changes its values."
)
_OUT = flags.DEFINE_string("out", "", "PNG file for ten samples with boxes.")
_SHORT = {
  key: flags.DEFINE_string(f"data.{key}", None, f"config.data.{key}.")
  for key in (
    "name",
    "path",
    "tfds_name",
    "split_scheme",
    "classes",
    "extra.name",
    "extra.path",
  )
}


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  launching.no_arguments(argv)
  # Here, not above: --help should not wait for Grain.
  from mtlmoe_jax.data import check

  config = config_lib.default_config()
  if _CONFIG.value is not None:
    config = launching.config(_CONFIG)
  for key, flag in _SHORT.items():
    if flag.value is not None:
      config_lib.set_path(config, f"data.{key}", flag.value)
  config_lib.check_config(config)
  report = check.check(config, _OUT.value)
  print(report.text)
  for problem in report.problems:
    print(f"error: {problem}", file=sys.stderr)
  print(f"{len(report.problems)} problem(s) found")
  return 2 if report.problems else 0


if __name__ == "__main__":
  launching.run(main)
