"""A document as Markdown."""

import re

from mtlmoe_jax.reports.suite.document import (
  Block,
  Code,
  Document,
  Heading,
  Picture,
  Table,
  Text,
)


def page(document: Document, stem: str) -> str:
  """The page; its pictures are `<stem>_<name>.svg` beside it."""
  parts = [f"# {_inline(document.title)}"]
  parts += [_block(block, stem) for block in document.blocks]
  return "\n\n".join(parts) + "\n"


def _block(block: Block, stem: str) -> str:
  match block:
    case Heading(text, level):
      return f"{'#' * level} {_inline(text)}"
    case Text(text):
      return _inline(text)
    case Code(text):
      return f"```\n{text}\n```"
    case Picture(name, title):
      # A bracket would end the text for those who do not see the picture.
      title = re.sub(r"[\[\]]", "", title)
      return f"![{_inline(title)}]({stem}_{name}.svg)"
    case Table():
      return _table(block)
  raise TypeError(f"no such block: {block!r}")


def _table(table: Table) -> str:
  width = len(table.header)
  lines = [_line(table.header), f"|{'---|' * width}"]
  for row in table.rows:
    if len(row) == 1:
      row = (f"**{row[0]}**", *[""] * (width - 1))
    lines.append(_line(row))
  text = "\n".join(lines)
  return f"{_inline(table.caption)}\n\n{text}" if table.caption else text


def _line(cells: tuple[str, ...]) -> str:
  return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
  return _inline(text).replace("|", r"\|").replace("\n", "<br>")


def _inline(text: str) -> str:
  """Nothing becomes a tag or an entity; what is code stays as it is."""
  parts = re.split(r"(`[^`]*`)", text)
  for i in range(0, len(parts), 2):
    parts[i] = re.sub(r"&(?=#?\w+;)", "&amp;", parts[i]).replace("<", "&lt;")
  return "".join(parts)
