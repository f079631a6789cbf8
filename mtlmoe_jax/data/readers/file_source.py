"""A source of image files that were listed and checked when it was opened."""

import concurrent.futures
import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.data.readers import problems, upright
from mtlmoe_jax.data.source import Record, Source, fingerprint

# Files up to so many bytes are read as a whole to tell them from others, of
# larger ones three blocks; and threads that read.
_WHOLE = 2**20
_BLOCK = 2**16
_READERS = 8


@dataclasses.dataclass(frozen=True)
class Whole:
  """A data set before any scheme or subset: all records and its own splits.

  Attributes:
    source: every record, in file order.
    official: positions in `source` of "train", "test" and perhaps
      "validation".
    has_split: False where the data set has none and `official` is ours.
    notes: lines that tell what else was there, and what became of it.
    recognised: lines that tell what it was read as, by what.
  """

  source: Source
  official: dict[str, np.ndarray]
  has_split: bool = True
  notes: tuple[str, ...] = ()
  recognised: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
  """One image file.

  Attributes:
    id: its name in the data set.
    path: the file.
    label: class, from 0.
    box: f32 [4] xyxy normalised, or None.
    told: the frame that the box is of, where that is to be compared with the
      image once it is read; None: it is the upright image.
    image_id: name of the image, where it has several records; "": `id`.
  """

  id: str
  path: pathlib.Path
  label: int
  box: np.ndarray | None
  told: upright.Told | None = None
  image_id: str = ""


class FileSource:
  """Reads image files; one file is opened per record.

  Attributes, beyond those of a source:
    has_box: bool [n].
    boxes: f32 [n, 4] xyxy in [0, 1], zeros where there is none; of the frame
      that the annotation tells (`upright`).
    paths: file of each record.
    image_ids: name of each record's image.
    attributes: of `__init__`.
  """

  def __init__(
    self,
    name: str,
    class_names: Sequence[str],
    items: Sequence[Item],
    attributes: Mapping[str, Mapping[str, str]] | None = None,
  ) -> None:
    """Takes what was listed.

    Args:
      name: of the kind of data set.
      class_names: name of each label.
      items: n images.
      attributes: of each image, by id; None where nothing is known. No part of
        the fingerprint: neither training nor metrics depend on them.
    """
    self.name = name
    self.attributes = attributes
    self.class_names = tuple(class_names)
    self.ids = [item.id for item in items]
    self.image_ids = [item.image_id or item.id for item in items]
    self.labels = np.asarray([item.label for item in items], np.int32)
    self.paths = [item.path for item in items]
    self._told = [item.told for item in items]
    self.has_box = np.asarray([item.box is not None for item in items], bool)
    self.boxes = np.zeros((len(items), 4), np.float32)
    for row, item in zip(self.boxes, items):
      if item.box is not None:
        row[:] = item.box
    self.fingerprint = fingerprint(
      self.class_names, self.ids, self.labels, self.boxes, self.has_box
    )

  def contents(self) -> list[str]:
    """What tells each file from others: n hexadecimal digests.

    Of a large file three parts and the size: photographs differ in all of them,
    and a disk of photographs need not be read.
    """
    paths = list(dict.fromkeys(self.paths))
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
      digests = dict(zip(paths, pool.map(_digest, paths), strict=True))
    return [digests[path] for path in self.paths]

  def upright(self, index: int) -> tuple[tuple[int, int], np.ndarray]:
    """Size and box of a record's upright image, from the file's header.

    Returns:
      ((h, w) in pixels, f32 [4] xyxy as shares; zeros where there is no box).

    Raises:
      InputError: a file that is missing or no image; an annotation that is of
        an image of another shape.
    """
    size, orientation = images.frame(self.paths[index])
    return size, self._box(index, size, orientation)

  def upright_box(self, index: int) -> np.ndarray:
    """As `upright`, the box alone: the file is read only where it must be."""
    if self._told[index] is None:
      return self.boxes[index].copy()
    return self.upright(index)[1]

  def _box(
    self, index: int, size: tuple[int, int], orientation: int | None = None
  ) -> np.ndarray:
    """The box in the frame of an image of that size."""
    box, told = self.boxes[index], self._told[index]
    if told is None or told.is_met_by(size):
      return box.copy()
    if orientation is None:
      orientation = images.frame(self.paths[index])[1]
    x1, y1, x2, y2 = box.tolist()
    moved = upright.settled((x1, y1, x2, y2), told, size, orientation)
    cut, visible = problems.inside(moved)
    if visible < problems.MIN_INSIDE:
      raise errors.InputError(
        f"{told.where}: its box is outside of {self.paths[index]}: correct or "
        "remove it"
      )
    return np.asarray(cut, np.float32)

  def __len__(self) -> int:
    return len(self.ids)

  def __getitem__(self, index: int) -> Record:
    image = images.load_image(self.paths[index])
    record: Record = {
      "image": image,
      "label": self.labels[index],
      "box": self._box(index, image.shape[:2]),
      "has_label": True,
      "has_box": bool(self.has_box[index]),
      "id": self.ids[index],
    }
    if self.attributes is not None:
      record["attributes"] = dict(self.attributes[self.ids[index]])
    return record


def _digest(path: pathlib.Path) -> str:
  size = path.stat().st_size
  digest = hashlib.blake2b(str(size).encode(), digest_size=16)
  with path.open("rb") as file:
    if size <= _WHOLE:
      digest.update(file.read())
    else:
      for start in (0, size // 2, size - _BLOCK):
        file.seek(start)
        digest.update(file.read(_BLOCK))
  return digest.hexdigest()
