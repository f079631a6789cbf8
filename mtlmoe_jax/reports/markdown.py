"""Markdown from templates in which every text is escaped.

A template is Markdown whose paragraphs may go over several lines. What it
writes between braces may have **bold**, `code` and [links](url), but no tag,
no entity and no end of a table's cell; a line break is `<br>`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from markupsafe import Markup


def escape(value: object) -> Markup:
  """A text or number in Markdown; `Markup` is Markdown already."""
  if isinstance(value, Markup):
    return value
  parts = re.split(r"(`[^`]*`)", str(value))
  for i in range(0, len(parts), 2):  # every other part is code
    text = re.sub(r"&(?=#?\w+;)", "&amp;", parts[i])
    parts[i] = text.replace("<", "&lt;").replace("`", r"\`")
  return Markup("".join(parts).replace("|", r"\|").replace("\n", "<br>"))


def _code(text: str) -> str:
  return f"`{text}`"


def _fence(text: str) -> Markup:
  """Lines to be copied as they are."""
  return Markup(f"```\n{text}\n```")


def render(
  template: str,
  filters: Mapping[str, Callable[..., object]] | None = None,
  **values: Any,
) -> str:
  """A page, a paragraph a line.

  Args:
    template: file in `templates/`.
    filters: the template's own, beside `code` and `fence`.
    **values: what the template names.

  Raises:
    UndefinedError: the template names what is not there.
  """
  # `finalize` sees all that a template writes, and `autoescape` makes `Markup`
  # of what macros return, so that it is escaped once.
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("mtlmoe_jax.reports", "templates"),
    finalize=escape,
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters.update(filters or {}, code=_code, fence=_fence)
  text = environment.get_template(template).render(values)
  blocks = [
    block if block.startswith(("|", "```")) else " ".join(block.split())
    for block in re.split(r"\n\s*\n", text.strip())
  ]
  return "\n\n".join(blocks) + "\n"
