"""The files of `check_data`, but for that of --fix."""

import ml_collections
from absl import flags

from mtlmoe_jax.data import check, listing, split_files
from mtlmoe_jax.reports import sample_sheet


def write(config: ml_collections.ConfigDict, report: check.Report) -> None:
  """Writes samples, page, records and split, where flags ask for them.

  Args:
    config: the whole config.
    report: of its data.
  """
  out, page, rows, split = (
    flags.FLAGS[name].value for name in ("out", "page", "json", "split_out")
  )
  if out and report.source is not None and report.readable:
    sample_sheet.write(out, report.source, report.readable)
    print(f"samples: {out}")
  if page:
    _write_page(page, config, report)
    print(f"page: {page}")
  if rows and report.source is not None:
    listing.write(rows, report.source, report.data)
    print(f"records: {rows}")
  data = report.data
  if split and (data is None or data.files is None):
    print(f"{split} is not written: there is no split of image files")
  elif split and data is not None and data.files is not None:
    split_files.write(split, data.ids(), data.files.ids, data.groups)
    print(f"split: {split}")


def _write_page(
  path: str, config: ml_collections.ConfigDict, report: check.Report
) -> None:
  # Here, not above: who wants no page need not wait for networks.
  from mtlmoe_jax.reports.dataset import page
  from mtlmoe_jax.training import doubtful_labels

  found = doubtful_labels.of_report(config, report, flags.FLAGS.labels)
  page.write(path, config.data.path or config.data.name, report, *found)
