"""Findings as files: a page, the same for a browser, pictures, numbers."""

import pathlib

from mtlmoe_jax.reports import plots
from mtlmoe_jax.reports.suite import page, stored, webpage
from mtlmoe_jax.reports.suite.document import Document
from mtlmoe_jax.reports.suite.findings import Findings
from mtlmoe_jax.utils import files

# Pictures of the page in Markdown; the page for a browser has all of them.
SHOWN = ("verdicts", "differences", "curves_exp1", "cost", "information")


def publish(
  findings: Findings, out: pathlib.Path, pictures: bool = True
) -> list[pathlib.Path]:
  """Writes all files, the page last.

  Args:
    findings: all that the pages show.
    out: the page in Markdown, DIR/STEM.md. Beside it come STEM.json (see
      `stored.read`) and, with pictures, STEM_<picture>.svg and STEM.html.
    pictures: whether to draw.

  Returns:
    The files.
  """
  numbers, whole = out.with_suffix(".json"), out.with_suffix(".html")
  stored.write(findings, numbers)
  # Of the stored numbers, so that `--from` makes the same page.
  document = page.document(stored.read(numbers))
  written = [numbers]
  if pictures:
    drawn = {
      f"{out.stem}_{p.name}.svg": plots.render(p.draw, *p.size)
      for p in document.pictures
    }
    for name, picture in drawn.items():
      files.write_bytes(out.with_name(name), picture)
    files.write_text(whole, webpage.page(page.text(document, out.stem), drawn))
    written = [*map(out.with_name, drawn), numbers, whole]
  files.write_text(out, markdown_page(document, out.stem, pictures))
  return [*written, out]


def markdown_page(document: Document, stem: str, pictures: bool = True) -> str:
  """The page in Markdown, and where the rest is.

  Args:
    document: of `page.document`.
    stem: name of all files.
    pictures: whether they lie beside it; else their titles stand alone.
  """
  return page.text(document, stem, SHOWN, illustrated=pictures)
