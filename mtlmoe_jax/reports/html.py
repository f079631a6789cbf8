"""Pages in HTML: templates in which every text is escaped.

A page is one file that needs nothing else: the style sheet and the pictures
stand in it. What a template gets are plain values; only `Markup` is not
escaped, and only pictures that this program drew are that.
"""

import base64
import io
import re
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from mtlmoe_jax.reports import names, overlay


def inline_svg(svg: bytes, name: str, title: str) -> Markup:
  """A drawn picture as a part of a page.

  Args:
    svg: a file that `plots.render` made.
    name: unique on the page; goes before the picture's own ids.
    title: what it shows, for those who do not see it.
  """
  text = svg.decode()
  text = text[text.index("<svg") :].strip()
  text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
  for start in (' id="', 'href="#', "url(#"):
    text = text.replace(start, f"{start}{name}-")
  label = Markup.escape(title)
  return Markup(
    text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
  )


_ENVIRONMENT = jinja2.Environment(
  loader=jinja2.PackageLoader("mtlmoe_jax.reports", "templates"),
  autoescape=True,
  undefined=jinja2.StrictUndefined,
  trim_blocks=True,
  lstrip_blocks=True,
)
_ENVIRONMENT.filters["class_name"] = names.display_name
_ENVIRONMENT.globals.update(
  expert_color=overlay.expert_color,
  true_color=overlay.TRUE_COLOR,
  predicted_color=overlay.PREDICTED_COLOR,
  inline_svg=inline_svg,
)


def render(template: str, **values: Any) -> str:
  """A page.

  Args:
    template: file in `templates/`.
    **values: what the template names.

  Raises:
    UndefinedError: the template names what is not there.
  """
  return _ENVIRONMENT.get_template(template).render(values)


def jpeg_uri(image: np.ndarray, side: int) -> str:
  """An image u8 [h, w, 3] as an address, at most `side` pixels long."""
  picture = Image.fromarray(image)
  picture.thumbnail((side, side), Image.Resampling.BILINEAR)
  out = io.BytesIO()
  picture.save(out, "JPEG", quality=82)
  return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
