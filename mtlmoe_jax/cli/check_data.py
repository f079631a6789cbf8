"""Lists everything that is wrong with a data set, and shows ten samples.

  mtlmoe check_data PHOTOS --page=look.html
  mtlmoe check_data --config=configs/cub.py --config.data.path=DIR
  mtlmoe check_data PHOTOS --data.group_by=similar --leakage

Prints what was recognised, class counts, box statistics and near-duplicates;
exits with 2 when problems were found. `mtlmoe check` is the
same.
"""

import sys
from collections.abc import Sequence

from absl import flags

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
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
  for name, text in (
    ("out", "PNG file for ten samples with boxes."),
    ("page", "HTML file that shows all of it, and what to look at."),
    ("json", "JSON file for every record: image, class, box, split."),
    ("fix", "Folder for images.csv, a list without what has a problem."),
    ("split_out", "CSV file for which image is in which part and group."),
  ):
    flags.DEFINE_string(name, "", text)
  flags.DEFINE_boolean(
    "labels",
    None,
    "Whether --page shows the labels that are most likely wrong: a backbone "
    "looks at every image. Default: of up to 3000 images, where its weights "
    "(the extra lite, or those of the config) are installed.",
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
  cli_flags.no_arguments(argv[1:])
  cli_flags.writable("out", "page", "json", "split_out")
  config = config_lib.default_config()
  # As `train PHOTOS` has it where images are few: all that are not tested.
  config.data.validation_fraction = 0.0
  if flags.FLAGS.config is not None:
    config = cli_flags.config()
  for key in _SHORT:
    if flags.FLAGS[key].value is not None:
      config_lib.set_path(config, key, flags.FLAGS[key].value)
  for path in argv[1:]:
    config.data.path = path
    if config.data.name == "synthetic":
      config.data.name = "auto"
  if (
    flags.FLAGS.config is None
    and not config.data.path
    and (flags.FLAGS["data.name"].value is None)
  ):
    raise errors.InputError("no data set: name its folder, as in check PHOTOS")
  config_lib.check_config(config)
  # Here, not above: --help should not wait for Grain.
  from mtlmoe_jax.cli import check_files
  from mtlmoe_jax.data import check, cleaning, looks

  if flags.FLAGS.fix:
    cleaning.new_list(flags.FLAGS.fix)
  report = check.check(config, looks.look if flags.FLAGS.page else None)
  print(report.text)
  check_files.write(config, report)
  if flags.FLAGS.leakage and not report.problems:
    from mtlmoe_jax.experiments import leakage

    leaks, notes = leakage.measure(config)
    print("\n".join(map(str, [*leaks, *notes])))
  for problem in report.problems:
    print(f"error: {problem}", file=sys.stderr)
  if report.problems and report.data is not None and not flags.FLAGS.fix:
    print("--fix=DIR writes a list without what has a problem")
  if flags.FLAGS.fix:
    for line in cleaning.write(flags.FLAGS.fix, config.data.path, report):
      print(line)
  print(f"{len(report.problems)} problem(s) found")
  return 2 if report.problems else 0
