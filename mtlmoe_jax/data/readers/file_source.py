"""A source of image files that were listed and checked when it was opened."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mtlmoe_jax.data import images
from mtlmoe_jax.data.source import Record, Source, fingerprint


@dataclasses.dataclass(frozen=True)
class Whole:
  """A data set before any scheme or subset: all records and its own splits.

  Attributes:
    source: every record, in file order.
    official: positions in `source` of "train", "test" and perhaps
      "validation".
    has_split: False where the data set has none and `official` is ours.
    notes: lines that tell what else was there, and what became of it.
  """

  source: Source
  official: dict[str, np.ndarray]
  has_split: bool = True
  notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Item:
  """One image file.

  Attributes:
    id: its name in the data set.
    path: the file.
    label: class, from 0.
    box: f32 [4] xyxy normalised, or None.
  """

  id: str
  path: pathlib.Path
  label: int
  box: np.ndarray | None


class FileSource:
  """Reads image files; one file is opened per record.

  Attributes, beyond those of a source:
    has_box: bool [n].
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
    self._attributes = attributes
    self.class_names = tuple(class_names)
    self.ids = [item.id for item in items]
    self.labels = np.asarray([item.label for item in items], np.int32)
    self._paths = [item.path for item in items]
    self.has_box = np.asarray([item.box is not None for item in items], bool)
    self._boxes = np.zeros((len(items), 4), np.float32)
    for row, item in zip(self._boxes, items):
      if item.box is not None:
        row[:] = item.box
    self.fingerprint = fingerprint(
      self.class_names, self.ids, self.labels, self._boxes, self.has_box
    )

  def __len__(self) -> int:
    return len(self.ids)

  def __getitem__(self, index: int) -> Record:
    record: Record = {
      "image": images.load_image(self._paths[index]),
      "label": self.labels[index],
      "box": self._boxes[index].copy(),
      "has_label": True,
      "has_box": bool(self.has_box[index]),
      "id": self.ids[index],
    }
    if self._attributes is not None:
      record["attributes"] = dict(self._attributes[self.ids[index]])
    return record
