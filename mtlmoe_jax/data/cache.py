"""Decoded images kept in memory, up to a bound.

Records are read in a new random order every epoch, each once. Throwing out
the oldest would then throw out just what comes next, so the cache keeps the
first images that fit and reads the others again: its hit rate is the share of
the data set that fits.
"""

import threading

from mtlmoe_jax.data import resampling
from mtlmoe_jax.data.source import Record, Source, Wrapped

GIB = 2**30


class Budget:
  """Bytes that several caches share; safe to use from several threads."""

  def __init__(self, gib: float) -> None:
    self._left = int(gib * GIB)
    self._lock = threading.Lock()

  def take(self, size: int) -> bool:
    """Reserves `size` bytes if they are left."""
    with self._lock:
      if size > self._left:
        return False
      self._left -= size
      return True


class CachedSource(Wrapped):
  """A source whose images are shrunk and, while they fit, kept.

  Shrinking (to a shorter side of twice the network's) happens with and
  without a free budget, so the budget never changes what comes out.
  """

  def __init__(self, source: Source, side: int, budget: Budget) -> None:
    """Wraps a source.

    Args:
      source: what to read; `uncached` from then on.
      side: longest shorter side of an image that comes out, pixels.
      budget: memory to share; records beyond it are decoded each time.
    """
    super().__init__(source)
    self._side, self._budget = side, budget
    self.uncached = source
    self._kept: dict[int, Record] = {}
    self._lock = threading.Lock()

  def __getitem__(self, index: int) -> Record:
    record = self._kept.get(index)
    if record is None:
      # Decoded outside the lock: two threads may decode one image twice, but
      # never wait for each other.
      record = self.uncached[index]
      image = resampling.shrink(record["image"], self._side)
      image.flags.writeable = False
      record = record.copy()
      record["image"] = image
      with self._lock:
        if index not in self._kept and self._budget.take(image.nbytes):
          self._kept[index] = record
    return record.copy()
