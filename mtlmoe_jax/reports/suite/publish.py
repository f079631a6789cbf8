"""Findings as files: a page, the same for a browser, pictures, numbers."""

import pathlib

from mtlmoe_jax.reports.suite import page, stored, webpage
from mtlmoe_jax.reports.suite.findings import Findings
from mtlmoe_jax.utils import files


def publish(
  findings: Findings,
  out: pathlib.Path,
  pictures: bool = True,
  packed: bool = False,
) -> list[pathlib.Path]:
  """Writes all files, the page last.

  Args:
    findings: all that the pages show.
    out: the page in Markdown, DIR/STEM.md. Beside it come STEM.json (see
      `stored.read`) and, with pictures, STEM_<picture>.svg and STEM.html.
    pictures: whether to draw.
    packed: whether the numbers are STEM.json.xz: for a repository.

  Returns:
    The files.
  """
  ending = f".json{stored.PACKED}" if packed else ".json"
  numbers, browser = out.with_suffix(ending), out.with_suffix(".html")
  stored.write(findings, numbers)
  # Of the stored numbers, so that `--from` makes the same page.
  findings = stored.read(numbers)
  written = [numbers]
  if pictures:
    drawn = {
      f"{out.stem}_{p.name}.svg": p.svg() for p in page.pictures(findings)
    }
    for name, picture in drawn.items():
      files.write_bytes(out.with_name(name), picture)
    whole = page.text(findings, numbers.name, whole=True)
    files.write_text(browser, webpage.page(whole, drawn))
    written = [*map(out.with_name, drawn), numbers, browser]
  text = page.text(findings, numbers.name, illustrated=pictures)
  files.write_text(out, text)
  return [*written, out]
