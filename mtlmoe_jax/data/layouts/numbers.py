"""What the four numbers of a box mean, told by all of them together."""

from collections.abc import Sequence
from typing import NamedTuple

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.data.layouts.scenes import Corners
from mtlmoe_jax.data.layouts.tree import Tree

LAYOUTS = ("xyxy", "xywh", "cxcywh")
UNITS = ("pixels", "shares", "percent")
# Rounded numbers, and boxes at an edge, may say a little more than there is.
_SLACK = 0.02
# No image that is worth learning from is smaller than that.
_PERCENT = 100.0


class Meaning(NamedTuple):
  """How numbers are meant.

  Attributes:
    layout: one of LAYOUTS, "auto", or "" where it is not told.
    unit: one of UNITS, "auto", or "".
  """

  layout: str
  unit: str

  def corners(self, values: Sequence[float]) -> Corners:
    """xyxy, in pixels or as shares."""
    a, b, c, d = values
    if self.layout == "xywh":
      c, d = a + c, b + d
    elif self.layout == "cxcywh":
      a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    scale = 0.01 if self.unit == "percent" else 1.0
    return (a * scale, b * scale, c * scale, d * scale)


class Numbers(NamedTuple):
  """The numbers of one box.

  Attributes:
    values: four of them.
    name: of the image, as it is written.
    base: folder that the name may start from.
    size: (height, width) as it is written, or None.
  """

  values: Sequence[float]
  name: str
  base: str
  size: tuple[int, int] | None


def settled(
  found: Sequence[Numbers],
  told: Meaning,
  is_forced: bool,
  what: str,
  tree: Tree,
  notes: list[str],
) -> Meaning:
  """How all the numbers of a file are meant.

  Args:
    found: the boxes of a file.
    told: by its header, or the config.
    is_forced: whether the config says the layout: then it is not doubted.
    what: the file.
    tree: of the images.
    notes: where it is told what the numbers told.

  Returns:
    A layout and a unit.

  Raises:
    InputError: two are possible: the question.
  """
  if not found:
    return Meaning(told.layout or "xyxy", told.unit or "pixels")
  size_of = _Sizes(tree)
  unit = told.unit or _unit(found, what, size_of, notes)
  wrong = {
    layout: sum(
      not _fits(entry, Meaning(layout, unit), size_of) for entry in found
    )
    for layout in LAYOUTS
    if not (is_forced and layout != told.layout)
  }
  if is_forced:
    return Meaning(told.layout, unit)
  fitting = [layout for layout in wrong if not wrong[layout]]
  if told.layout:
    others = [layout for layout in fitting if layout != told.layout]
    if wrong[told.layout] and others:
      raise errors.InputError(
        f"{what}: its header says {told.layout}, which {wrong[told.layout]} of "
        f"{len(found)} boxes are not; all are possible as "
        f"{' or '.join(others)}: correct them, or choose "
        + " or ".join(f"config.data.box_format={layout!r}" for layout in others)
      )
    return Meaning(told.layout, unit)
  # Few write centres under a name that does not say so.
  usual = [layout for layout in fitting if layout != "cxcywh"]
  if len(usual) == 1:
    notes.append(
      f"{what}: boxes are read as {usual[0]}, as which all {len(found)} fit "
      "(config.data.box_format)"
    )
    return Meaning(usual[0], unit)
  raise errors.InputError(
    f"{what}: its header does not say whether boxes are corners or corner and "
    "sides, and "
    + (
      f"all {len(found)} are possible as {' and '.join(usual)}"
      if usual
      else f"as xyxy {wrong['xyxy']} of {len(found)} do not fit their images, "
      f"as xywh {wrong['xywh']}"
    )
    + ": choose config.data.box_format='xyxy' or config.data.box_format='xywh'"
  )


def _unit(
  found: Sequence[Numbers],
  what: str,
  size_of: "_Sizes",
  notes: list[str],
) -> str:
  largest = max(max(entry.values) for entry in found)
  if largest <= 1 + _SLACK:
    notes.append(
      f"{what}: boxes are shares of the image, none above 1 "
      "(config.data.box_unit)"
    )
    return "shares"
  if largest <= _PERCENT and all(
    (size := size_of(entry)) is not None and min(size) > _PERCENT
    for entry in found
  ):
    raise errors.InputError(
      f"{what}: its header does not say in which unit boxes are, and all "
      f"numbers of {len(found)} boxes are up to {largest:g}, though every "
      "image is larger: choose config.data.box_unit='percent' or "
      "config.data.box_unit='pixels'"
    )
  return "pixels"


def _fits(entry: Numbers, meaning: Meaning, size_of: "_Sizes") -> bool:
  """Whether a box has an area, and is in its image."""
  x1, y1, x2, y2 = meaning.corners(entry.values)
  if not (x2 > x1 and y2 > y1):
    return False
  height, width = 1.0, 1.0
  if meaning.unit == "pixels":
    size = size_of(entry)
    if size is None:
      return True
    height, width = size
  return (
    min(x1 / width, y1 / height) >= -_SLACK
    and max(x2 / width, y2 / height) <= 1 + _SLACK
  )


class _Sizes:
  """Sizes of images, (height, width), each header read once."""

  def __init__(self, tree: Tree) -> None:
    self._tree = tree
    self._known: dict[str, tuple[int, int] | None] = {}

  def __call__(self, entry: Numbers) -> tuple[int, int] | None:
    """None: the image is not there, or cannot be read."""
    if entry.size is not None:
      return entry.size
    if entry.name not in self._known:
      self._known[entry.name] = self._read(entry)
    return self._known[entry.name]

  def _read(self, entry: Numbers) -> tuple[int, int] | None:
    path = self._tree.exact(entry.name, entry.base)
    found = [path] if path else self._tree.ending(entry.name)
    if len(found) != 1:
      return None
    try:
      return images.image_size(self._tree.file(found[0]))
    except errors.InputError:
      return None
