"""The files below a folder, listed once, and found as annotations name them."""

import collections
import functools
import os
import pathlib
import posixpath
import re
import unicodedata
import urllib.parse
from collections.abc import Callable

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.data.readers import class_folders
from mtlmoe_jax.data.readers.problems import id_of

# What Label Studio puts before the name of an uploaded file.
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")
_YEAR = re.compile(r"20\d\d$")


class Tree:
  """The visible files of a folder, at any depth.

  Paths are relative to it and have slashes; links that lead back are left out.

  Attributes:
    root: the folder.
    files: all paths, sorted.
    images: those that are named as images.
  """

  def __init__(self, root: str | os.PathLike) -> None:
    """Lists a folder.

    Args:
      root: the folder.

    Raises:
      InputError: a folder below it that may not be read.
    """
    self.root = pathlib.Path(root)
    self.files = sorted(_below(str(root), "", frozenset()))
    self.images = [p for p in self.files if images.is_named_image(p)]

  def named(self, *suffixes: str) -> list[str]:
    """Files whose names end so, whatever the case of the letters."""
    return [p for p in self.files if p.lower().endswith(suffixes)]

  @functools.cached_property
  def _composed(self) -> dict[str, str]:
    return {unicodedata.normalize("NFC", path): path for path in self.images}

  @functools.cached_property
  def _by_name(self) -> dict[str, list[str]]:
    names = collections.defaultdict(list)
    for path in self._composed:
      names[posixpath.basename(path).casefold()].append(path)
    return dict(names)

  @functools.cached_property
  def _by_tail(self) -> dict[tuple[str, str], list[str]]:
    tails = collections.defaultdict(list)
    for path in self._composed:
      folder, name = posixpath.split(path)
      tail = (posixpath.basename(folder).casefold(), name.casefold())
      tails[tail].append(path)
    return dict(tails)

  @functools.cached_property
  def _by_stem(self) -> dict[str, list[str]]:
    stems = collections.defaultdict(list)
    for path in self._composed:
      stem = posixpath.splitext(posixpath.basename(path))[0]
      stems[stem.casefold()].append(path)
    return dict(stems)

  def exact(self, name: str, base: str = "") -> str | None:
    """The image of that path, from `base` or from the root; None: none."""
    name = id_of(name)
    for start in dict.fromkeys((base, "")):
      path = posixpath.normpath(posixpath.join(start, name))
      if path in self._composed:
        return self._composed[path]
    return None

  def ending(self, name: str) -> list[str]:
    """Images whose path ends most like that of an annotation.

    Tools write paths of the machine, the server or the folder that the images
    lay in once: what they share with a path of today is its end. What an upload
    puts before a name is left out where nothing has it.

    Args:
      name: as it is written; a URL as well.

    Returns:
      Those that share as many last parts as any; more than one: it cannot be
      told which is meant.
    """
    for written in dict.fromkeys((name, local(name), _unquoted(name))):
      found = self._ending(id_of(written), self._by_name, _whole)
      if found:
        return found
    # Saved in another format since, or with another spelling of it.
    stem, suffix = posixpath.splitext(id_of(local(name)))
    return self.ending_stem(stem) if images.is_named_image(f"x{suffix}") else []

  def ending_stem(self, path: str) -> list[str]:
    """As `ending`, of a path without its suffix."""
    return self._ending(
      unicodedata.normalize("NFC", path), self._by_stem, posixpath.splitext
    )

  def _ending(
    self,
    name: str,
    index: dict[str, list[str]],
    cut: Callable[[str], tuple[str, str]],
  ) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    if not parts:
      return []
    if len(parts) > 1 and index is self._by_name:
      # Cameras number alike: of names that many have the folder is told first.
      near = self._by_tail.get((parts[-2].casefold(), parts[-1].casefold()))
      if near:
        return self._nearest(near, parts, cut)
    found = index.get(parts[-1].casefold())
    if not found:
      parts[-1] = _UPLOAD.sub("", parts[-1], count=1)
      found = index.get(parts[-1].casefold(), [])
    return self._nearest(found, parts, cut)

  def _nearest(
    self,
    found: list[str],
    parts: list[str],
    cut: Callable[[str], tuple[str, str]],
  ) -> list[str]:
    shared = [_shared(cut(path)[0].split("/"), parts) for path in found]
    most = max(shared, default=0)
    return [self._composed[p] for p, n in zip(found, shared) if n == most]

  def stem(self, path: str) -> list[str]:
    """Images of that path but for the suffix."""
    path = unicodedata.normalize("NFC", path)
    found = self._by_stem.get(posixpath.basename(path).casefold(), ())
    return [
      self._composed[p] for p in found if posixpath.splitext(p)[0] == path
    ]

  def file(self, path: str) -> pathlib.Path:
    """Where a listed path is."""
    return self.root / path


def split_of(path: str) -> str:
  """The part that a path's folders, or its own name, say; "" if none.

  `train2017` and `instances_val2017.json` say it as well as `valid`.
  """
  *folders, name = path.lower().split("/")
  words = re.split(r"[^a-z0-9]+", posixpath.splitext(name)[0])
  for word in (*folders, *words):
    split = class_folders.named_split(_YEAR.sub("", word))
    if split:
      return split
  return ""


def folder_split(path: str) -> str:
  """The part that a path's folders say; "" if none."""
  return split_of(posixpath.dirname(path) + "/") if "/" in path else ""


def named_split(word: str) -> str | None:
  """The part that a word of an annotation names; None: no word for one."""
  return class_folders.named_split(word.strip())


def local(name: str) -> str:
  """The path in a URL, or the one that a file server is asked for."""
  if "://" not in name and "?" not in name:
    return name
  try:
    url = urllib.parse.urlsplit(name)
  except ValueError:
    return name
  # Not parse_qs: a + may be a part of the name.
  for part in url.query.split("&"):
    if part.startswith("d="):
      return urllib.parse.unquote(part[2:])
  return urllib.parse.unquote(url.path)


def _unquoted(name: str) -> str:
  """A path as a server writes it, with %20 for a space."""
  return urllib.parse.unquote(local(name))


def _whole(path: str) -> tuple[str, str]:
  return path, ""


def _shared(path: list[str], parts: list[str]) -> int:
  count = 0
  for a, b in zip(reversed(path), reversed(parts)):
    if a.casefold() != b.casefold():
      break
    count += 1
  return count


def _below(folder: str, base: str, above: frozenset[str]) -> list[str]:
  try:
    return _listed(folder, base, above)
  except OSError as error:
    raise errors.InputError(
      f"{folder} cannot be listed ({error.strerror}): make it readable, or "
      "move it away"
    ) from None


def _listed(folder: str, base: str, above: frozenset[str]) -> list[str]:
  found = []
  with os.scandir(folder) as entries:
    for entry in entries:
      if class_folders.is_hidden(entry.name):
        continue
      if not entry.is_dir():
        found.append(base + entry.name)
      elif not entry.is_symlink():
        found += _below(entry.path, f"{base}{entry.name}/", above)
      else:
        real = os.path.realpath(entry.path)
        here = os.path.realpath(folder)
        # A link may lead back to where it lies.
        if real not in above and os.path.commonpath([real, here]) != real:
          found += _below(
            entry.path, f"{base}{entry.name}/", above | {real, here}
          )
  return found
