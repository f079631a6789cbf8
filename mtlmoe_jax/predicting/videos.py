"""Frames of video files, by PyAV (the extra `video`).

Which frames there are is told by the packets of a file, without decoding one.
Of those that are wanted each is decoded from the key frame before it, so that
what is not wanted costs little, and no more than one picture is kept.

Letters: h w height and width of a frame.
"""

import functools
import importlib.util
from collections.abc import Iterator, Sequence

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.predicting import video_decoder, video_stream

INSTALL = "to read videos, pip install 'mtlmoe_jax[video]'"

Time = video_decoder.Time


@functools.cache
def is_available() -> bool:
  """Whether videos can be read: the extra `video` is there."""
  return importlib.util.find_spec("av") is not None


def need(path: str) -> None:
  """Makes sure that a video can be read.

  Raises:
    InputError: the extra `video` is not installed.
  """
  if not is_available():
    raise errors.InputError(f"{errors.shown(path)} is a video: {INSTALL}")


def frames(path: str, every: int = 0) -> list[Time]:
  """Which frames of a video to look at.

  Where the file ends before its time, the last entry is the frame that should
  come next, so that reading it says so.

  Args:
    path: the file.
    every: every so many frames; 0: the first of each second.

  Returns:
    (number of the frame, from 0 in the order in which they are shown; seconds
    from the start of the video), in that order.

  Raises:
    InputError: no video, one without a picture, or no extra `video`.
  """
  need(path)
  with video_stream.opened(path) as (container, stream):
    clock = video_stream.Clock(container, stream)
    ticks, is_cut = video_stream.ticks(container, stream, clock)
    if not ticks:
      raise errors.InputError(
        f"{errors.shown(path)} has no frame that can be read"
      )
    if every:
      wanted = list(range(0, len(ticks), every))
    else:
      seconds = [clock.seconds(tick) // 1 for tick in ticks]
      wanted = [
        i for i, s in enumerate(seconds) if i == 0 or s != seconds[i - 1]
      ]
    times = [(i, float(clock.seconds(ticks[i]))) for i in wanted]
    if is_cut:
      end = clock.seconds(ticks[-1]) + 1 / clock.rate
      times.append((len(ticks), float(end)))
    return times


def read(path: str, wanted: Sequence[Time]) -> Iterator[np.ndarray]:
  """As `read_each`, up to the first frame that cannot be read.

  Raises:
    InputError: at that frame.
  """
  for found in read_each(path, wanted):
    if isinstance(found, errors.InputError):
      raise found
    yield found


def read_each(
  path: str, wanted: Sequence[Time]
) -> Iterator[np.ndarray | errors.InputError]:
  """Decodes frames of a video, one at a time.

  Frames are upright, as the camera says that they are to be shown; fields that
  were filmed one after the other stay woven into one.

  Args:
    path: the file.
    wanted: some of what `frames` has told, in its order.

  Yields:
    Of each frame u8 [h, w, 3] RGB, or why it cannot be read: the video is
    damaged there, or ends before, or is none.
  """
  done = 0
  # Some files have no true index, some streams cannot be entered at each key
  # frame: then once more, the slow way.
  ways = list(video_decoder.Way)
  left = [*ways]
  while done < len(wanted):
    if not left:
      yield _missing(path, wanted[done])
      done += 1
      # Where even the slowest has not led to one, it is not tried for others.
      ways = ways[:2]
      left = [*ways]
      continue
    try:
      need(path)
      for frame in video_decoder.read(path, wanted[done:], left.pop(0)):
        yield frame
        done += 1
    except errors.InputError as error:
      yield from [error] * (len(wanted) - done)
      return
    except video_decoder.MissingError as missing:
      if missing.is_over:
        yield from [_missing(path, time) for time in wanted[done:]]
        return


def _missing(path: str, time: Time) -> errors.InputError:
  number, seconds = time
  return errors.InputError(
    f"{errors.shown(path)}: frame {number} ({seconds:.1f} s) cannot be read: "
    "the video is damaged there, or ends before; copy it from the card again"
  )
