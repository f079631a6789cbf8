"""What files are called in documents that others read."""

import os
import pathlib

from mtlmoe_jax.predicting.formats.about import About, Rows

# Where the type is not what the name ends in. (What Python's own table says
# depends on the machine.)
_IMAGES = {
  **dict.fromkeys(("jpg", "jpe", "jfif", "mpo"), "jpeg"),
  **dict.fromkeys(("j2k", "jpf", "jpx"), "jp2"),
  **{"tif": "tiff", "dib": "bmp", "tga": "x-tga"},
  **{"ppm": "x-portable-pixmap", "pgm": "x-portable-graymap"},
  **{"pbm": "x-portable-bitmap", "pnm": "x-portable-anymap"},
}
_VIDEOS = {
  **{"mp4": "mp4", "m4v": "mp4", "mov": "quicktime", "avi": "x-msvideo"},
  **{"mkv": "x-matroska", "webm": "webm", "mpg": "mpeg", "mpeg": "mpeg"},
  **{"wmv": "x-ms-wmv", "flv": "x-flv", "3gp": "3gpp", "ts": "mp2t"},
  **{"mts": "mp2t", "m2ts": "mp2t", "ogv": "ogg", "asf": "x-ms-asf"},
}


def root_of(rows: Rows, about: About) -> str:
  """Absolute folder that relative file names begin at.

  Args:
    rows: read once where the run names no folder.
    about: the run.
  """
  if about.root:
    return os.path.abspath(about.root)
  folder = ""
  for row in rows():
    own = _folder(row["id"])
    folder = own if not folder else _common(folder, own)
  return folder or os.getcwd()


def _folder(path: str) -> str:
  return os.path.dirname(os.path.abspath(path))


def _common(first: str, second: str) -> str:
  if first == second:
    return first
  try:
    return os.path.commonpath([first, second])
  except ValueError:  # Two drives of Windows.
    return first


def relative(path: str, root: str) -> str:
  """A file's name from `root`, with forward slashes.

  What lies elsewhere keeps its whole path.
  """
  whole = os.path.abspath(path)
  start = root.rstrip(os.sep) + os.sep
  whole = whole.removeprefix(start)
  return clean(pathlib.PurePath(whole).as_posix())


def clean(text: str) -> str:
  """Text that UTF-8 can hold: bytes of a file name that are none are told."""
  return text.encode("utf-8", "backslashreplace").decode("utf-8")


def media_type(path: str) -> str:
  """IANA media type of an image or video, by the end of its name."""
  suffix = os.path.splitext(path)[1].lower().removeprefix(".")
  if suffix in _VIDEOS:
    return f"video/{_VIDEOS[suffix]}"
  return f"image/{_IMAGES.get(suffix, suffix or 'jpeg')}"


def is_video(path: str) -> bool:
  """Whether a file's name ends as that of a video."""
  return media_type(path).startswith("video/")


class Some:
  """Counts names and keeps the first few for a message.

  Attributes:
    count: of names; the same one after itself counts once.
  """

  def __init__(self) -> None:
    self.count = 0
    self._first: list[str] = []
    self._last = ""

  def add(self, name: str) -> None:
    """One more name."""
    if self.count and name == self._last:
      return
    self.count += 1
    self._last = name
    if len(self._first) < 3:
      self._first.append(name)

  def __str__(self) -> str:
    more = f", ... ({self.count} in all)" if self.count > 3 else ""
    return ", ".join(self._first) + more
