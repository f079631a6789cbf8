"""Decoding of images, the same for training and prediction.

Letters: h w height and width of an image.
"""

import functools
import io
import os
import pathlib
import struct
import zlib

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, JpegImagePlugin

from mtlmoe_jax import errors

# File name endings that count as images: photographs that Pillow reads.
SUFFIXES = (
  *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".avif"),
  *(".jp2", ".j2k", ".jpx", ".jpf", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
  *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".heic", ".heif"),
)
# Those that count as videos: of camera traps, phones, cameras.
VIDEO_SUFFIXES = (
  *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mts", ".m2ts", ".mpg"),
  *(".mpeg", ".wmv", ".asf", ".3gp", ".3g2", ".flv", ".ogv"),
)
# Images that Pillow reads with the extra `heic` alone, and how they begin.
_HEIC = (".heic", ".heif")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc")

# What Pillow raises for files that are broken. Its readers of single formats
# are not of one mind: a folder of thousands must not end at one of them.
BAD_FILE = (
  OSError,  # with UnidentifiedImageError and truncated files
  SyntaxError,  # what Pillow raises for broken PNG chunks
  ValueError,
  EOFError,
  struct.error,
  zlib.error,
  ArithmeticError,
  AttributeError,
  LookupError,
  MemoryError,
  RuntimeError,  # AVIF
  TypeError,
  Image.DecompressionBombError,
)
# What makes a picture upright; whatever else cameras write (0, text) says no
# more than 1 does.
_UPRIGHT = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height


def is_named_image(path: str | os.PathLike) -> bool:
  """Whether a file's name ends as that of an image."""
  return os.path.splitext(path)[1].lower() in SUFFIXES


def is_named_video(path: str | os.PathLike) -> bool:
  """Whether a file's name ends as that of a video."""
  return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


def load_image(path: str | os.PathLike) -> np.ndarray:
  """Reads an image file as RGB, upright.

  EXIF orientation is applied; greyscale, palette and CMYK are converted, 16-bit
  grey is rounded to 8; transparent parts become white; of an animation the
  first frame is taken.

  Args:
    path: the file.

  Returns:
    u8 [h, w, 3].

  Raises:
    InputError: a file that is missing, no image, or truncated; HEIC without the
      extra `heic`; pixels that are floating-point numbers.
  """
  return _decode(_read(path), str(path), upright=True)


def load_image_at_least(
  source: str | os.PathLike | bytes, side: int, what: str = "the image"
) -> tuple[np.ndarray, tuple[int, int]]:
  """As `load_image`, but a large JPEG is shrunk while it is decoded.

  Of a JPEG only as many frequencies are computed as the size asked for has: a
  share n / 8 of its sides, the smallest that is large enough. Where that is
  all of it, and of every other format, the pixels are those of `load_image`.

  Args:
    source: the file, or what is in one.
    side: what the shorter side must have, in pixels; 0 for all of the image.
    what: what to call bytes in an error message.

  Returns:
    (u8 [h', w', 3], upright, whose shorter side is `side` or more unless that
    of the image is less; (h, w) of the upright image in full).

  Raises:
    InputError: as `load_image`.
  """
  if isinstance(source, bytes):
    data = source
  else:
    data, what = _read(source), str(source)
  _can_decode(data, what)
  if side > 0:
    try:
      found = _shrunk(data, side)
    except BAD_FILE as error:
      raise _not_an_image(what, error) from None
    if found is not None:
      return found
  image = _decode(data, what, upright=True)
  return image, (image.shape[0], image.shape[1])


def decode_bytes(data: bytes, what: str) -> np.ndarray:
  """As `load_image` for bytes, but EXIF orientation is left alone.

  TFDS boxes refer to the pixels as they are stored, because TFDS itself
  ignores the orientation.

  Args:
    data: an encoded image.
    what: what to call it in an error message.

  Returns:
    u8 [h, w, 3].

  Raises:
    InputError: not an image, or truncated.
  """
  return _decode(data, what, upright=False)


def image_size(path: str | os.PathLike) -> tuple[int, int]:
  """Height and width of an upright image, from its header alone.

  Args:
    path: the file.

  Returns:
    (h, w) in pixels.

  Raises:
    InputError: a file that is missing or no image; HEIC without the extra
      `heic`.
  """
  return frame(path)[0]


def frame(path: str | os.PathLike) -> tuple[tuple[int, int], int]:
  """Size of an upright image and how it is stored, from its header alone.

  Args:
    path: the file.

  Returns:
    ((h, w) in pixels, EXIF orientation, 1 to 8).

  Raises:
    InputError: as `image_size`.
  """
  try:
    with Image.open(_readable(path)) as image:
      width, height = image.size
      orientation = _orientation(image)
      # Pillow tells a TIFF's size upright, though its tag is still there.
      sideways = image.format != "TIFF" and orientation in SIDEWAYS
  except BAD_FILE as error:
    raise _not_an_image(path, error) from None
  return (width, height) if sideways else (height, width), orientation


def existing(path: str | os.PathLike) -> pathlib.Path:
  """The path, if it is a file.

  Raises:
    InputError: it is not.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise errors.InputError(f"no such image file: {errors.shown(path)}")
  return path


def _readable(path: str | os.PathLike) -> pathlib.Path:
  """As `existing`, with a decoder for it."""
  path = existing(path)
  if path.suffix.lower() in _HEIC:
    _need_heic(str(path))
  return path


def _can_decode(data: bytes, what: str) -> None:
  """As `_readable`, by content: phones' files get other names on their way."""
  if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
    _need_heic(what)


