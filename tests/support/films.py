"""Tiny videos whose frames tell their number by their colour."""

import pathlib

import numpy as np
import pytest

# Frames of a film, and how much lighter each is than the one before.
COUNT, STEP = 48, 5
RATE = 8
SIZE = (48, 32)


def frame(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
  """u8 [h, w, 3]: grey by number, its upper left quarter reddish."""
  width, height = size
  image = np.full((height, width, 3), STEP * number, np.uint8)
  image[: height // 2, : width // 2] = (200, 60, 60)
  return image


def number(image: np.ndarray) -> float:
  """Of which frame an image is, by its lower right corner."""
  return float(image[-4:, -4:].mean() / STEP)


def film(
  path: pathlib.Path,
  codec: str = "mpeg4",
  *,
  count: int = COUNT,
  size: tuple[int, int] = SIZE,
  pixels: str = "yuv420p",
  between: int = 0,
  keys: int = 12,
  times: list[int] | None = None,
  rotated: tuple[float, bool] | None = None,
  options: dict[str, str] | None = None,
) -> pathlib.Path:
  """Writes a film; skips the test where PyAV or the encoder is not there.

  Args:
    path: of the file; its ending tells the container.
    codec: FFmpeg's name of an encoder.
    count: of frames.
    size: (width, height).
    pixels: FFmpeg's name of how they are stored.
    between: B-frames between others, at most.
    keys: a key frame each so many frames.
    times: of each frame, in 1 / RATE seconds.
    rotated: (degrees anticlockwise, mirrored left to right) to be shown.
    options: of the encoder.
  """
  av = pytest.importorskip("av", reason="the extra video is not installed")
  if codec not in av.codecs_available:
    pytest.skip(f"this PyAV has no encoder {codec}")
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), "w") as container:
    stream = container.add_stream(codec, rate=RATE, options=options or {})
    stream.width, stream.height = size
    stream.pix_fmt = pixels
    if codec.startswith("mpeg"):  # As few losses as may be.
      stream.codec_context.qmin = stream.codec_context.qmax = 1
    stream.codec_context.gop_size = keys
    stream.codec_context.max_b_frames = between
    if rotated is not None:
      if not hasattr(stream, "set_display_rotation"):
        pytest.skip("this PyAV cannot say how a video is to be turned")
      stream.set_display_rotation(rotated[0], hflip=rotated[1])
    for i in range(count):
      picture = av.VideoFrame.from_ndarray(frame(i, size), format="rgb24")
      picture.pts = times[i] if times else i
      for packet in stream.encode(picture):
        container.mux(packet)
    for packet in stream.encode():
      container.mux(packet)
  return path
