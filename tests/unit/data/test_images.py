import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from tests.support import layouts, tiny

# Four flat quarters: red, green / blue, white.
QUARTERS = np.zeros((16, 24, 3), np.uint8)
QUARTERS[:8, :12] = (255, 0, 0)
QUARTERS[:8, 12:] = (0, 255, 0)
QUARTERS[8:, :12] = (0, 0, 255)
QUARTERS[8:, 12:] = 255


def save(path, image, **options):
  image.save(path, **options)
  return path


def test_lossless_rgb_is_exact(tmp_path):
  path = save(tmp_path / "a.png", Image.fromarray(QUARTERS))
  out = images.load_image(path)
  assert out.dtype == np.uint8
  np.testing.assert_array_equal(out, QUARTERS)
  assert images.image_size(path) == (16, 24)


@pytest.mark.parametrize("mode", ["L", "1", "I;16", "LA"])
def test_greyscale_becomes_three_equal_channels(tmp_path, mode):
  grey = np.zeros((6, 4), np.uint8)
  grey[:3] = 255
  if mode == "I;16":
    image = Image.fromarray(grey.astype(np.uint16) * 257)
  else:
    image = Image.fromarray(grey).convert(mode)
  out = images.load_image(save(tmp_path / "a.png", image))
  np.testing.assert_array_equal(out, np.repeat(grey[..., None], 3, -1))


def test_palette_and_cmyk(tmp_path):
  rgb = Image.fromarray(QUARTERS)
  palette = rgb.convert("P", palette=Image.Palette.ADAPTIVE)
  out = images.load_image(save(tmp_path / "a.png", palette))
  np.testing.assert_array_equal(out, QUARTERS)
  out = images.load_image(
    save(tmp_path / "b.jpg", rgb.convert("CMYK"), quality=98, subsampling=0)
  )
  assert np.abs(out.astype(int) - QUARTERS).mean() < 12


def test_transparent_parts_become_white(tmp_path):
  rgba = np.dstack([QUARTERS, np.full((16, 24), 255, np.uint8)])
  rgba[:8, :12] = (255, 0, 0, 0)
  out = images.load_image(save(tmp_path / "a.png", Image.fromarray(rgba)))
  assert (out[:8, :12] == 255).all()
  np.testing.assert_array_equal(out[8:], QUARTERS[8:])
  flat = Image.fromarray(QUARTERS).convert("P")
  key = flat.getpixel((0, 0))
  out = images.load_image(save(tmp_path / "b.png", flat, transparency=key))
  assert (out[:8, :12] == 255).all()
  assert (out[:8, 12:] == (0, 255, 0)).all()


