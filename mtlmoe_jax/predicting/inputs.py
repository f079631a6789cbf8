"""What to predict: the images, frames and objects that a user's words mean."""

import dataclasses
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import BinaryIO

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.data.readers.problems import some
from mtlmoe_jax.devices import processes
from mtlmoe_jax.predicting import lists, videos, walking

STDIN = "-"
# A file that is a list of paths when it is named.
_LIST = ".txt"
# Shells give those of a folder, too, for a pattern.
_A_LIST = "; a .txt file that is named is read as a list of paths"
_URL = re.compile("[A-Za-z][A-Za-z0-9+.-]+://")


@dataclasses.dataclass(frozen=True, slots=True)
class Detection:
  """An object that a detector, or a person, has found in an image.

  Attributes:
    box: xyxy, shares of the upright image.
    confidence: of the detector, from 0 to 1; None: it does not say.
    category: what it says that this is; None: it does not.
  """

  box: tuple[float, float, float, float]
  confidence: float | None = None
  category: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
  """One thing to predict: an image, an object of one, or a frame of a video.

  Attributes:
    path: the file, as the user would write it.
    detection: the object; None: all of the image.
    frame: number of the frame, from 0; None: an image.
    seconds: from the start of the video to that frame; None: an image.
    is_blank: a detector has found nothing in it: that is told, and the network
      does not see it.
  """

  path: str
  detection: Detection | None = None
  frame: int | None = None
  seconds: float | None = None
  is_blank: bool = False


def find(
  paths: Sequence[str | os.PathLike],
  out: str | os.PathLike,
  *,
  every: int = 0,
  stdin: BinaryIO | None = None,
) -> list[Item]:
  """The images and frames that a list of words means.

  A word is a file; a folder, which is searched to any depth; a pattern with *,
  ?, [ or ** that nothing is called like; a .txt file with a path on each line;
  or "-": such a list comes from stdin. Whether a file can be read is not looked
  at: it was named, or its name ends as that of an image.

  Args:
    paths: the words.
    out: the output folder; neither it nor what an earlier prediction has left
      is searched.
    every: of a video, every so many frames; 0: one a second.
    stdin: where "-" reads; None: the program's own.

  Returns:
    Each file once, in the order of the words; in folders sorted, numbers by
    value. A video that cannot be read is one item, its first frame.

  Raises:
    InputError: no words; a path that does not exist, also in a list; a word
      that nothing is found by; a URL; a folder that is the output folder or may
      not be read; a video that was named, without the extra `video`.
  """
  if not paths:
    raise errors.InputError(
      "no images given: name image files or folders after the flags"
    )
  if every < 0:
    raise errors.InputError(
      f"--every={every}: must be a number of frames, or 0 for one a second"
    )
  search = _Search(os.path.realpath(out), os.fspath(out))
  for word in [os.fspath(path) for path in paths]:
    if word == STDIN:
      if not search.has_read_stdin:
        search.has_read_stdin = True
        search.listed((stdin or sys.stdin.buffer).read(), "stdin (-)", None)
    else:
      search.word(word)
  search.tell()
  return _items(search.files, every)


