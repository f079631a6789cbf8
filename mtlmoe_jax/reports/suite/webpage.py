"""A page in Markdown as one HTML file that needs nothing else."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markupsafe import Markup

from mtlmoe_jax.reports import html

# Only to files and pages: never to a script.
_ADDRESS = re.compile(r"https?://|[\w./#-]+$")


class _Parser(MarkdownIt):
  def validateLink(self, url: str) -> bool:
    return bool(_ADDRESS.match(url))


class _Renderer(RendererHTML):
  """A method is the rule of the token of its name; env: address -> SVG."""

  def image(
    self, tokens: Sequence[Token], idx: int, options: Any, env: Any
  ) -> str:
    address = str(tokens[idx].attrs["src"])
    name = re.sub(r"\W", "-", address)
    return html.inline_svg(env[address], name, tokens[idx].content)

  def table_open(self, *_: object) -> str:
    return '<div class="panel"><table>\n'

  def table_close(self, *_: object) -> str:
    return "</table></div>\n"


def page(markdown: str, pictures: Mapping[str, bytes]) -> str:
  """The page.

  Args:
    markdown: begins with the title. What looks like a tag is text, but for
      `<br>`, which ends a line within a cell.
    pictures: address in `markdown` -> SVG.
  """
  parser = _Parser("commonmark", {"html": False}, renderer_cls=_Renderer)
  parser.enable("table")
  parser.inline.ruler.before("entity", "line_break", _line_break)
  tokens = parser.parse(markdown)
  title, tokens = tokens[1].content, tokens[3:]
  headings: list[dict[str, str]] = []
  for i, token in enumerate(tokens):
    match token.type:
      case "heading_open":
        anchor = f"s{len(headings) + 1}"
        token.attrSet("id", anchor)
        text = _plain(tokens[i + 1].content)
        headings.append({"level": token.tag[1], "anchor": anchor, "text": text})
      case "inline":
        if token.children and token.children[0].type == "image":
          for around in (tokens[i - 1], tokens[i + 1]):
            around.tag = "div"
          tokens[i - 1].attrSet("class", "panel")
  content = parser.renderer.render(tokens, parser.options, {**pictures})
  return html.render(
    "suite.html.j2",
    title=Markup(_plain(title)).unescape(),
    headings=headings,
    content=Markup(content),
  )


def _plain(text: str) -> str:
  return re.sub("[*`]", "", text)


def _line_break(state: StateInline, silent: bool) -> bool:
  """The one tag that Markdown's tables need."""
  if not state.src.startswith("<br>", state.pos):
    return False
  if not silent:
    state.push("hardbreak", "br", 0)
  state.pos += len("<br>")
  return True
