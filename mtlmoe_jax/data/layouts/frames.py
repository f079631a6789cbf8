"""The frame of each scene's boxes: shares of the upright image.

Where an annotation says how large its image is, that is taken at its word here
and compared when the image is read: fifty thousand headers take longer than
fifty thousand boxes. Where it does not, or has width and height exchanged, the
headers are read now; of pictures on their side, boxes that fit one frame alone
then tell which one is meant.
"""

import concurrent.futures
from collections.abc import Sequence

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.data.layouts.scenes import Corners, Scene
from mtlmoe_jax.data.layouts.tree import Tree
from mtlmoe_jax.data.readers import upright
from mtlmoe_jax.data.readers.problems import MIN_INSIDE, Problems, inside

_READERS = 8
# Images, spread evenly, that tell whether width and height are exchanged.
_LOOKED_AT = 64
Header = tuple[tuple[int, int], int]


class Frames:
  """Turns boxes of scenes into shares.

  Attributes:
    notes: what was found of pictures on their side.
  """

  def __init__(
    self,
    tree: Tree,
    choice: str,
    scenes: Sequence[Scene],
    problems: Problems,
  ) -> None:
    """Reads the headers that are needed.

    Args:
      tree: of the images.
      choice: `config.data.box_frame`.
      scenes: whose boxes are asked for; sizes that are exchanged are taken
        out.
      problems: where images that cannot be read are reported.

    Raises:
      InputError: boxes of one data set fit different frames.
    """
    self._tree = tree
    self.notes: list[str] = []
    self._choice = choice
    self._look_at_sizes(scenes)
    self._headers = self._read([s for s in scenes if s.size is None], problems)
    self._stored = choice == "stored"
    if choice == "auto":
      self._stored = self._told_by_boxes(scenes)

  def _look_at_sizes(self, scenes: Sequence[Scene]) -> None:
    """Whether sizes are those of stored pictures, or the wrong way round.

    What a program writes the wrong way round tells nothing of a frame: of a
    picture on its side it looks like the size of the stored one.
    """
    told = [s for s in scenes if s.size and s.size[0] != s.size[1]]
    # Of pictures on their side, and of others: whether it is exchanged.
    turned: list[bool] = []
    others: list[bool] = []
    for scene in told[:: 1 + len(told) // _LOOKED_AT]:
      try:
        size, orientation = images.frame(self._tree.file(scene.path))
      except errors.InputError:
        continue  # Told when it is read.
      of_its_kind = turned if orientation in images.SIDEWAYS else others
      of_its_kind.append(scene.size == size[::-1])
    if others and all(others):
      self.notes.append(
        "width and height are exchanged in the annotations (of all "
        f"{len(others)} images looked at that EXIF does not turn): neither is "
        "used"
      )
      for scene in scenes:
        scene.size = None
    elif any(turned) and self._choice == "auto":
      self.notes.append(
        f"{sum(turned)} of {len(turned + others)} images looked at are turned "
        "by EXIF, and the size of the stored picture is written beside their "
        "boxes, which are taken to be of it (config.data.box_frame)"
      )

  def _read(
    self, scenes: Sequence[Scene], problems: Problems
  ) -> dict[str, Header | None]:
    def header(scene: Scene) -> Header | errors.InputError:
      try:
        return images.frame(self._tree.file(scene.path))
      except errors.InputError as error:
        return error

    headers: dict[str, Header | None] = {}
    failed = []
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
      for scene, found in zip(scenes, pool.map(header, scenes)):
        headers[scene.path] = None
        if isinstance(found, errors.InputError):
          failed.append(str(found))
        else:
          headers[scene.path] = found
    more = (
      f" ({len(failed)} images cannot be read: mtlmoe check lists them, and "
      "with --fix=DIR writes a list without them)"
      if failed and not problems.collects
      else ""
    )
    for message in failed:
      problems(f"{message}{more}")
    return headers

  def told(self, scene: Scene) -> upright.Told | None:
    """What is to be compared with the image once it is read."""
    if scene.size is None:
      return None
    return upright.Told(scene.size, scene.pixels, scene.where, self._choice)

  def is_readable(self, scene: Scene) -> bool:
    """False after a report that an image's header is none."""
    return scene.size is not None or self._headers[scene.path] is not None

  def shares(self, scene: Scene, box: Corners) -> Corners:
    """A box as shares of its frame: that of `told`, or the upright image.

    Args:
      scene: a readable one.
      box: one of its boxes.

    Returns:
      xyxy, not cut.
    """
    header = self._headers.get(scene.path)
    if scene.size is not None:
      return _shares(scene, box, scene.size)
    assert header is not None
    size, orientation = header
    if not self._stored:
      return _shares(scene, box, size)
    stored = size[::-1] if orientation in images.SIDEWAYS else size
    return upright.turned(_shares(scene, box, stored), orientation)

  def _told_by_boxes(self, scenes: Sequence[Scene]) -> bool:
    """Whether the boxes of pictures on their side are of the stored frame."""
    turned = only_upright = only_stored = 0
    for scene in scenes:
      header = self._headers.get(scene.path)
      found = [thing.box for thing in scene.things if thing.box is not None]
      if header is None or header[1] == 1 or not found:
        continue
      turned += 1
      size, orientation = header
      if orientation not in images.SIDEWAYS or not scene.pixels:
        continue
      fits = [_fits(_shares(scene, box, size)) for box in found]
      other = [_fits(_shares(scene, box, size[::-1])) for box in found]
      only_upright += all(fits) and not all(other)
      only_stored += all(other) and not all(fits)
    if only_upright and only_stored:
      raise errors.InputError(
        f"{self._tree.root}: of {turned} pictures that EXIF turns, the boxes "
        f"of {only_upright} fit the upright picture alone, those of "
        f"{only_stored} the stored one alone: annotate them alike, or choose "
        "config.data.box_frame='upright' or config.data.box_frame='stored'"
      )
    if turned:
      which = "stored" if only_stored else "upright"
      why = (
        f"{only_stored or only_upright} fit no other frame"
        if only_stored or only_upright
        else "nothing tells of another frame"
      )
      self.notes.append(
        f"{turned} pictures with boxes are turned by EXIF: boxes are taken to "
        f"be of the {which} picture, for {why} (config.data.box_frame)"
      )
    return bool(only_stored)


def _shares(scene: Scene, box: Corners, size: tuple[int, int]) -> Corners:
  if not scene.pixels:
    return box
  height, width = size
  x1, y1, x2, y2 = box
  return (x1 / width, y1 / height, x2 / width, y2 / height)


def _fits(box: Corners) -> bool:
  return inside(box)[1] >= MIN_INSIDE
