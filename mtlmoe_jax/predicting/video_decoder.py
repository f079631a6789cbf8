"""Decoding of those frames of a video that are wanted, and no others.

Letters: h w height and width of a frame.
"""

import contextlib
import enum
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mtlmoe_jax.predicting import video_stream

# Packets that wait until it is known whether a key frame makes them needless.
_MOST_HELD = 600

Time = tuple[int, float]
_Turn = tuple[bool, int, int]


class Way(enum.Enum):
  """How to come to a frame, the quickest first.

  From the key frame before it, by the index of the file; from there, but having
  read all packets before; having decoded all frames before.
  """

  INDEX, KEYS, ALL = range(3)


class MissingError(Exception):
  """A frame does not come.

  Attributes:
    is_over: whether the stream ends before it.
  """

  def __init__(self, is_over: bool) -> None:
    super().__init__()
    self.is_over = is_over


def read(path: str, wanted: Sequence[Time], way: Way) -> Iterator[np.ndarray]:
  """As `read`, in one go.

  Args:
    path: the file.
    wanted: frames.
    way: to come to them.

  Raises:
    MissingError: at a frame that does not come.
  """
  if not wanted:
    return
  with video_stream.opened(path) as (container, stream):
    clock = video_stream.Clock(container, stream)
    targets = iter(wanted)
    turns: dict[int, _Turn] = {}
    waiting = _Waiting(stream, way != Way.ALL and clock.is_stamped)
    waiting.target = clock.tick(*next(targets))
    by_index = way == Way.INDEX and clock.is_stamped
    packets: Iterator[Any] = video_stream.packets(container, stream)
    if by_index:
      packets = _from(container, stream, waiting.target)
    for packet in itertools.chain(packets, (None,)):
      for frame in waiting.decoded(packet):
        tick = clock.of(frame)
        if tick is None or tick < waiting.target:
          continue
        if tick > waiting.target or frame.is_corrupt:
          raise MissingError(is_over=False)
        yield _upright(frame, turns)
        following = next(targets, None)
        if following is None:
          return
        waiting.target = clock.tick(*following)
    is_over = waiting.latest < waiting.target and not by_index
    raise MissingError(is_over)


def _from(container: Any, stream: Any, target: int) -> Iterator[Any]:
  """The packets from the key frame before a tick on, found by the index.

  Raises:
    MissingError: the index leads elsewhere.
  """
  import av

  with contextlib.suppress(av.error.FFmpegError):
    container.seek(target, stream=stream)
    packets = video_stream.packets(container, stream)
    first = next(packets, None)
    pts = first.pts if first is not None and first.is_keyframe else None
    if pts is not None and pts <= target:
      return itertools.chain((first,), packets)
  raise MissingError(is_over=False)


class _Waiting:
  """Packets on their way to the decoder.

  Those before a frame that is wanted wait, for a key frame between may make
  them needless.

  Attributes:
    target: pts of the frame that is wanted; to be set whenever it is another.
    latest: the latest pts of the packets.
  """

  def __init__(self, stream: Any, may_skip: bool) -> None:
    """Begins at the start of a stream.

    Args:
      stream: of the container.
      may_skip: whether packets may be left out.
    """
    self.target = 0
    self.latest = -1
    self._codec = stream.codec_context
    self._may_skip = may_skip
    self._held: list[Any] = []
    self._has_fed = False

  def decoded(self, packet: Any | None) -> Iterator[Any]:
    """The frames that a further packet leads to; None: there is none."""
    if packet is None:
      yield from self._let_go()
      yield from self._decode(None)
      return
    pts = packet.pts
    if pts is not None:
      self.latest = max(self.latest, pts)
    if packet.is_keyframe and pts is not None and pts <= self.target:
      self._leave_out()
    self._held.append(packet)
    is_due = pts is not None and pts >= self.target
    if is_due or not self._may_skip or len(self._held) > _MOST_HELD:
      yield from self._let_go()

  def _leave_out(self) -> None:
    """Whatever comes before a key frame that comes before the target."""
    if not self._may_skip:
      return
    self._held.clear()
    if self._has_fed:
      self._codec.flush_buffers()
      self._has_fed = False

  def _let_go(self) -> Iterator[Any]:
    held, self._held = self._held, []
    for packet in held:
      yield from self._decode(packet)

  def _decode(self, packet: Any | None) -> Iterator[Any]:
    import av

    self._has_fed = True
    # One that is damaged: later ones may be whole.
    with contextlib.suppress(av.error.FFmpegError):
      yield from self._codec.decode(packet)


def _upright(frame: Any, turns: dict[int, _Turn]) -> np.ndarray:
  """u8 [h, w, 3] of a frame, as it is to be shown.

  Args:
    frame: as it was decoded.
    turns: what was found of earlier frames, by rotation. Looking at a frame's
      side data keeps all of the frame until Python looks for cycles, a thousand
      frames later: it is done once.
  """
  image = frame.to_ndarray(format="rgb24")
  rotation = frame.rotation
  if rotation not in turns:
    turns[rotation] = _turn(frame.side_data.get("DISPLAYMATRIX"))
  is_transposed, across, down = turns[rotation]
  if is_transposed:
    image = image.transpose(1, 0, 2)
  return np.ascontiguousarray(image[::down, ::across])


def _turn(matrix: Any | None) -> _Turn:
  """Whether x and y change places, then the steps along x and y.

  Args:
    matrix: FFmpeg's display matrix, 9 x i32; None: upright as it is.
  """
  if matrix is None:
    return False, 1, 1
  # x' = a x + c y and y' = b x + d y, in 16.16 fixed point.
  rows = np.frombuffer(bytes(matrix), np.int32)[:9].reshape(3, 3) / 65536
  a, b, c, d = (int(v) for v in np.rint(rows[:2, :2]).ravel())
  shape = (abs(a), abs(b), abs(c), abs(d))
  if shape == (1, 0, 0, 1):
    return False, a, d
  if shape == (0, 1, 1, 0):
    return True, c, b
  return False, 1, 1  # Tilted.