UPRIGHT = {
  1: QUARTERS,
  2: QUARTERS[:, ::-1],
  3: QUARTERS[::-1, ::-1],
  4: QUARTERS[::-1],
  5: QUARTERS.transpose(1, 0, 2),
  6: np.rot90(QUARTERS, -1),
  7: QUARTERS[::-1, ::-1].transpose(1, 0, 2),
  8: np.rot90(QUARTERS, 1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_exif_orientation(tmp_path, orientation, ending):
  exif = Image.Exif()
  exif[0x0112] = orientation
  path = save(tmp_path / f"a.{ending}", Image.fromarray(QUARTERS), exif=exif)
  out = images.load_image(path)
  np.testing.assert_array_equal(out, UPRIGHT[orientation])
  with Image.open(path) as picture:
    again = images.from_pillow(picture, "a picture")
  np.testing.assert_array_equal(again, out)
  assert images.image_size(path) == out.shape[:2]
  if ending == "tif":  # Pillow turns it itself.
    return
  # TFDS boxes refer to the stored pixels.
  np.testing.assert_array_equal(
    images.decode_bytes(path.read_bytes(), "a"), QUARTERS
  )


def exif_of(*tags: tuple[int, int, int, bytes]) -> bytes:
  """As it stands in a file; of each tag: number, type, count, 4 bytes."""
  rows = [
    struct.pack("<HHI", *tag[:3]) + tag[3].ljust(4, b"\0") for tag in tags
  ]
  head = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(rows))
  return head + b"".join(rows) + struct.pack("<I", 0)


_ORIENTATION, _RESOLUTION = 0x0112, 0x011A
_TEXT, _SHORT = 2, 3


@pytest.mark.parametrize(
  "tag",
  [
    *((_ORIENTATION, _SHORT, 1, struct.pack("<H", n)) for n in (0, 9, 65535)),
    (_ORIENTATION, _TEXT, 2, b"6"),
  ],
)
def test_an_orientation_that_means_nothing_costs_nothing(
  tmp_path, tag, monkeypatch
):
  """It is as 1: the quick decoder reads it, as 80 of 543 photographs of CUB."""
  path = tmp_path / "a.jpg"
  Image.fromarray(QUARTERS).save(path, exif=exif_of(tag))
  quick = []
  decode = images._decode_jpeg
  monkeypatch.setattr(
    images, "_decode_jpeg", lambda data: quick.append(1) or decode(data)
  )
  out = images.load_image(path)
  assert out.shape == QUARTERS.shape and quick
  assert images.image_size(path) == QUARTERS.shape[:2]


def test_other_tags_need_not_make_sense(tmp_path):
  """Pillow cannot write them again, and need not: one tag turns a picture."""
  path = tmp_path / "a.jpg"
  turned = (_ORIENTATION, _SHORT, 1, struct.pack("<H", 6))
  exif = exif_of(turned, (_RESOLUTION, _TEXT, 4, b"low"))
  Image.fromarray(QUARTERS).save(path, exif=exif)
  with Image.open(path) as picture, pytest.raises(TypeError):
    ImageOps.exif_transpose(picture)
  out = images.load_image(path)
  assert images.image_size(path) == out.shape[:2] == (24, 16)
  with Image.open(path) as picture:
    np.testing.assert_array_equal(images.from_pillow(picture, "it"), out)


def test_exif_that_is_rubbish_is_none(tmp_path):
  path = tmp_path / "a.jpg"
  Image.fromarray(QUARTERS).save(path, exif=b"Exif\0\0rubbish!")
  assert images.load_image(path).shape == QUARTERS.shape
  assert images.image_size(path) == QUARTERS.shape[:2]


def test_sixteen_bits_are_rounded(tmp_path):
  values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
  want = np.rint(values / 257).astype(np.uint8)
  for name in ("a.png", "a.tif", "a.pgm"):
    out = images.load_image(save(tmp_path / name, Image.fromarray(values)))
    np.testing.assert_array_equal(out, np.repeat(want[..., None], 3, -1))


def test_floating_point_pixels_are_refused(tmp_path):
  path = save(tmp_path / "a.tif", Image.fromarray(np.zeros((4, 4), np.float32)))
  with pytest.raises(errors.InputError, match=r"^\S+a\.tif has floating-point"):
    images.load_image(path)


LOSSLESS = {"jp2", "j2k", "jpx", "jpf", "ppm", "pnm", "tga", "bmp", "dib"}


@pytest.mark.parametrize(
  "ending",
  [s[1:] for s in images.SUFFIXES if s not in (".heic", ".heif", ".pbm")],
)
def test_every_ending_is_read(tmp_path, ending):
  path = tmp_path / f"a.{ending.upper()}"
  picture = Image.fromarray(QUARTERS)
  picture.convert("L" if ending == "pgm" else "RGB").save(path)
  out = images.load_image(path)
  assert images.image_size(path) == out.shape[:2] == QUARTERS.shape[:2]
  if ending in LOSSLESS:
    np.testing.assert_array_equal(out, QUARTERS)
  assert out[2, 20].argmax() == 1 or ending == "pgm"


def test_heic(tmp_path, monkeypatch):
  pytest.importorskip("pi_heif", reason="the extra heic is not installed")
  golden = tiny.ROOT / "tests/support/golden/quarters.heic"
  out = images.load_image(golden)
  assert images.image_size(golden) == out.shape[:2] == (32, 48)
  want = np.repeat(np.repeat(QUARTERS, 2, 0), 2, 1)
  assert np.abs(out.astype(int) - want).max() <= 8
  monkeypatch.setattr(images, "_decodes_heic", lambda: False)
  for read in (images.load_image, images.image_size):
    with pytest.raises(errors.InputError, match=r"pip install .*\[heic\]"):
      read(golden)


def test_bad_files_are_named(tmp_path):
  with pytest.raises(errors.InputError, match=r"no such image file: .*no\.jpg"):
    images.load_image(tmp_path / "no.jpg")
  (tmp_path / "text.jpg").write_text("hello")
  for read in (images.load_image, images.image_size):
    with pytest.raises(errors.InputError, match=r"text\.jpg .*format") as info:
      read(tmp_path / "text.jpg")
    assert "\n" not in str(info.value)
  whole = layouts.encode(layouts.picture(0, 200, 150))
  (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
  assert images.image_size(tmp_path / "cut.jpg") == (150, 200)
  with pytest.raises(errors.InputError, match=r"cut\.jpg .*truncated"):
    images.load_image(tmp_path / "cut.jpg")
  png = layouts.encode(layouts.picture(0, 200, 150), "PNG")
  (tmp_path / "cut.png").write_bytes(png[: len(png) // 2])
  with pytest.raises(errors.InputError, match=r"cut\.png"):
    images.load_image(tmp_path / "cut.png")
  with pytest.raises(errors.InputError, match="record 7"):
    images.decode_bytes(whole[:100], "record 7")


def test_first_frame_of_an_animation(tmp_path):
  frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
  buffer = io.BytesIO()
  frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
  (tmp_path / "a.gif").write_bytes(buffer.getvalue())
  assert (images.load_image(tmp_path / "a.gif") == (255, 0, 0)).all()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_pixels_are_pillows(tmp_path, mode, subsampling):
  picture = Image.fromarray(layouts.picture(4, 61, 47)).convert(mode)
  path = tmp_path / "a.jpg"
  picture.save(path, quality=90, subsampling=subsampling, progressive=True)
  with Image.open(path) as image:
    want = np.asarray(image.convert("RGB"))
  np.testing.assert_array_equal(images.load_image(path), want)


def test_jpeg_with_bytes_after_its_end_is_read(tmp_path):
  path = tmp_path / "a.jpg"
  Image.fromarray(layouts.picture(4, 20, 20)).save(path)
  want = images.load_image(path)
  path.write_bytes(path.read_bytes() + b"appended by some camera")
  np.testing.assert_array_equal(images.load_image(path), want)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "1"])
def test_pictures_of_pillow_are_as_their_files(tmp_path, mode):
  picture = Image.fromarray(QUARTERS).convert("L" if mode == "I;16" else mode)
  if mode == "I;16":
    picture = Image.fromarray(257 * np.asarray(picture, np.uint16))
  path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
  picture.save(path)
  np.testing.assert_array_equal(
    images.from_pillow(picture, "a picture"), images.load_image(path)
  )


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
  path = tmp_path / "a.png"
  Image.effect_noise((300, 300), 50).save(path)
  path.write_bytes(path.read_bytes()[:500])
  with (
    Image.open(path) as picture,
    pytest.raises(errors.InputError, match="image 3 cannot be read"),
  ):
    images.from_pillow(picture, "image 3")


def jpeg(size=(320, 240), mode="RGB", exif=b"", **options):
  """A picture with a bright corner at the top left, as it is stored."""
  pixels = np.asarray(Image.fromarray(layouts.picture(1, *size)).convert("L"))
  pixels = np.repeat(pixels[..., None] // 3, 3, -1)
  pixels[: size[1] // 4, : size[0] // 4] = 255
  buffer = io.BytesIO()
  picture = Image.fromarray(pixels).convert(mode)
  picture.save(buffer, "JPEG", quality=95, exif=exif, **options)
  return buffer.getvalue()


def turned_by(orientation):
  return exif_of((_ORIENTATION, _SHORT, 1, struct.pack("<H", orientation)))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_is_shrunk_while_it_is_decoded(mode, progressive):
  data = jpeg(mode=mode, progressive=progressive)
  image, size = images.load_image_at_least(data, 60)
  assert size == (240, 320) and image.shape == (60, 80, 3)
  whole = images.load_image_at_least(data, 0, "a")[0]
  want = np.asarray(
    Image.fromarray(whole).resize((80, 60), Image.Resampling.BOX)
  )
  assert np.abs(image.astype(int) - want).mean() < 3


@pytest.mark.parametrize(
  ("side", "height"), [(1, 30), (31, 60), (61, 90), (120, 120), (180, 180)]
)
def test_it_is_as_small_as_may_be(side, height):
  image, size = images.load_image_at_least(jpeg(), side)
  assert image.shape == (height, height * 4 // 3, 3) and size == (240, 320)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_is_shrunk_is_upright(orientation):
  data = jpeg(exif=turned_by(orientation))
  whole = images.load_image_at_least(data, 0, "a")[0]
  image, size = images.load_image_at_least(data, 60)
  assert size == whole.shape[:2]
  assert image.shape == (size[0] // 4, size[1] // 4, 3)
  want = Image.fromarray(whole).resize(image.shape[1::-1], Image.Resampling.BOX)
  assert np.abs(image.astype(int) - np.asarray(want)).mean() < 3


@pytest.mark.parametrize("side", [0, 211, 240, 5000])
@pytest.mark.parametrize("orientation", [1, 6])
def test_nothing_to_shrink_is_the_image_itself(tmp_path, side, orientation):
  path = tmp_path / "a.jpg"
  path.write_bytes(jpeg(exif=turned_by(orientation)))
  want = images.load_image(path)
  for source in (path, str(path), path.read_bytes()):
    image, size = images.load_image_at_least(source, side)
    np.testing.assert_array_equal(image, want)
    assert size == want.shape[:2]


def test_other_formats_are_decoded_in_full(tmp_path):
  path = save(tmp_path / "a.png", Image.fromarray(QUARTERS))
  image, size = images.load_image_at_least(path, 4)
  np.testing.assert_array_equal(image, QUARTERS)
  assert size == QUARTERS.shape[:2]


def test_odd_files_are_shrunk_by_pillow(tmp_path):
  """What a strict decoder refuses and Pillow reads, is still shrunk."""
  data = jpeg(exif=turned_by(6))
  start = data.index(b"\xff\xdb")
  odd = data[:start] + b"some camera's" + data[start:]
  assert images._decode_jpeg(odd) is None
  image, size = images.load_image_at_least(odd, 60)
  assert image.shape == (80, 60, 3) and size == (320, 240)
  np.testing.assert_array_equal(image, images.load_image_at_least(data, 60)[0])


def test_what_cannot_be_read_is_named_when_shrunk(tmp_path, monkeypatch):
  data = jpeg()
  for bad in (data[: len(data) // 2], b"", b"rubbish", data[:30]):
    with pytest.raises(errors.InputError, match="card 1/a") as caught:
      images.load_image_at_least(bad, 60, "card 1/a")
    assert "\n" not in str(caught.value)
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
  with pytest.raises(errors.InputError, match="decompression bomb"):
    images.load_image_at_least(data, 60)


def test_a_decoder_that_fails_in_its_own_way_is_a_bad_file(monkeypatch):
  def fail(*_):
    raise RuntimeError("Failed to decode\nframe 0")

  monkeypatch.setattr(Image, "open", fail)
  for side in (0, 60):
    with pytest.raises(errors.InputError, match="decode frame 0"):
      images.load_image_at_least(b"x", side)


@pytest.mark.parametrize("side", [0, 8])
def test_heic_by_another_name(tmp_path, monkeypatch, side):
  """A phone's picture that was renamed is still one."""
  golden = tiny.ROOT / "tests/support/golden/quarters.heic"
  path = tmp_path / "a.jpg"
  path.write_bytes(golden.read_bytes())
  monkeypatch.setattr(images, "_decodes_heic", lambda: False)
  with pytest.raises(errors.InputError, match=r"a\.jpg .*\[heic\]"):
    images.load_image_at_least(path, side)
