"""What the model says of items, while threads read the next ones."""

import concurrent.futures
import os
from collections.abc import Generator, Iterable, Sequence

import jax

from mtlmoe_jax.predicting import detections, reading
from mtlmoe_jax.predicting.inputs import Item
from mtlmoe_jax.predicting.predictor import Prediction, Predictor, Started
from mtlmoe_jax.predicting.reading import Seen

# An item, and what is said of its image as a whole; None: it was not read.
Judged = tuple[Seen, Prediction | None]


def make_pool() -> concurrent.futures.ThreadPoolExecutor:
  """Threads that read and draw: one a core, the network's own beside them."""
  return concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 1))


def judge(
  predictor: Predictor,
  items: Sequence[Item],
  wanted: Iterable[range],
  size: int,
  pool: concurrent.futures.Executor,
  *,
  keep_images: bool,
) -> Generator[list[Judged], None, None]:
  """Batches of items, each with its prediction, in their order.

  Args:
    predictor: how the model is asked.
    items: all of them.
    wanted: the numbers of the items of each batch, at most `size`.
    size: images of a compiled batch.
    pool: from `make_pool`.
    keep_images: whether somebody draws on the images.
  """
  running: tuple[list[Seen], Started | None] | None = None
  started: Started | None = None
  try:
    for batch in reading.batches(
      items, wanted, predictor, pool, keep_images=keep_images
    ):
      started = _start(predictor, batch, size)
      # The device works on this batch while the one before is told of.
      if running is not None:
        yield _finished(predictor, *running)
      running = batch, started
    if running is not None:
      yield _finished(predictor, *running)
  finally:
    # A process that ends meanwhile, after Ctrl-C, would crash.
    _wait(started)


def _wait(started: Started | None) -> None:
  """Waits for the device."""
  if started is not None:
    jax.block_until_ready([outputs for _, outputs in started])


def _start(
  predictor: Predictor, batch: Sequence[Seen], size: int
) -> Started | None:
  frames = [seen.frames for seen in batch]
  for seen in batch:
    seen.frames = None
  return predictor.start(frames, size) if any(frames) else None


def _finished(
  predictor: Predictor, batch: Sequence[Seen], started: Started | None
) -> list[Judged]:
  if started is None:
    return [(seen, None) for seen in batch]
  found = predictor.finish(started, [_shown(seen) for seen in batch])
  return [(seen, _told(seen, one)) for seen, one in zip(batch, found)]


def _shown(seen: Seen) -> tuple[str, int, int] | None:
  """(id, height, width) of what the network saw; None: nothing."""
  if seen.size is None or seen.item.is_blank:
    return None
  if seen.window is None:
    return seen.item.path, *seen.size
  x1, y1, x2, y2 = seen.window
  return seen.item.path, y2 - y1, x2 - x1


def _told(seen: Seen, prediction: Prediction | None) -> Prediction | None:
  """A prediction about what was shown, told of the whole image."""
  if prediction is None or seen.window is None:
    return prediction
  assert seen.size is not None and seen.image_size is not None
  return detections.in_image(
    prediction, seen.window, seen.image_size, seen.size
  )
