"""Frames of videos: which there are, and that it is those that come."""

import pathlib

import numpy as np
import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.predicting import video_decoder, video_stream, videos
from tests.support import films

pytest.importorskip("av", reason="the extra video is not installed")

# A container, an encoder, B-frames between others.
KINDS = (
  ("a.mp4", "mpeg4", 0),
  ("a.mp4", "mpeg4", 2),
  ("a.mp4", "libx264", 2),
  ("a.avi", "mpeg4", 0),
  ("a.avi", "mpeg4", 2),
  ("a.avi", "libx264", 2),
  ("a.avi", "mjpeg", 0),
  ("a.mkv", "libx264", 2),
  ("a.mts", "libx264", 2),
  ("a.mpg", "mpeg2video", 2),
  ("a.webm", "libvpx", 0),
)


def made(folder, kind, **options):
  name, codec, between = kind
  if codec == "mjpeg":
    options["pixels"] = "yuvj420p"
  if codec == "libx264":
    options["options"] = {"qp": "1"}
  if codec == "libvpx":
    options["options"] = {
      "auto-alt-ref": "1",
      "lag-in-frames": "16",
      "crf": "4",
      "b": "4M",
    }
  return str(films.film(folder / name, codec, between=between, **options))


def numbers(path, wanted):
  return [films.number(image) for image in videos.read(path, wanted)]


@pytest.mark.parametrize(
  "kind", KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}-{kind[2]}"
)
def test_frames_are_those_that_were_asked_for(tmp_path, kind):
  path = made(tmp_path, kind)
  every = videos.frames(path, 1)
  if kind[0].endswith("mpg"):  # Its rates are those of television.
    every = every[: films.COUNT]
  assert [n for n, _ in every] == list(range(films.COUNT))
  rate = every[1][1]
  assert [s for _, s in every] == pytest.approx(
    [rate * n for n in range(films.COUNT)], abs=2e-3
  )
  whole = list(videos.read(path, every))
  assert whole[0].shape == (32, 48, 3) and whole[0].dtype == np.uint8
  found = [films.number(image) for image in whole]
  assert found == pytest.approx(range(films.COUNT), abs=0.5)
  for wanted in (every[::7], every[13:15], every[-1:], every[11:13], every[5:]):
    images = list(videos.read(path, wanted))
    assert len(images) == len(wanted)
    for (number, _), image in zip(wanted, images):
      np.testing.assert_array_equal(image, whole[number])


