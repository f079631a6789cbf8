"""A control: images with one another's boxes.

Letters: n records.
"""

import numpy as np

from mtlmoe_jax.data.source import Record, Source, Wrapped, fingerprint

# Of the seed, apart from those of the hold-out and of the order.
_STREAM = 0xB0C5


class ShuffledBoxes(Wrapped):
  """A source in which each record has the box of another one.

  Record i has the box of record p(i), or none where that has none. The numbers
  in `attributes` stay those of the image.

  Attributes:
    donors: i64 [n], p.
  """

  def __init__(self, source: Source, seed: int) -> None:
    """Wraps a source.

    Sources need not know their boxes without reading images (those of drawn
    ones come with the drawing), so boxes are read when they are asked for, and
    kept: an image is read once more at most, out of the cache if `source` has
    one.

    Args:
      source: what to read.
      seed: of the permutation.
    """
    super().__init__(source)
    self._source = source
    self._boxes: dict[int, tuple[np.ndarray, bool]] = {}
    self.donors = derangement(len(source), seed)
    self.fingerprint = fingerprint(
      source.fingerprint, "shuffled boxes", self.donors
    )

  def __getitem__(self, index: int) -> Record:
    record = self._source[index]
    self._boxes[index] = record["box"], record["has_box"]
    donor = int(self.donors[index])
    if donor not in self._boxes:
      # Two threads may both read it; they find the same.
      other = self._source[donor]
      self._boxes[donor] = other["box"], other["has_box"]
    box, has_box = self._boxes[donor]
    return {**record, "box": box.copy(), "has_box": has_box}


def derangement(count: int, seed: int) -> np.ndarray:
  """A permutation i64 [count] that leaves nothing where it was.

  A cyclic shift, by a random distance, of a random order; one thing alone has
  to stay.
  """
  random = np.random.default_rng([seed, _STREAM])
  order = random.permutation(count)
  distance = int(random.integers(1, count)) if count > 1 else 0
  out = np.empty(count, np.int64)
  out[order] = np.roll(order, distance)
  return out
