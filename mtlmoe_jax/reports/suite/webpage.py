"""A document as one HTML file that needs nothing else."""

import html
import re
from collections.abc import Mapping

from mtlmoe_jax.reports import html as pages
from mtlmoe_jax.reports.suite.document import (
  Block,
  Code,
  Document,
  Heading,
  Picture,
  Table,
  Text,
)

# Wide tables and pictures scroll in their own boxes: the page itself never does
# so sideways. On a narrow screen a shrunken picture could not be read.
CSS = """
h3{font-size:15px;margin:26px 0 4px}
h1,h2,h3,p,td{overflow-wrap:break-word}
.panel{padding:12px 14px}
.panel svg{display:block;max-width:100%;height:auto;margin:0 auto}
.panel pre{margin:0;font-size:13px}
caption{text-align:left;color:var(--mute);padding:0 10px 8px;max-width:80ch}
td,th{vertical-align:top;min-width:5em}
td.long{min-width:11em}
td.num,th.num{min-width:0}
td:first-child{min-width:12em}
tr.group td{font-weight:600;background:#f5f6f8}
code{font-size:.92em;background:#eef0f3;border-radius:3px;padding:0 3px}
a{color:#2457a0}
nav ul{list-style:none;margin:0;padding:0;columns:2 260px}
nav li{break-inside:avoid;padding:1px 0}
nav li.l3{padding-left:16px}
@media(max-width:760px){main{padding:14px 10px 40px}
.panel svg{max-width:none;margin:0}}
"""
# More letters than this and a cell is prose.
_LONG = 25
_NUMERIC = re.compile(r"[-+0-9.,:;±<>/()\[\]\s]*(points|epochs)?")


def page(document: Document, pictures: Mapping[str, bytes]) -> str:
  """The page.

  Args:
    document: what it says.
    pictures: name -> SVG of every picture.
  """
  headings = [b for b in document.blocks if isinstance(b, Heading)]
  # By place, so that headings of one text differ.
  anchors = {id(b): f"s{i}" for i, b in enumerate(headings, 1)}
  links = "".join(
    f'<li class="l{b.level}"><a href="#{anchors[id(b)]}">'
    f"{_inline(b.text, links=False)}</a></li>"
    for b in headings
  )
  body = "\n".join(
    _heading(block, anchors[id(block)])
    if isinstance(block, Heading)
    else _block(block, pictures)
    for block in document.blocks
  )
  title = html.escape(re.sub(r"[*`]", "", document.title))
  contents = f'<nav class="panel"><ul>{links}</ul></nav>' if links else ""
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width,initial-scale=1">'
    f"<title>{title}</title><style>{pages.render('style.css')}{CSS}</style></head>"
    f"<body><main>\n<h1>{_inline(document.title)}</h1>\n{contents}\n"
    f"{body}\n</main></body></html>\n"
  )


def _heading(block: Heading, anchor: str) -> str:
  tag = f"h{block.level}"
  return f'<{tag} id="{anchor}">{_inline(block.text)}</{tag}>'


def _block(block: Block, pictures: Mapping[str, bytes]) -> str:
  match block:
    case Text(text):
      return f"<p>{_inline(text)}</p>"
    case Code(text):
      return f'<div class="panel"><pre>{html.escape(text)}</pre></div>'
    case Picture(name, title):
      svg = _embedded(pictures[name], name, title)
      return f'<div class="panel">{svg}</div>'
    case Table():
      return _table(block)
  raise TypeError(f"no such block: {block!r}")


def _table(table: Table) -> str:
  caption = f"<caption>{_inline(table.caption)}</caption>"
  whole = [row for row in table.rows if len(row) > 1]
  numeric = [
    any(cells) and all(map(_NUMERIC.fullmatch, cells)) for cells in zip(*whole)
  ] or [False] * len(table.header)
  head = "".join(
    f"<th{_kind(numbers)}>{_inline(name)}</th>"
    for name, numbers in zip(table.header, numeric)
  )
  lines = []
  for row in table.rows:
    if len(row) == 1:
      cell = f'<td colspan="{len(table.header)}">{_inline(row[0])}</td>'
      lines.append(f'<tr class="group">{cell}</tr>')
    else:
      cells = map(_cell, row, numeric)
      lines.append(f"<tr>{''.join(cells)}</tr>")
  return (
    f'<div class="panel"><table>{caption if table.caption else ""}'
    f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    "</div>"
  )


def _cell(text: str, numbers: bool) -> str:
  is_long = max(map(len, text.split("\n"))) >= _LONG
  return f"<td{_kind(numbers, is_long)}>{_inline(text)}</td>"


def _kind(numbers: bool, is_long: bool = False) -> str:
  """Numbers stand at the right, each on one line; prose has room."""
  if numbers:
    return ' class="num"'
  return ' class="long"' if is_long else ""


def _inline(text: str, links: bool = True) -> str:
  """Escaped; then bold, code, links and line breaks."""
  parts = re.split(r"(`[^`]*`)", text)
  for i, part in enumerate(parts):
    part = html.escape(part)
    if i % 2:
      parts[i] = f"<code>{part[1:-1]}</code>"
      continue
    part = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", part)
    # Only to files and pages: never to a script.
    part = re.sub(
      r"\[([^\]]*)\]\(((?:https?://|[\w./#-]+(?=\)))[^\s)]*)\)",
      r'<a href="\2">\1</a>' if links else r"\1",
      part,
    )
    parts[i] = part.replace("\n", "<br>")
  return "".join(parts)


def _embedded(svg: bytes, name: str, title: str) -> str:
  """The picture as a part of the page: its ids are its own."""
  text = svg.decode()
  text = text[text.index("<svg") :].strip()
  text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
  for before in (' id="', 'href="#', "url(#"):
    text = text.replace(before, f"{before}{name}-")
  label = html.escape(title)
  return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
