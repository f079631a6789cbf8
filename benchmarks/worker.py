r"""Times one contestant, in a process of its own that `harness.py` starts.

  python benchmarks/worker.py \
      '{"build": "MODULE:FUNCTION", "options": {...}, "threads": 2}'

FUNCTION(**options) returns (run, info): `run()` does the work once and comes
back when the work is done, `info` holds whatever else is to be told, as JSON.
The first line written is {"info": ...}, after the warm-up. Then each line read,
{"untimed": n, "repeats": n}, is answered by {"seconds": [one per repeat]}.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import time

# The first run compiles; the second still meets cold caches.
WARM_UP = 2
_PR_SET_PDEATHSIG = 1


def main() -> None:
  # Answers go through a copy of stdout, so that no library's print can be
  # taken for one.
  answers = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)
  contestant = json.loads(sys.argv[1])
  _settle(contestant["threads"])
  module, function = contestant["build"].split(":")
  build = getattr(importlib.import_module(module), function)
  run, info = build(**contestant["options"])
  for _ in range(WARM_UP):
    run()
  if {"jax", "torch"} <= sys.modules.keys():
    raise RuntimeError(
      f"{contestant['build']} imported both JAX and torch: they disturb each "
      "other's threads, so that no time measured here means anything"
    )
  gc.collect()
  gc.disable()
  _answer(answers, {"info": info})
  for line in sys.stdin:
    request = json.loads(line)
    gc.collect()
    for _ in range(request["untimed"]):
      run()
    _answer(
      answers, {"seconds": [_time(run) for _ in range(request["repeats"])]}
    )


def _settle(threads: int) -> None:
  """Two limits that only Linux knows; before any library starts threads."""
  if not sys.platform.startswith("linux"):
    return
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
  # Stopped between its turns, it would outlive a harness that was killed.
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _time(run) -> float:
  began = time.perf_counter()
  run()
  return time.perf_counter() - began


def _answer(file, value) -> None:
  file.write(json.dumps(value) + "\n")
  file.flush()


if __name__ == "__main__":
  main()
