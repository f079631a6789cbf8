"""Predictions of images that a program has: paths, bytes, arrays, pictures.

Letters: h w size of an image, n images of a call.
"""

import concurrent.futures
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from mtlmoe_jax import errors
from mtlmoe_jax.data import images as images_lib
from mtlmoe_jax.predicting import judging, reading
from mtlmoe_jax.predicting.predictor import (
  Frames,
  Prediction,
  Predictor,
  Started,
)

# A path, an encoded image, pixels u8 [h, w, 3], or a picture of Pillow.
ImageLike = (
  str | os.PathLike[str] | bytes | bytearray | memoryview | np.ndarray
) | Image.Image
_BYTES = (bytes, bytearray, memoryview)


class _Framed(NamedTuple):
  """What the network sees of an image.

  Attributes:
    about: (id, height, width).
    frames: for `Predictor.start`.
  """

  about: tuple[str, int, int]
  frames: Frames


def predict(
  predictor: Predictor,
  images: ImageLike | Iterable[ImageLike],
  batch_size: int,
) -> Iterator[Prediction]:
  """Predicts images in their order; see `api.Model.predict`.

  Args:
    predictor: how it is asked.
    images: one or many.
    batch_size: at a time; 0: see `Predictor.batch_size`.

  Raises:
    InputError: no images, or the first is none; while iterating: another one.
  """
  many = _many(images)
  # What is at hand is read a batch ahead; what comes one by one, perhaps from a
  # camera, is not waited for.
  ahead = hasattr(many, "__len__")
  pending = iter(enumerate(many))
  # Here, so that a mistake in the first one is told at once.
  first = [
    _framed(predictor, number, image)
    for number, image in itertools.islice(pending, 1)
  ]
  if not first:
    raise errors.InputError("no images given: predict needs at least one")
  return _batches(predictor, first, pending, batch_size, ahead)


def _batches(
  predictor: Predictor,
  first: list[_Framed],
  pending: Iterator[tuple[int, ImageLike]],
  batch_size: int,
  ahead: bool,
) -> Iterator[Prediction]:
  most = predictor.largest_batch(batch_size)
  running: tuple[Started, list[_Framed]] | None = None
  # Not shut down: its threads end with it. A generator that nobody has used up
  # ends when the process does, and no thread can be waited for any more.
  pool = judging.make_pool()
  read, problem = _read(predictor, pending, most - 1, pool)
  batch = first + read
  size = predictor.batch_size(len(batch), batch_size)
  while batch:
    started = predictor.start([one.frames for one in batch], size)
    if running is not None:
      yield from _finished(predictor, *running)
      running = None
    if ahead:
      running = started, batch
    else:
      yield from _finished(predictor, started, batch)
    if problem is not None:
      break
    batch, problem = _read(predictor, pending, size, pool)
  if running is not None:
    yield from _finished(predictor, *running)
  if problem is not None:
    raise problem


def _read(
  predictor: Predictor,
  pending: Iterator[tuple[int, ImageLike]],
  count: int,
  pool: concurrent.futures.Executor,
) -> tuple[list[_Framed], Exception | None]:
  """The next images, and what went wrong after them.

  What is wrong with one is raised when those before it have been answered.
  """
  waiting: list[concurrent.futures.Future[_Framed]] = []
  found: list[_Framed] = []
  problem: Exception | None = None
  try:
    for number, image in itertools.islice(pending, count):
      waiting.append(pool.submit(_framed, predictor, number, image))
  except Exception as error:  # Of whoever gives the images.
    problem = error
  for future in waiting:
    try:
      found.append(future.result())
    except Exception as error:
      return found, error
  return found, problem


def _finished(
  predictor: Predictor, started: Started, batch: Sequence[_Framed]
) -> Iterator[Prediction]:
  for found in predictor.finish(started, [one.about for one in batch]):
    assert found is not None
    yield found


def _many(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
  """Images one by one, whether one or many are given."""
  if isinstance(images, (str, os.PathLike, Image.Image, *_BYTES)):
    return [images]
  if hasattr(images, "__array__"):
    array = np.asarray(images)
    return array if array.ndim > 3 else [array]
  # A file is one, too: of lines.
  if isinstance(images, Iterable) and not hasattr(images, "read"):
    return images
  raise errors.InputError(
    f"{type(images).__name__} is no image: predict takes paths, bytes (of an "
    "open file its read()), arrays u8 [h, w, 3] and pictures of Pillow, one or "
    "many"
  )


def _framed(predictor: Predictor, number: int, image: ImageLike) -> _Framed:
  """What the network sees of one image.

  Raises:
    InputError: it is none.
  """
  name = str(number)
  if isinstance(image, (str, os.PathLike)):
    name = str(image)
    if os.path.isdir(image):
      raise errors.InputError(
        f"{errors.shown(name)} is a folder: give the files in it"
      )
    pixels, size = reading.load(image, predictor)
  elif isinstance(image, _BYTES):
    pixels, size = reading.load(bytes(image), predictor, f"image {number}")
  else:
    pixels = _pixels(number, image)
    size = pixels.shape[0], pixels.shape[1]
  return _Framed((name, *size), predictor.frames(pixels))


def _pixels(number: int, image: object) -> np.ndarray:
  """u8 [h, w, 3] of a picture or an array."""
  if isinstance(image, Image.Image):
    return images_lib.from_pillow(image, f"image {number}")
  if not hasattr(image, "__array__"):
    raise errors.InputError(
      f"image {number} is of type {type(image).__name__}: predict takes paths, "
      "bytes (of an open file its read()), arrays u8 [h, w, 3] and pictures of "
      "Pillow"
    )
  array = np.asarray(image)
  if array.ndim != 3 or array.shape[-1] != 3 or not array.size:
    raise errors.InputError(
      f"image {number} has shape {array.shape}: an array must be [h, w, 3], RGB"
    )
  if array.dtype != np.uint8:
    raise errors.InputError(
      f"image {number} is of {array.dtype}: an array must be of uint8, with "
      "values from 0 to 255"
    )
  return array
