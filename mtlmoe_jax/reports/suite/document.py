"""What a page is made of: findings and the pictures of them."""

import dataclasses
from collections.abc import Callable

from matplotlib.figure import Figure

from mtlmoe_jax.reports.suite.findings import Findings


@dataclasses.dataclass(frozen=True)
class Picture:
  """A plot, not drawn yet.

  Attributes:
    name: part of its file's name; once a document.
    title: what it shows, for those who do not see it.
    draw: fills the figure.
    size: inches across and down.
  """

  name: str
  title: str
  draw: Callable[[Figure], None]
  size: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Document:
  """A page before it is Markdown or HTML; pictures are in its order."""

  findings: Findings
  pictures: list[Picture]
