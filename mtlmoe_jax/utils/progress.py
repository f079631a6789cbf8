"""A progress bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

import tqdm

LINE_EVERY_SECONDS = 10.0


class Progress:
  """Shows how far a long job is, how fast it goes and the time left.

  On a terminal it is a bar; in a log it is a plain line at most every ten
  seconds and one at the end.
  """

  def __init__(
    self,
    total: int,
    *,
    initial: int = 0,
    unit: str = "step",
    items_per_step: int = 1,
    item: str = "images",
    label: str = "",
    enabled: bool = True,
  ):
    self._total, self._done, self._label = total, initial, label
    self._unit, self._per_step, self._item = unit, items_per_step, item
    self._start, self._first = time.monotonic(), initial
    self._printed = self._start
    self._note = ""
    self._warm = False
    self._enabled = enabled
    self._bar = None
    if enabled and sys.stderr.isatty():
      self._bar = tqdm.tqdm(
        total=total,
        initial=initial,
        desc=label or None,
        unit=unit,
        dynamic_ncols=True,
        leave=False,
      )

  def update(self, steps: int = 1, **notes: Any) -> None:
    """Moves on by `steps` and shows the notes beside the bar."""
    if not self._warm:
      # The first step compiles: from here on the speed means something.
      self._warm = True
      self._start, self._first = time.monotonic(), self._done + steps
    self._done += steps
    if notes:
      self._note = " ".join(f"{k} {_short(v)}" for k, v in notes.items())
    if self._bar is not None:
      text = f"{self.rate():.1f} {self._item}/s {self._note}"
      self._bar.set_postfix_str(text, refresh=False)
      self._bar.update(steps)
    elif self._enabled:
      now = time.monotonic()
      if now - self._printed >= LINE_EVERY_SECONDS:
        self._printed = now
        self._line()

  def rate(self) -> float:
    """Items a second since the first update."""
    seconds = max(time.monotonic() - self._start, 1e-9)
    return (self._done - self._first) * self._per_step / seconds

  def close(self) -> None:
    """Ends the bar."""
    if self._bar is not None:
      self._bar.close()

  def _line(self) -> None:
    rate = self.rate()
    speed = ""
    if self._done > self._first:
      left = (self._total - self._done) * self._per_step / rate
      speed = f"  {rate:.1f} {self._item}/s  {duration(left)} left"
    print(
      f"{self._label + ' ' if self._label else ''}{self._unit} {self._done}/"
      f"{self._total}{speed}  {self._note}".rstrip(),
      file=sys.stderr,
      flush=True,
    )

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def duration(seconds: float) -> str:
  """`75` -> `1:15`; `3700` -> `1:01:40`."""
  minutes, s = divmod(round(seconds), 60)
  hours, m = divmod(minutes, 60)
  return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def _short(value: Any) -> str:
  return f"{value:.4g}" if isinstance(value, float) else str(value)
