"""How long a run has taken, over all the times it was started."""

import time

import jax
import numpy as np

# Of these the latest value counts, not the mean: a level and a count.
_LATEST = ("lr", "bad_steps")


class Clock:
  """Seconds of a run, beginning with those of its earlier parts."""

  def __init__(self, seconds: float = 0.0):
    self._earlier = self._read = seconds
    self._began: float | None = None

  def resume(self, seconds: float) -> None:
    """Goes on from here, where `seconds` have been taken."""
    self._earlier = self._read = seconds
    self._began = time.monotonic()

  def now(self) -> float:
    """Reads the clock; one that was never resumed stands still."""
    if self._began is not None:
      self._read = self._earlier + time.monotonic() - self._began
    return self._read

  @property
  def last(self) -> float:
    """What `now` gave last: the time of the last line or checkpoint."""
    return self._read


class Window:
  """Metrics of the steps since the last line of the log, and their speed.

  Attributes:
    seconds: in training steps alone, compilation left out.
    images: trained on in those seconds.
  """

  def __init__(self, batch_size: int):
    self.seconds, self.images = 0.0, 0
    self._batch_size = batch_size
    self._metrics: list[dict[str, jax.Array]] = []
    self._began: float | None = None

  def add(self, metrics: dict[str, jax.Array]) -> None:
    """One more step; nothing is fetched from the devices."""
    self._metrics.append(metrics)

  def mean(self) -> dict[str, float]:
    """Empties the window. Waits for the devices.

    Returns:
      The mean over the window, but the latest of what is a level or a count.
    """
    host = jax.device_get(self._metrics)
    values = {k: float(np.mean([m[k] for m in host])) for k in host[-1]}
    values |= {k: float(host[-1][k]) for k in _LATEST}
    if self._began is not None:  # the first window holds compilation
      self.seconds += time.monotonic() - self._began
      self.images += len(host) * self._batch_size
    self._metrics = []
    return values

  def restart(self) -> None:
    """An empty window begins now: logging and saving are behind it."""
    if not self._metrics:
      self._began = time.monotonic()