def test_one_frame_a_second_unless_told(tmp_path):
  path = made(tmp_path, KINDS[0])
  second = films.RATE
  assert videos.frames(path) == [
    (second * n, float(n)) for n in range(films.COUNT // second)
  ]
  assert videos.frames(path, 20) == [(0, 0.0), (20, 2.5), (40, 5.0)]
  assert videos.frames(path, 10**6) == [(0, 0.0)]


def test_seconds_are_those_of_the_frames(tmp_path):
  """A camera that slows down at night."""
  times = [n if n < 20 else 20 + 16 * (n - 20) for n in range(30)]
  path = str(films.film(tmp_path / "a.mkv", count=30, times=times))
  found = videos.frames(path)
  assert [n for n, _ in found] == [0, 8, 16, *range(21, 30)]
  assert [s for _, s in found] == [times[n] / films.RATE for n, _ in found]
  assert numbers(path, found) == pytest.approx([n for n, _ in found], abs=0.5)


def test_key_frames_that_need_what_was_before(tmp_path):
  """B-frames that follow the key frame that they are shown before."""
  path = str(
    films.film(
      tmp_path / "a.mp4",
      "libx264",
      between=3,
      keys=10,
      options={"x264-params": "open-gop=1:scenecut=0:qp=1"},
    )
  )
  every = videos.frames(path, 1)
  whole = list(videos.read(path, every))
  for number in range(films.COUNT):
    (image,) = videos.read(path, every[number : number + 1])
    np.testing.assert_array_equal(image, whole[number])


def test_what_is_not_wanted_is_not_decoded(tmp_path, monkeypatch):
  path = made(tmp_path, KINDS[0])
  fed = []
  decode = video_decoder._Waiting._decode

  def counted(self, packet):
    fed.append(packet)
    return decode(self, packet)

  monkeypatch.setattr(video_decoder._Waiting, "_decode", counted)
  assert numbers(path, [(36, 4.5)]) == pytest.approx([36], abs=0.5)
  assert len(fed) <= 3  # Of 48, and a key frame each 12.


def test_few_packets_wait(tmp_path, monkeypatch):
  """One key frame in all of a long video: no more of it is kept."""
  monkeypatch.setattr(video_decoder, "_MOST_HELD", 5)
  path = made(tmp_path, KINDS[2], keys=1000)
  most = []
  let_go = video_decoder._Waiting._let_go

  def counted(self):
    most.append(len(self._held))
    return let_go(self)

  monkeypatch.setattr(video_decoder._Waiting, "_let_go", counted)
  wanted = [videos.frames(path, 1)[n] for n in (3, 40)]
  assert numbers(path, wanted) == pytest.approx([3, 40], abs=0.5)
  assert max(most) <= 6


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_frames_are_upright(tmp_path, degrees, is_mirrored):
  path = str(
    films.film(tmp_path / "a.mp4", count=2, rotated=(degrees, is_mirrored))
  )
  ((image),) = videos.read(path, [(0, 0.0)])
  want = np.rot90(films.frame(0), degrees // 90)
  if is_mirrored:
    want = want[:, ::-1]
  assert image.shape == want.shape and image.flags.c_contiguous
  assert np.abs(image.astype(int) - want)[::5, ::5].mean() < 20


@pytest.mark.parametrize(
  ("codec", "pixels", "size"),
  [
    ("mpeg4", "yuv420p", (47, 31)),
    ("ffv1", "gray", (48, 32)),
    ("ffv1", "yuv444p10le", (48, 32)),
    ("ffv1", "bgra", (48, 32)),
    ("mpeg2video", "yuv422p", (48, 32)),
  ],
)
def test_pixels_of_any_kind(tmp_path, codec, pixels, size):
  film = films.film(
    tmp_path / "a.mkv", codec, count=10, pixels=pixels, size=size
  )
  path = str(film)
  (image,) = videos.read(path, [(9, videos.frames(path, 1)[9][1])])
  assert image.shape == (size[1], size[0], 3) and image.dtype == np.uint8
  assert films.number(image) == pytest.approx(9, abs=1)


def cut(path, share, out):
  data = pathlib.Path(path).read_bytes()
  out.write_bytes(data[: int(share * len(data))])
  return str(out)


@pytest.mark.parametrize("ending", ["mp4", "avi", "mkv"])
def test_a_video_that_was_cut_gives_what_is_left(tmp_path, ending):
  path = str(films.film(tmp_path / f"a.{ending}", size=(128, 96)))
  if ending == "mp4":  # Its index at the front, so that it is found.
    path = indexed_first(path, tmp_path / "front.mp4")
  short = cut(path, 0.6, tmp_path / f"cut.{ending}")
  wanted = videos.frames(short, 1)
  assert 10 < len(wanted) < films.COUNT
  images = videos.read(short, wanted)
  found = []
  with pytest.raises(errors.InputError, match="cannot be read") as caught:
    for image in images:
      found.append(films.number(image))
  assert len(found) == len(wanted) - 1
  later = [(n, n / films.RATE) for n in range(len(found), films.COUNT)]
  each = list(videos.read_each(short, [*wanted[:-1], *later]))
  assert [isinstance(f, errors.InputError) for f in each] == [
    n >= len(found) for n in range(films.COUNT)
  ]
  assert found == pytest.approx(range(len(found)), abs=0.5)
  assert f"frame {len(found)} " in str(caught.value)
  assert short in str(caught.value) and "\n" not in str(caught.value)


def indexed_first(path, out):
  import av

  with (
    av.open(path) as old,
    av.open(str(out), "w", options={"movflags": "faststart"}) as new,
  ):
    stream = new.add_stream_from_template(old.streams.video[0])
    for packet in old.demux(video=0):
      if packet.dts is not None:
        packet.stream = stream
        new.mux(packet)
  return str(out)


def test_one_damaged_frame_does_not_hide_the_rest(tmp_path):
  """What comes later may be asked for."""
  path = made(tmp_path, ("a.avi", "mjpeg", 0))
  every = videos.frames(path, 1)
  import av

  with av.open(path) as container:
    packets = [p for p in container.demux(video=0) if p.size]
    start, size = packets[20].pos, packets[20].size
  data = bytearray(pathlib.Path(path).read_bytes())
  data[start : start + size] = bytes(size)
  broken = tmp_path / "broken.avi"
  broken.write_bytes(data)
  images = videos.read(str(broken), every)
  assert len([next(images) for _ in range(20)]) == 20
  with pytest.raises(errors.InputError, match="frame 20 "):
    next(images)
  each = list(videos.read_each(str(broken), every))
  assert [n for n, f in enumerate(each) if not isinstance(f, np.ndarray)] == [
    20
  ]
  assert "frame 20 " in str(each.pop(20))
  assert [films.number(image) for image in each] == pytest.approx(
    [n for n in range(films.COUNT) if n != 20], abs=0.5
  )


def test_what_is_no_video(tmp_path):
  import av

  (tmp_path / "text.mp4").write_text("hello")
  (tmp_path / "empty.avi").write_bytes(b"")
  film = films.film(tmp_path / "a.avi", count=2)
  # Files that name others are not followed.
  (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {film}\n")
  (tmp_path / "list.mkv").write_text(f"#EXTM3U\n#EXTINF:1,\n{film}\n")
  with av.open(str(tmp_path / "sound.mp4"), "w") as container:
    stream = container.add_stream("aac", rate=8000)
    sound = av.AudioFrame.from_ndarray(
      np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
    )
    sound.sample_rate = 8000
    for packet in [*stream.encode(sound), *stream.encode()]:
      container.mux(packet)
  for name, match in (
    ("text.mp4", "cannot be read as a video"),
    ("empty.avi", "cannot be read as a video"),
    ("list.mp4", "cannot be read as a video"),
    ("list.mkv", "cannot be read as a video"),
    ("sound.mp4", "no video in it, only sound"),
    ("none.mp4", "no such video file"),
  ):
    path = str(tmp_path / name)
    for act in (
      lambda path=path: videos.frames(path),
      lambda path=path: list(videos.read(path, [(0, 0.0)])),
    ):
      with pytest.raises(errors.InputError, match=match) as caught:
        act()
      (found,) = videos.read_each(path, [(0, 0.0)])
      assert str(found) == str(caught.value)
      assert path in str(caught.value) and "\n" not in str(caught.value)


def test_frames_that_are_too_large(tmp_path, monkeypatch):
  path = str(films.film(tmp_path / "a.avi", count=1))
  monkeypatch.setattr(video_stream, "_MOST_PIXELS", 48 * 32 - 1)
  with pytest.raises(errors.InputError, match="frames of 48 x 32 pixels"):
    videos.frames(path)


def test_names_are_no_addresses(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ("10:30:00.avi", "concat:a|b.avi", "käfer \N{SNAIL}.avi"):
    films.film(tmp_path / "a.avi", count=1).rename(tmp_path / name)
    assert videos.frames(name, 1) == [(0, 0.0)]


def test_without_the_extra(tmp_path, monkeypatch):
  film = str(films.film(tmp_path / "a.avi", count=1))
  monkeypatch.setattr(videos, "is_available", lambda: False)
  for act in (videos.frames, lambda path: list(videos.read(path, [(0, 0.0)]))):
    with pytest.raises(errors.InputError, match=r"pip install .*\[video\]"):
      act(film)
