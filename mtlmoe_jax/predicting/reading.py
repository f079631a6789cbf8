"""Reading what is to be predicted, some batches ahead of the network.

Letters: h w size of an upright image in its file, S side of the network's
input.
"""

import collections
import concurrent.futures
import dataclasses
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data import images, windows
from mtlmoe_jax.predicting import detections, videos
from mtlmoe_jax.predicting.inputs import Item
from mtlmoe_jax.predicting.predictor import Frames, Predictor

# Of a photograph no more pixels are decoded than these need: the network's
# frame four times over (it is smoothed on the way down), and a picture of it.
_TIMES = 4
_SHORTER_SIDE = 1200
# Of what is no JPEG all pixels are decoded; no more of them wait to be drawn.
_KEPT_PIXELS = 4_000_000
# Batches that wait for the network; more would only take memory.
AHEAD = 2


@dataclasses.dataclass(slots=True)
class Seen:
  """An item that was read, or why it was not.

  Attributes:
    number: of the item.
    item: what it is.
    size: (h, w), pixels; None where it was not read.
    image: u8, perhaps with fewer pixels than were read; None once nobody needs
      it.
    image_size: (h', w'), pixels that were read, perhaps fewer than in the file.
    window: the part that the network sees, in those pixels; None: all.
    frames: what the network sees.
    error: why it was not read; "" where it was.
  """

  number: int
  item: Item
  size: tuple[int, int] | None = None
  image: np.ndarray | None = None
  image_size: tuple[int, int] | None = None
  window: windows.Window | None = None
  frames: Frames | None = None
  error: str = ""


def batches(
  items: Sequence[Item],
  wanted: Iterable[range],
  predictor: Predictor,
  pool: concurrent.futures.Executor,
  *,
  keep_images: bool,
) -> Iterator[list[Seen]]:
  """Batches of items, decoded and framed in the threads of a pool.

  Args:
    items: all of them.
    wanted: the numbers of the items of each batch.
    predictor: which frames the network sees.
    pool: whose threads read.
    keep_images: whether somebody draws on the images.
  """
  waiting: collections.deque[list[concurrent.futures.Future]] = (
    collections.deque()
  )

  def begin(numbers: range) -> None:
    groups = itertools.groupby(numbers, lambda number: items[number].path)
    waiting.append(
      [
        pool.submit(_read, items, list(group), predictor, keep_images)
        for _, group in groups
      ]
    )

  for numbers in wanted:
    begin(numbers)
    if len(waiting) > AHEAD:
      yield _gathered(waiting.popleft())
  while waiting:
    yield _gathered(waiting.popleft())


def _gathered(parts: list[concurrent.futures.Future]) -> list[Seen]:
  return [seen for part in parts for seen in part.result()]


def _read(
  items: Sequence[Item],
  numbers: Sequence[int],
  predictor: Predictor,
  keep_images: bool,
) -> list[Seen]:
  """Items of one file; what goes wrong is told of each."""
  found = [Seen(number, items[number]) for number in numbers]
  if found[0].item.is_blank:
    return [_blank(seen) for seen in found]
  pixels = _frames if items[numbers[0]].frame is not None else _images
  for seen, read in zip(found, pixels(found, predictor)):
    if isinstance(read, errors.InputError):
      seen.error = str(read)
    else:
      _show(seen, *read, predictor, keep_images)
  return found


def _blank(seen: Seen) -> Seen:
  """An image in which there is nothing to look at; its size is told."""
  try:
    seen.size = images.image_size(seen.item.path)
  except errors.InputError as error:
    seen.error = str(error)
  return seen


# An image, perhaps with fewer pixels, and (h, w) of its file.
_Pixels = tuple[np.ndarray, tuple[int, int]]
_Read = _Pixels | errors.InputError


def _images(found: Sequence[Seen], predictor: Predictor) -> Iterator[_Read]:
  """The image of an image file, for each item in it."""
  path = found[0].item.path
  last: tuple[int, _Read] | None = None
  for seen in found:
    try:
      side = _side(seen.item, predictor)
      if last is None or last[0] != side:
        last = side, images.load_image_at_least(path, side)
    except errors.InputError as error:
      last = 0, error
    except MemoryError:
      last = (
        0,
        errors.InputError(
          f"{errors.shown(path)} needs too much memory: make it smaller"
        ),
      )
    yield last[1]


def load(
  source: str | os.PathLike[str] | bytes, predictor: Predictor, what: str = ""
) -> _Pixels:
  """An image that is seen as a whole, decoded with the pixels that this needs.

  Args:
    source: a file, or what it holds.
    predictor: which frames the network sees.
    what: what to call bytes in an error message.

  Returns:
    (u8 [h', w', 3], (h, w) of the file).

  Raises:
    InputError: it is no image.
  """
  return images.load_image_at_least(source, _whole_side(predictor), what)


def _whole_side(predictor: Predictor) -> int:
  return max(predictor.config.data.image_size * _TIMES, _SHORTER_SIDE)


def _side(item: Item, predictor: Predictor) -> int:
  """How many pixels the shorter side of an image needs."""
  side = _whole_side(predictor)
  if item.detection is None:
    return side
  height, width = images.image_size(item.path)
  window = windows.around(
    np.asarray(item.detection.box, np.float32),
    (height, width),
    windows.EVALUATION,
  )
  shorter = min(height, width)
  # In eighths, as decoders shrink: objects of an image then share its pixels.
  frame = _TIMES * predictor.config.data.image_size
  eighths = min(8, math.ceil(8 * frame / (window[2] - window[0])))
  return max(side, math.ceil(shorter * eighths / 8))


def _frames(found: Sequence[Seen], predictor: Predictor) -> Iterator[_Read]:
  """Frames of a video."""
  del predictor
  wanted = [
    (seen.item.frame, seen.item.seconds)
    for seen in found
    if seen.item.frame is not None and seen.item.seconds is not None
  ]
  for image in videos.read_each(found[0].item.path, wanted):
    if isinstance(image, errors.InputError):
      yield image
    else:
      yield image, (image.shape[0], image.shape[1])


def _show(
  seen: Seen,
  image: np.ndarray,
  size: tuple[int, int],
  predictor: Predictor,
  keep_image: bool,
) -> None:
  """Frames what the network sees of an image."""
  if seen.item.detection is not None:
    seen.window = detections.window(seen.item.detection, image)
    seen.frames = predictor.frames(windows.pixels(image, seen.window))
  else:
    seen.frames = predictor.frames(image)
  seen.size, seen.image_size = size, (image.shape[0], image.shape[1])
  if keep_image:
    # A frame of a video is not read again for a crop of all its pixels.
    is_frame = seen.item.frame is not None
    seen.image = image if is_frame else _less_of(image)


def _less_of(image: np.ndarray) -> np.ndarray:
  """An image that may wait in memory with a hundred others."""
  height, width = image.shape[:2]
  scale = math.sqrt(_KEPT_PIXELS / (height * width))
  if scale >= 1:
    return image
  size = max(1, int(width * scale)), max(1, int(height * scale))
  return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
