# ruff: noqa: E402
"""A folder predicted by `mtlmoe predict`, and how long the network was at work.

  python folder.py RUN FOLDER OUT [NAME=VALUE of `predicting.run.Options` ...]

Prints a line of JSON: seconds of all, of the loop over batches, and of those in
which a forward pass was on its way on the device.
"""

import json
import sys
import threading
import time

BEGUN = time.perf_counter()

import jax

from mtlmoe_jax.checkpoints import restore_for_prediction
from mtlmoe_jax.predicting import predictor, run


class Watch:
  """When forward passes began and ended."""

  def __init__(self):
    self.times: list[tuple[float, float]] = []
    self._start = predictor.Predictor.start
    self._threads: list[threading.Thread] = []
    predictor.Predictor.start = lambda *given: self._watched(*given)

  def _watched(self, *given):
    begun = time.perf_counter()
    started = self._start(*given)

    def wait() -> None:
      jax.block_until_ready([outputs for _, outputs in started])
      self.times.append((begun, time.perf_counter()))

    self._threads.append(threading.Thread(target=wait))
    self._threads[-1].start()
    return started

  def seconds(self) -> tuple[float, float]:
    """(from the first to the last, of these with one on its way)."""
    for thread in self._threads:
      thread.join()
    times = sorted(self.times)
    busy, end = 0.0, times[0][0]
    for begun, ended in times:
      busy += max(0.0, ended - max(begun, end))
      end = max(end, ended)
    return end - times[0][0], busy


def main() -> None:
  """Reads the arguments, predicts."""
  folder, images, out, *pairs = sys.argv[1:]
  watch = Watch()
  options = run.Options(**dict(pair.split("=") for pair in pairs))
  found = run.predict_files(
    restore_for_prediction(folder), [images], out, options
  )
  now = time.perf_counter()
  loop, busy = watch.seconds()
  told = {"all": now - BEGUN, "loop": loop, "busy": busy}
  print(json.dumps({**told, "images": found.count}))


if __name__ == "__main__":
  main()
