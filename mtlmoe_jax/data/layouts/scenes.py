"""What annotations say of images, whatever wrote them.

A layout's reader makes `Scenes` of its files; `records` makes a data set of
them. Boxes are xyxy, in pixels of the frame that the annotation means, or as
shares of it.
"""

import dataclasses
from collections.abc import Sequence

from mtlmoe_jax.data.layouts.tree import Tree
from mtlmoe_jax.data.readers.problems import Corners


@dataclasses.dataclass(frozen=True, slots=True)
class Thing:
  """One object.

  Attributes:
    class_name: its class.
    box: xyxy, or None where it is only known to be there.
    confidence: of a detector, where one found it. The same object with another
      confidence is the same.
  """

  class_name: str
  box: Corners | None
  confidence: float | None = dataclasses.field(
    default=None, compare=False, repr=False
  )


@dataclasses.dataclass(slots=True)
class Scene:
  """One image with all that is said of it.

  Attributes:
    path: the image, in the tree of the images.
    things: its objects; none: it is said to show none.
    where: the place that says so, to begin a message with.
    split: "train", "validation", "test" or "".
    size: (height, width) of the frame as the annotation says; None: it does
      not.
    pixels: whether boxes are in pixels; else in shares.
    is_spoiled: whether something said of it could not be read.
  """

  path: str
  things: list[Thing]
  where: str
  split: str = ""
  size: tuple[int, int] | None = None
  pixels: bool = True
  is_spoiled: bool = False


@dataclasses.dataclass(slots=True)
class Scenes:
  """A data set as a layout's files describe it.

  Attributes:
    name: of the layout.
    tree: of the images.
    class_names: in the order of the files; further ones of things follow,
      sorted.
    scenes: of each image once.
    evidence: what was recognised, by what.
    notes: what was read in which way, and what was left out.
  """

  name: str
  tree: Tree
  class_names: Sequence[str]
  scenes: list[Scene]
  evidence: str = ""
  notes: list[str] = dataclasses.field(default_factory=list)


def number(value: object) -> float | None:
  """A finite number as annotations write it, text too; None: it is none."""
  if isinstance(value, bool) or not isinstance(value, int | float | str):
    return None
  if isinstance(value, str) and "_" in value:
    return None  # Python reads 1_000 as a number.
  try:
    result = float(value)
  except (ValueError, OverflowError):
    return None
  return result if abs(result) < float("inf") else None


def numbers(values: object, count: int) -> tuple[float, ...] | None:
  """So many finite numbers; None: it is something else."""
  if not isinstance(values, Sequence) or isinstance(values, str):
    return None
  found = [n for n in map(number, values) if n is not None]
  return tuple(found) if len(values) == len(found) == count else None


def frame(height: object, width: object) -> tuple[int, int] | None:
  """(height, width) as an annotation writes it; None: it does not say."""
  h, w = number(height), number(width)
  return (round(h), round(w)) if h and w and h >= 1 and w >= 1 else None


def from_corner(x: float, y: float, width: float, height: float) -> Corners:
  """The box of a top left corner and sides."""
  return (x, y, x + width, y + height)