def _need_heic(what: str) -> None:
  if not _decodes_heic():
    raise errors.InputError(
      f"{errors.shown(what)} is a HEIC picture: pip install "
      "'mtlmoe_jax[heic]', or save it as JPEG"
    )


def _read(path: str | os.PathLike) -> bytes:
  """What is in an image file."""
  path = _readable(path)
  try:
    return path.read_bytes()
  except OSError as error:
    raise _not_an_image(path, error) from None


@functools.cache
def _decodes_heic() -> bool:
  """Has Pillow read HEIC; False without the extra."""
  try:
    import pi_heif
  except ImportError:
    return False
  pi_heif.register_heif_opener()
  return True


def from_pillow(image: Image.Image, what: str) -> np.ndarray:
  """A picture of Pillow as `load_image` would read it from its file.

  Args:
    image: in any mode.
    what: what to call it in an error message.

  Returns:
    u8 [h, w, 3].

  Raises:
    InputError: it is empty, or its file is truncated.
  """
  if not all(image.size):
    raise errors.InputError(f"{what} has no pixels: its size is {image.size}")
  try:
    image.load()
    return np.asarray(_to_rgb(_turned(image), what))
  except BAD_FILE as error:
    raise _not_an_image(what, error) from None


def _decode(data: bytes, what: str, upright: bool) -> np.ndarray:
  _can_decode(data, what)
  try:
    with Image.open(io.BytesIO(data)) as image:
      turned = upright and _orientation(image) != 1
      if image.format == "JPEG" and image.mode in ("RGB", "L") and not turned:
        pixels = _decode_jpeg(data)
        if pixels is not None:
          return pixels
      # Pillow turns a TIFF while it loads it, and takes its tag away.
      image.load()
      return np.asarray(_to_rgb(_turned(image) if upright else image, what))
  except BAD_FILE as error:
    raise _not_an_image(what, error) from None


def _shrunk(
  data: bytes, side: int
) -> tuple[np.ndarray, tuple[int, int]] | None:
  """A JPEG on a smaller scale and its full size; None: it has no use of one."""
  with Image.open(io.BytesIO(data)) as image:
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
      return None
    width, height = image.size
    # The largest of the scales, 7/8, must be enough.
    if -(-7 * min(width, height) // 8) < side:
      return None
    orientation = _orientation(image)
    pixels = None
    if image.mode in ("RGB", "L"):
      pixels = _decode_jpeg(data, side)
    if pixels is None:
      # Half, a quarter or an eighth.
      image.draft(image.mode, _at_least(image.size, side))
      image.load()
      pixels = np.asarray(_to_rgb(image, ""))
  if orientation != 1:
    turned = Image.fromarray(pixels).transpose(_UPRIGHT[orientation])
    pixels = np.asarray(turned)
  sideways = orientation in SIDEWAYS
  return pixels, (width, height) if sideways else (height, width)


def _at_least(size: tuple[int, int], side: int) -> tuple[int, int]:
  """Of the shape of `size`, with the shorter side as asked for."""
  shorter = min(size)
  return -(-size[0] * side // shorter), -(-size[1] * side // shorter)


def _orientation(image: Image.Image) -> int:
  """EXIF orientation, 1 to 8; 1 where there is none that can be understood.

  Nothing else of the metadata is looked at: what is broken there is no fault of
  the pixels.
  """
  try:
    found = image.getexif().get(ExifTags.Base.Orientation, 1)
  except (*BAD_FILE, AttributeError, KeyError, TypeError):
    return 1
  return found if found in _UPRIGHT else 1


def _turned(image: Image.Image) -> Image.Image:
  """A loaded picture as its EXIF orientation wants it seen."""
  orientation = _orientation(image)
  return image if orientation == 1 else image.transpose(_UPRIGHT[orientation])


def _decode_jpeg(data: bytes, side: int = 0) -> np.ndarray | None:
  """The pixels that Pillow gives, in half of the time.

  None for a file with anything odd about it: Pillow knows what can be read.

  Args:
    data: the file.
    side: shortest that either side may become; 0: the whole image.
  """
  try:
    return simplejpeg.decode_jpeg(
      data, "RGB", min_height=side, min_width=side, strict=True
    )
  except ValueError:
    return None


def _to_rgb(image: Image.Image, what: str) -> Image.Image:
  if image.mode == "RGB" and "transparency" not in image.info:
    return image
  if image.mode.startswith("I;16") or image.mode == "I":
    # 16 bits a pixel: Pillow's own conversion would cut instead of scale.
    grey = np.asarray(image).clip(0, 65535).astype(np.uint32)
    return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert(
      "RGB"
    )
  if image.mode == "F":
    raise errors.InputError(
      f"{errors.shown(what)} has floating-point pixels, whose black and white "
      "nothing tells: save it with 8 or 16 bits"
    )
  if image.has_transparency_data:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
  return image.convert("RGB")


def _not_an_image(
  what: str | os.PathLike, error: Exception
) -> errors.InputError:
  if isinstance(error, errors.InputError):
    return error
  reason = (
    "not a known image format"
    if isinstance(error, Image.UnidentifiedImageError)
    else " ".join(str(error).split()) or type(error).__name__
  )
  return errors.InputError(
    f"{errors.shown(what)} cannot be read as an image ({reason}): replace or "
    "remove it"
  )
