"""Work that nobody waits for, but the end of the process."""

import threading
from collections.abc import Callable
from typing import Any

_threads: set[threading.Thread] = set()
_lock = threading.Lock()


def start(function: Callable[..., Any], *arguments: Any) -> None:
  """Calls a function on a thread of its own.

  The interpreter ends when the thread has, so that nothing is half-done.

  Args:
    function: what it raises is printed and lost.
    *arguments: of the function.
  """
  thread = threading.Thread(target=function, args=arguments, daemon=False)
  with _lock:
    _threads.difference_update([t for t in _threads if not t.is_alive()])
    thread.start()
    _threads.add(thread)


def finish() -> None:
  """Waits until all that was started so far, by any thread, is done."""
  with _lock:
    waiting = list(_threads)
  for thread in waiting:
    thread.join()
