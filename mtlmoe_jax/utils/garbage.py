"""Python's collection of garbage, kept away from where there is none."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def paused() -> Iterator[None]:
  """No collection inside.

  Imports and traces make objects by the hundred thousand, all of which stay:
  looking at them again and again takes a tenth of a start.
  """
  was_on = gc.isenabled()
  gc.disable()
  try:
    yield
  finally:
    if was_on:
      gc.enable()


@contextlib.contextmanager
def imports() -> Iterator[None]:
  """As `paused`, for a command: what was made inside is never looked at again.

  Not for a library: garbage of whoever calls it would stay, too.
  """
  with paused():
    yield
    gc.freeze()
