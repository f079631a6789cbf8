"""Decoding of images, the same for training and prediction.

Letters: h w height and width of an image.
"""

import io
import os
import pathlib
import struct

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from mtlmoe_jax import errors

# File name endings that count as images.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

_BAD_FILE = (
  OSError,  # with UnidentifiedImageError and truncated files
  SyntaxError,  # what Pillow raises for broken PNG chunks
  ValueError,
  EOFError,
  struct.error,
  Image.DecompressionBombError,
)
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height


def load_image(path: str | os.PathLike) -> np.ndarray:
  """Reads an image file as RGB, upright.

  EXIF orientation is applied; greyscale, 16-bit, palette and CMYK are
  converted; transparent parts become white; of an animation the first frame
  is taken.

  Args:
    path: the file.

  Returns:
    u8 [h, w, 3].

  Raises:
    InputError: a file that is missing, no image, or truncated.
  """
  path = existing(path)
  try:
    data = path.read_bytes()
  except OSError as error:
    raise _not_an_image(path, error) from None
  return _decode(data, str(path), upright=True)


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
    InputError: a file that is missing or no image.
  """
  try:
    with Image.open(existing(path)) as image:
      width, height = image.size
      sideways = image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
  except _BAD_FILE as error:
    raise _not_an_image(path, error) from None
  return (width, height) if sideways else (height, width)


def existing(path: str | os.PathLike) -> pathlib.Path:
  """The path, if it is a file.

  Raises:
    InputError: it is not.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise errors.InputError(f"no such image file: {path}")
  return path


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
    if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
      image = ImageOps.exif_transpose(image)
    return np.asarray(_to_rgb(image))
  except _BAD_FILE as error:
    raise _not_an_image(what, error) from None


def _decode(data: bytes, what: str, upright: bool) -> np.ndarray:
  try:
    with Image.open(io.BytesIO(data)) as image:
      turned = upright and image.getexif().get(_EXIF_ORIENTATION, 1) != 1
      if image.format == "JPEG" and image.mode in ("RGB", "L") and not turned:
        pixels = _decode_jpeg(data)
        if pixels is not None:
          return pixels
      image.load()
      # `exif_transpose` copies an image that is upright already.
      if turned:
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
      return np.asarray(_to_rgb(image))
  except _BAD_FILE as error:
    raise _not_an_image(what, error) from None


def _decode_jpeg(data: bytes) -> np.ndarray | None:
  """The pixels that Pillow gives, in three quarters of the time.

  None for a file with anything odd about it: Pillow knows what can be read.
  """
  try:
    return simplejpeg.decode_jpeg(data, "RGB", strict=True)
  except ValueError:
    return None


def _to_rgb(image: Image.Image) -> Image.Image:
  if image.mode == "RGB" and "transparency" not in image.info:
    return image
  if image.mode.startswith("I;16") or image.mode == "I":
    # 16 bits a pixel: Pillow's own conversion would cut instead of scale.
    return Image.fromarray(
      (np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)
    ).convert("RGB")
  if image.has_transparency_data:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
  return image.convert("RGB")


def _not_an_image(
  what: str | os.PathLike, error: Exception
) -> errors.InputError:
  reason = (
    "not a known image format"
    if isinstance(error, Image.UnidentifiedImageError)
    else " ".join(str(error).split())
  )
  return errors.InputError(
    f"{what} cannot be read as an image ({reason}): replace or remove it"
  )
