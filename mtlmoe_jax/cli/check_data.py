"""Lists everything that is wrong with a data set, and shows ten samples.

  mtlmoe check_data --config=configs/cub.py --config.data.path=DIR
  mtlmoe check_data --data.name=folder --data.path=DIR --page=look.html

Prints class counts and box statistics; exits with 2 when problems were found.
"""

import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.cli import flags as cli_flags

# Options of a config that have flags of their own: how a data set is read.
_SHORT = (
  *("data.name", "data.path", "data.images", "data.objects", "data.empty"),
  *("data.class_from", "data.box_format", "data.box_unit", "data.box_frame"),
  *("data.voc_first_pixel", "data.min_confidence", "data.tfds_name"),
  *("data.split_scheme", "data.split_file", "data.group_by", "data.classes"),
  *("data.extra.name", "data.extra.path"),
)


def define() -> None:
  """Defines the flags."""
  cli_flags.define_config("Config file; --config.KEY=VALUE changes its values.")
  flags.DEFINE_string("out", "", "PNG file for ten samples with boxes.")
  flags.DEFINE_string(
    "page", "", "HTML file that shows all of it, and what to look at."
  )
  flags.DEFINE_boolean(
    "labels",
    None,
    "Whether --page shows the labels that are most likely wrong: a backbone "
    "looks at every image. Default: of up to 3000 images, where its weights "
    "(the extra lite, or those of the config) are installed.",
  )
  flags.DEFINE_string(
    "json", "", "JSON file for every record: image, class, box, split."
  )
  flags.DEFINE_string(
    "fix", "", "Folder for images.csv, a list without what has a problem."
  )
  for key in _SHORT:
    flags.DEFINE_string(key, None, f"config.{key}.")


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  cli_flags.no_arguments(argv)
  cli_flags.writable("out", "page", "json")
  # Here, not above: --help should not wait for Grain.
  from mtlmoe_jax.data import check, cleaning, listing, looks
  from mtlmoe_jax.reports import sample_sheet

  config = config_lib.default_config()
  if flags.FLAGS.config is not None:
    config = cli_flags.config()
  for key in _SHORT:
    if flags.FLAGS[key].value is not None:
      config_lib.set_path(config, key, flags.FLAGS[key].value)
  config_lib.check_config(config)
  if flags.FLAGS.fix:
    cleaning.new_list(flags.FLAGS.fix)
  report = check.check(config, looks.look if flags.FLAGS.page else None)
  print(report.text)
  out = flags.FLAGS.out
  if out and report.source is not None and report.readable:
    sample_sheet.write(out, report.source, report.readable)
    print(f"samples: {out}")
  if flags.FLAGS.page:
    _write_page(config, report)
    print(f"page: {flags.FLAGS.page}")
  if flags.FLAGS.json and report.source is not None:
    listing.write(flags.FLAGS.json, report.source, report.data)
    print(f"records: {flags.FLAGS.json}")
  for problem in report.problems:
    print(f"error: {problem}", file=sys.stderr)
  if flags.FLAGS.fix:
    for line in cleaning.write(flags.FLAGS.fix, config.data.path, report):
      print(line)
  print(f"{len(report.problems)} problem(s) found")
  return 2 if report.problems else 0


def _write_page(config: Any, report: Any) -> None:
  # Here, not above: who wants no page need not wait for networks.
  from mtlmoe_jax.reports.dataset import page
  from mtlmoe_jax.training import doubtful_labels

  found = doubtful_labels.of_report(config, report, flags.FLAGS.labels)
  name = config.data.path or config.data.name
  page.write(flags.FLAGS.page, name, report, *found)
