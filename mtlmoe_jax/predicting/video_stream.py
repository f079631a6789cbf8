"""What a video file says of its frames, without decoding one.

Everything of PyAV has the type Any here: its extra need not be installed.
"""

import contextlib
import os
from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import Any

from mtlmoe_jax import errors

# Kinds of files that hold what they show: others (playlists, lists to
# concatenate) open further files, and those of the network.
_FORMATS = (
  "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,h264,hevc,m4v,mjpeg"
)
# Where less than this is missing at its end, a file is whole: containers count
# sound as well.
_MISSING_SECONDS, _MISSING_SHARE = 1.5, 0.1
# A file that says that its frames are larger is no film.
_MOST_PIXELS = 2**27
# The first byte of a VP8 frame that is not shown has this bit at 0.
_VP8_SHOWN = 0x10


@contextlib.contextmanager
def opened(path: str) -> Iterator[tuple[Any, Any]]:
  """A container and its video stream.

  Raises:
    InputError: no video, or one without a picture.
  """
  import av

  if not os.path.isfile(path):
    raise errors.InputError(f"no such video file: {errors.shown(path)}")
  options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
  try:
    # A name with a colon is no protocol.
    container: Any = av.open(f"file:{path}", container_options=options)
  except (av.error.FFmpegError, UnicodeError) as error:
    reason = getattr(error, "strerror", None) or "its name is no text"
    raise errors.InputError(
      f"{errors.shown(path)} cannot be read as a video ({reason}): replace or "
      "remove it"
    ) from None
  with container:
    stream = container.streams.best("video")
    if stream is None or _is_cover(stream):
      raise errors.InputError(
        f"{errors.shown(path)} has no video in it, only sound or data: remove "
        "it"
      )
    if stream.codec_context is None:
      raise errors.InputError(
        f"{errors.shown(path)}: no decoder for its video: save it as H.264"
      )
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > _MOST_PIXELS:
      raise errors.InputError(
        f"{errors.shown(path)}: frames of {width} x {height} pixels, more than "
        f"{_MOST_PIXELS}: save it smaller"
      )
    yield container, stream


def _is_cover(stream: Any) -> bool:
  """Whether it is the picture beside a piece of music."""
  return "attached_pic" in str(stream.disposition).lower()


class Clock:
  """When the frames of a stream are shown, in whole ticks.

  Attributes:
    is_stamped: whether packets tell their time; else frames are counted.
    rate: frames a second, as the file says.
  """

  def __init__(self, container: Any, stream: Any) -> None:
    # What AVI tells of frames that are not in their order is not their time,
    # and a bare stream tells nothing.
    is_avi = container.format.name == "avi"
    self.is_stamped = stream.start_time is not None and not (
      is_avi and stream.codec_context.has_b_frames
    )
    self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
    self._unit = stream.time_base if self.is_stamped else 1 / self.rate
    self._start = stream.start_time if self.is_stamped else 0
    self._counted = 0

  def seconds(self, tick: int) -> Fraction:
    """From the start of the video to a tick."""
    return (tick - self._start) * self._unit

  def tick(self, number: int, seconds: float) -> int:
    """What a frame has that `frames` has told."""
    if not self.is_stamped:
      return number
    return self._start + round(Fraction(seconds) / self._unit)

  def of(self, frame: Any) -> int | None:
    """What a decoded frame has; None: it does not say."""
    if self.is_stamped:
      return frame.pts
    self._counted += 1
    return self._counted - 1


def ticks(container: Any, stream: Any, clock: Clock) -> tuple[list[int], bool]:
  """Ticks of all frames, in order, and whether the file ends too early."""
  is_vp8 = stream.codec_context.name == "vp8"
  found: list[int] = []
  is_broken = False
  coming = packets(container, stream)
  while True:
    try:
      packet = next(coming)
    except StopIteration as end:
      is_broken |= end.value
      break
    is_broken = packet.is_corrupt
    if is_broken or packet.is_discard:
      continue
    if is_vp8 and not memoryview(packet)[0] & _VP8_SHOWN:
      continue
    tick = packet.pts if clock.is_stamped else len(found)
    if tick is not None:
      found.append(tick)
  ticks = sorted(set(found))
  if not ticks or is_broken:
    return ticks, is_broken
  length = _length(container, stream)
  missing = length - (clock.seconds(ticks[-1]) + 1 / clock.rate)
  return ticks, missing > max(_MISSING_SECONDS, _MISSING_SHARE * length)


def _length(container: Any, stream: Any) -> float:
  """Seconds that a file says it has; 0 where it does not."""
  if stream.duration:
    return float(stream.duration * stream.time_base)
  return (container.duration or 0) / 1e6


def packets(container: Any, stream: Any) -> Generator[Any, None, bool]:
  """The packets of a stream, as far as they can be read.

  Returns:
    Whether the file broke off.
  """
  import av

  try:
    for packet in container.demux(stream):
      if packet.size:
        yield packet
  except av.error.FFmpegError:
    return True
  return False
