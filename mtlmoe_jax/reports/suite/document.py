"""A page as a list of blocks, before it is Markdown or HTML.

Texts and cells know no more than **bold**, `code` and [links](url); a line
break in a cell is a line break on the page.
"""

import dataclasses
from collections.abc import Callable

from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Heading:
  """A heading; the title of the document is level 1, so these start at 2."""

  text: str
  level: int = 2


@dataclasses.dataclass(frozen=True)
class Text:
  """A paragraph."""

  text: str


@dataclasses.dataclass(frozen=True)
class Code:
  """Lines to be copied as they are."""

  text: str


@dataclasses.dataclass(frozen=True)
class Table:
  """A table.

  Attributes:
    header: names of the columns.
    rows: of cells; a row of one cell is a heading over those that follow.
    caption: stands above; "" for none.
  """

  header: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]
  caption: str = ""


@dataclasses.dataclass(frozen=True)
class Picture:
  """A figure.

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


Block = Heading | Text | Code | Table | Picture


@dataclasses.dataclass(frozen=True)
class Document:
  """A page."""

  title: str
  blocks: tuple[Block, ...]

  @property
  def pictures(self) -> list[Picture]:
    """Those among the blocks."""
    return [block for block in self.blocks if isinstance(block, Picture)]
