"""A run that is told to stop (SIGTERM) stops behind a step, with a save."""

import signal
import threading
from typing import Any

from mtlmoe_jax.devices import processes


class SigtermFlag:
  """True once SIGTERM has arrived."""

  def __init__(self) -> None:
    self._arrived = False
    self._before: Any = None

  def __bool__(self) -> bool:
    return self._arrived

  def __enter__(self) -> "SigtermFlag":
    # Several processes have JAX take the signal (`processes.should_stop`).
    alone = processes.count() == 1
    if alone and threading.current_thread() is threading.main_thread():
      self._before = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *_: object) -> None:
    if self._before is not None:
      signal.signal(signal.SIGTERM, self._before)

  def _note(self, *_: object) -> None:
    self._arrived = True
