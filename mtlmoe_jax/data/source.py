"""What a data set is to the rest of the program: a list of records.

Letters: n records, h w height and width of one image (they differ).
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, Protocol, TypedDict

import numpy as np


class Record(TypedDict):
  """One image and what is known about it.

  Attributes:
    image: u8 [h, w, 3], RGB; may be read-only: copy before writing.
    label: class, from 0; -1 where there is none.
    box: f32 [4], xyxy normalised to the whole image; zeros: none.
    has_label: whether `label` counts.
    has_box: whether `box` counts.
    id: stable name, for example a relative file path.
    attributes: what else is known, the same names in all records of a source:
      numbers (the pose of a synthetic object) or text (the camera; "": none).
  """

  image: np.ndarray
  label: np.int32
  box: np.ndarray
  has_label: bool
  has_box: bool
  id: str
  attributes: NotRequired[Mapping[str, float | str]]


class Source(Protocol):
  """Random access to records; safe to read from several threads.

  Attributes:
    name: short name, for messages and reports.
    class_names: name of each label.
    ids: `id` of each record, in order; no two are equal.
    labels: i32 [n], without decoding any image.
    fingerprint: sha256 (hex) of names, labels, boxes and order.
  """

  name: str
  class_names: tuple[str, ...]
  ids: list[str]
  labels: np.ndarray
  fingerprint: str

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Record: ...


def fingerprint(*parts: Any) -> str:
  """Sha256 (hex) of arrays, strings, numbers and lists of them, in order.

  Args:
    *parts: numpy arrays (dtype, shape and bytes count) or anything whose
      `repr` tells its value.

  Returns:
    64 hexadecimal digits; the same on every machine.
  """
  digest = hashlib.sha256()
  for part in parts:
    if isinstance(part, np.ndarray):
      little = np.ascontiguousarray(part.astype(part.dtype.newbyteorder("<")))
      digest.update(f"{little.dtype.str}{little.shape}".encode())
      digest.update(little.tobytes())
    else:
      digest.update(repr(part).encode())
    digest.update(b"\0")
  return digest.hexdigest()


class Wrapped:
  """What all have that hand on another source's records, changed in a way."""

  def __init__(self, source: Source) -> None:
    """Takes over all but the records.

    Args:
      source: that has them.
    """
    self.name = source.name
    self.class_names = source.class_names
    self.ids = source.ids
    self.labels = source.labels
    self.fingerprint = source.fingerprint

  def __len__(self) -> int:
    return len(self.ids)


class Subset:
  """Some records of a source, in a chosen order, perhaps with new labels."""

  def __init__(
    self,
    source: Source,
    indices: Sequence[int] | np.ndarray,
    class_names: Sequence[str] | None = None,
    label_map: Mapping[int, int] | None = None,
  ) -> None:
    """Chooses records.

    Args:
      source: where they come from.
      indices: positions in `source`, in the order wanted.
      class_names: names of the new labels; the source's if None.
      label_map: old label -> new label, for every label >= 0 that the chosen
        records have; None keeps the labels.
    """
    self._source = source
    self._indices = np.asarray(indices, np.int64).reshape(-1)
    self._label_map = None if label_map is None else dict(label_map)
    self.name = source.name
    self.class_names = tuple(
      source.class_names if class_names is None else class_names
    )
    self.ids = [source.ids[i] for i in self._indices]
    self.labels = np.asarray(
      [self._relabel(label) for label in source.labels[self._indices]],
      np.int32,
    )
    self.fingerprint = fingerprint(
      source.fingerprint, self._indices, self.class_names, self.labels
    )

  def _relabel(self, label: int) -> np.int32:
    label = int(label)
    if self._label_map is None or label < 0:
      return np.int32(label)
    return np.int32(self._label_map[label])

  def __len__(self) -> int:
    return len(self._indices)

  def __getitem__(self, index: int) -> Record:
    record = self._source[int(self._indices[index])]
    return {**record, "label": self.labels[index]}


class Concat:
  """Sources with the same class names, one after the other."""

  def __init__(self, sources: Sequence[Source]) -> None:
    """Joins at least one source.

    Args:
      sources: what to join; name and class names are the first one's.
    """
    self._sources = tuple(sources)
    self._ends = np.cumsum([len(s) for s in self._sources])
    self.name = self._sources[0].name
    self.class_names = self._sources[0].class_names
    self.ids = [i for s in self._sources for i in s.ids]
    self.labels = np.concatenate([s.labels for s in self._sources])
    self.fingerprint = fingerprint(*(s.fingerprint for s in self._sources))

  def __len__(self) -> int:
    return len(self.ids)

  def __getitem__(self, index: int) -> Record:
    part = int(np.searchsorted(self._ends, index, side="right"))
    start = int(self._ends[part - 1]) if part else 0
    return self._sources[part][index - start]