class _Search:
  """What the words before have led to.

  Attributes:
    files: path by real path.
    has_read_stdin: whether "-" has been read.
  """

  def __init__(self, out: str, out_as_given: str) -> None:
    self.files: dict[str, str] = {}
    self.has_read_stdin = False
    self._out, self._out_as_given = out, out_as_given
    self._can_read_videos = videos.is_available()
    self._unlisted: list[str] = []
    self._videos: list[str] = []
    self._real_folders: dict[str, str] = {}

  def word(self, word: str) -> None:
    """A word of the command line."""
    _refuse_url(word)
    path = word if os.path.exists(word) else os.path.expanduser(word)
    if os.path.exists(path):
      if path.lower().endswith(_LIST) and os.path.isfile(path):
        self._list_file(path)
      else:
        self._path(path)
    elif walking.is_pattern(path):
      self._pattern(path)
    elif os.path.islink(path):
      raise errors.InputError(
        f"{errors.shown(path)} is a link to {errors.shown(os.readlink(path))}, "
        "which does not exist"
      )
    else:
      raise errors.InputError(f"no such file or folder: {errors.shown(path)}")

  def listed(self, data: bytes, what: str, folder: str | None) -> None:
    """A list of paths.

    Args:
      data: the list.
      what: its name.
      folder: of the file, where its paths may start from, beside the current
        folder; None: it is no file.
    """
    found = lists.entries(data, what)
    if not found:
      raise errors.InputError(f"{what}: no path in it: write one on each line")
    for entry in found:
      _refuse_url(entry.strip(), f"{what}: ")
    meant = [lists.there(entry, folder or "") for entry in found]
    missing = [entry for entry, path in zip(found, meant) if path is None]
    if missing:
      raise errors.InputError(
        f"{what}: {len(missing)} of {len(found)} paths do not exist "
        f"({_some(missing)}): correct them, or start in the folder that they "
        f"begin from{_A_LIST if folder is not None else ''}"
      )
    for path in meant:
      assert path is not None
      self._path(path)

  def tell(self) -> None:
    """Says what was left out."""
    if self._videos:
      processes.say(
        f"note: {len(self._videos)} videos are left out "
        f"({_some(self._videos)}): {videos.INSTALL}"
      )
    if self._unlisted:
      processes.say(
        f"note: {len(self._unlisted)} folders may not be read and are left out "
        f"({_some(self._unlisted)})"
      )

  def _list_file(self, path: str) -> None:
    try:
      data = pathlib.Path(path).read_bytes()
    except OSError as error:
      raise errors.InputError(
        f"{errors.shown(path)} cannot be read ({error.strerror}): it should be "
        "a list of paths"
      ) from None
    self.listed(data, errors.shown(path), os.path.dirname(path))

  def _path(self, path: str) -> None:
    """A file or folder that is there."""
    path = _tidied(path)
    if os.path.isdir(path):
      self._folder(path)
    elif os.path.isfile(path):
      if images.is_named_video(path):
        videos.need(path)
      self.files.setdefault(self._real(path), path)
    else:
      raise errors.InputError(
        f"{errors.shown(path)} is neither a file nor a folder: give those of "
        "images"
      )

  def _real(self, path: str) -> str:
    """Where a file is, without links; its folder is looked up once."""
    if os.path.islink(path):
      return os.path.realpath(path)
    folder, name = os.path.split(path)
    if folder not in self._real_folders:
      self._real_folders[folder] = os.path.realpath(folder)
    return os.path.join(self._real_folders[folder], name)

  def _folder(self, folder: str) -> None:
    if walking.is_pictures(folder, self._out):
      raise errors.InputError(
        f"--out={self._out_as_given} is also an input folder: choose another "
        "for the outputs"
      )
    start = "" if folder == "." else folder
    found = walking.below(start, self._out, self._unlisted, _is_input)
    if self._take(found):
      return
    if self._unlisted and self._unlisted[-1] == start:
      raise errors.InputError(
        f"{errors.shown(folder)} may not be read: make it readable, or copy "
        "what is in it"
      )
    raise errors.InputError(
      self._nothing(f"no images in {errors.shown(folder)}", folder)
    )

  def _pattern(self, pattern: str) -> None:
    found = walking.matching(pattern, self._out, self._unlisted, _is_input)
    if not self._take(found, pattern):
      raise errors.InputError(
        self._nothing(f"no image matches {errors.shown(pattern)}", pattern)
      )

  def _take(self, found: Iterable[walking.Found], pattern: str = "") -> int:
    """Keeps files that were found; how many there are."""
    count = 0
    is_named = images.is_named_video(pattern)
    for file in found:
      if images.is_named_video(file.path) and not self._can_read_videos:
        if is_named:
          videos.need(file.path)
        self._videos.append(file.path)
        continue
      count += 1
      self.files.setdefault(file.real, file.path)
    return count

  def _nothing(self, what: str, start: str) -> str:
    """The message that nothing was found, and why."""
    if self._videos:
      return f"{what}, but {len(self._videos)} videos: {videos.INSTALL}"
    if walking.is_pattern(start):
      return f"{what}: correct it, letters count as capital or small"
    return f"{what}: looked for {', '.join(images.SUFFIXES)}"


def _tidied(path: str) -> str:
  """A path without what says nothing: ./a//b/ is a/b."""
  plain = not path.startswith("./") and not path.endswith("/")
  if plain and "//" not in path and "/./" not in path:
    return path
  return str(pathlib.Path(path))


def _is_input(path: str) -> bool:
  return images.is_named_image(path) or images.is_named_video(path)


def _some(names: Iterable[str]) -> str:
  return some(errors.shown(name, 100) for name in names)


def _refuse_url(word: str, before: str = "") -> None:
  """Raises InputError for an address."""
  if _URL.match(word) and not os.path.exists(word):
    raise errors.InputError(
      f"{before}{errors.shown(word)} is an address: download it, and give the "
      "file"
    )


def _items(files: dict[str, str], every: int) -> list[Item]:
  items: list[Item] = []
  seen = frames = 0
  for path in files.values():
    if not images.is_named_video(path):
      items.append(Item(path))
      continue
    seen += 1
    try:
      found = videos.frames(path, every)
    except errors.InputError:
      # Told when it is read, as of an image.
      found = [(0, 0.0)]
    frames += len(found)
    items += [Item(path, None, number, time) for number, time in found]
  if seen:
    how = f"every {every}-th" if every > 1 else "each" if every else "one"
    how += "" if every else " a second (--every=N: every N-th)"
    processes.say(f"note: {seen} videos, {frames} frames of them: {how}")
  return items
