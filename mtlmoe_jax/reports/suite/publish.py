"""Findings as files: a page, the same for a browser, pictures, numbers."""

import dataclasses
import pathlib

from mtlmoe_jax.reports import plots
from mtlmoe_jax.reports.suite import markdown, stored, webpage
from mtlmoe_jax.reports.suite import page as story
from mtlmoe_jax.reports.suite.document import Document, Picture, Text
from mtlmoe_jax.reports.suite.findings import Findings
from mtlmoe_jax.utils import files

# Pictures of the page in Markdown; the page for a browser has all of them.
SHOWN = ("verdicts", "differences", "curves_exp1", "cost", "information")


def publish(findings: Findings, out: pathlib.Path) -> list[pathlib.Path]:
  """Writes all files, the page last.

  Args:
    findings: what the pages tell.
    out: the page in Markdown, DIR/STEM.md. Beside it come STEM.html,
      STEM.json (see `stored.read`) and STEM_<picture>.svg.

  Returns:
    The files.
  """
  document = story.document(findings)
  drawn = {
    f"{out.stem}_{picture.name}.svg": plots.render(picture.draw, *picture.size)
    for picture in document.pictures
  }
  for name, picture in drawn.items():
    files.write_bytes(out.with_name(name), picture)
  numbers, whole = out.with_suffix(".json"), out.with_suffix(".html")
  stored.write(findings, numbers)
  files.write_text(
    whole, webpage.page(markdown.page(document, out.stem), drawn)
  )
  files.write_text(out, markdown_page(document, out.stem))
  return [*map(out.with_name, drawn), numbers, whole, out]


def markdown_page(document: Document, stem: str) -> str:
  """The page in Markdown, and where the rest is.

  Args:
    document: of `story.document`.
    stem: name of all files.
  """
  blocks = [
    block
    for block in document.blocks
    if not isinstance(block, Picture) or block.name in SHOWN
  ]
  rest = Text(
    f"All numbers: [{stem}.json]({stem}.json). The page for a browser with all "
    "pictures is made of them by `python launch/reproduce.py "
    f"--from={stem}.json --out=site/{stem}.md`."
  )
  document = dataclasses.replace(document, blocks=(*blocks, rest))
  return markdown.page(document, stem)
