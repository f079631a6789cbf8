"""The ids of images and categories in a user's COCO file."""

import json
import pathlib
import posixpath
from collections.abc import Mapping
from typing import Any, NamedTuple

from mtlmoe_jax import errors
from mtlmoe_jax.predicting.formats.about import About


class Known(NamedTuple):
  """What a COCO file calls images and categories.

  Attributes:
    path: the file.
    images: (file_name, id) by the last part of the name.
    categories: id by name.
  """

  path: str
  images: Mapping[str, list[tuple[str, Any]]]
  categories: Mapping[str, Any]

  def image(self, file: str) -> Any:
    """The id of an image, or None.

    The names agree in as many parts from their end as the shorter one has.

    Raises:
      InputError: two images could be meant.
    """
    found = [
      (name, key)
      for name, key in self.images.get(posixpath.basename(file), ())
      if _is_end(name, file) or _is_end(file, name)
    ]
    exact = [key for name, key in found if name == file]
    if len(exact) == 1 or len(found) == 1:
      return exact[0] if exact else found[0][1]
    if not found:
      return None
    raise errors.InputError(
      f"coco_images={self.path}: {file} may be "
      f"{errors.listed([name for name, _ in found], 3)}: predict the folder "
      "that its file_name begins at"
    )


def read(path: str, about: About) -> Known:
  """Reads which images and categories a COCO file knows.

  Args:
    path: instances file; file names may begin at another folder than ours.
    about: the run, whose classes must be among the categories.

  Returns:
    Their ids.

  Raises:
    InputError: it cannot be read, is no COCO file, or has none of the classes.
  """
  what = f"coco_images={path}"
  try:
    value = json.loads(pathlib.Path(path).read_text("utf-8-sig"))
  except OSError as error:
    raise errors.InputError(
      f"{what}: cannot be read ({error.strerror}); name a COCO file"
    ) from None
  except ValueError as error:
    raise errors.InputError(
      f"{what}: is no JSON ({error}); name a COCO file"
    ) from None
  images: dict[str, list[tuple[str, Any]]] = {}
  categories: dict[str, Any] = {}
  try:
    for image in value["images"]:
      name = str(image["file_name"]).replace("\\", "/")
      images.setdefault(posixpath.basename(name), []).append(
        (posixpath.normpath(name), image["id"])
      )
    for category in value.get("categories") or ():
      categories.setdefault(str(category["name"]), category["id"])
  except (KeyError, TypeError, AttributeError):
    raise errors.InputError(
      f"{what}: needs images with id and file_name, categories with id and "
      "name; name a COCO file"
    ) from None
  names = set(about.class_names)
  if "class" in about.tasks and not names & categories.keys():
    raise errors.InputError(
      f"{what}: none of its categories ({errors.listed(list(categories), 3)}) "
      f"is a class of the model ({errors.listed(list(about.class_names), 3)})"
    )
  return Known(path, images, categories)


def _is_end(short: str, long: str) -> bool:
  """Whether a path is the end of another, in whole parts."""
  parts = [part for part in short.split("/") if part not in ("", ".", "..")]
  return f"/{long}".endswith("/" + "/".join(parts))
