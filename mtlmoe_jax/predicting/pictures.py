"""Pictures of predictions: overlays, crops and thumbnails.

Letters: h w size of an image in its file.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
import simplejpeg

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.predicting.inputs import Item
from mtlmoe_jax.predicting.predictor import Prediction
from mtlmoe_jax.predicting.reading import Seen
from mtlmoe_jax.reports import overlay
from mtlmoe_jax.reports.names import display_name

OVERLAYS = ("auto", "none", "jpeg", "png")
# Of more images nobody looks at each overlay; "auto" then draws none.
MOST_OVERLAYS = 1000
# Longer sides, pixels.
_OVERLAY_SIDE = 1600
_THUMBNAIL_SIDE = 256
# JPEG has no longer ones.
_LONGEST_SIDE = 65500
# Of JPEG: what is looked at, and what may be learned from.
_QUALITY, _CROP_QUALITY = 90, 95
# Of a name, which has at most 255 with a number and an ending.
_STEM_BYTES = 200
# Of each kind of picture its path from the output folder.
Names = dict[str, str | None]
_SUFFIXES = {"jpeg": ".jpg", "png": ".png"}


@dataclasses.dataclass(frozen=True)
class Kinds:
  """Which pictures are made.

  Attributes:
    overlays: "none", "jpeg" or "png".
    crops: the object alone, of each image with a box.
    thumbnails: each image, small.
  """

  overlays: str = "none"
  crops: bool = False
  thumbnails: bool = False

  @property
  def any(self) -> bool:
    """Whether there is anything to draw."""
    return self.overlays != "none" or self.crops or self.thumbnails

  def none(self) -> Names:
    """What a row says of the pictures of an item that has none."""
    names: Names = {"overlay": None}
    if self.crops:
      names["crop"] = None
    if self.thumbnails:
      names["thumbnail"] = None
    return names


def settled(overlays: str, count: int) -> str:
  """What "auto" means.

  Args:
    overlays: one of `OVERLAYS`.
    count: items there are.

  Returns:
    "none", "jpeg" or "png".

  Raises:
    InputError: another word.
  """
  if overlays not in OVERLAYS:
    raise errors.InputError(
      f"--overlays={overlays}: must be one of {', '.join(OVERLAYS)}"
    )
  if overlays != "auto":
    return overlays
  return "jpeg" if count <= MOST_OVERLAYS else "none"


def stems(items: Sequence[Item], out: pathlib.Path) -> list[str]:
  """A name for the pictures of each item, all different.

  They differ in more than case, which some systems do not tell apart, and no
  picture in `out` has the name of an input there.

  Args:
    items: all of them.
    out: folder of the outputs.
  """
  taken = _stems_inside(items, out)
  numbers: dict[str, int] = {}
  names = []
  for item in items:
    stem = _cut(pathlib.PurePath(item.path).stem)
    if item.frame is not None:
      stem = f"{stem}_{item.frame:06d}"
    name, number = stem, numbers.get(stem.lower(), 1)
    while name.lower() in taken:
      number += 1
      name = f"{stem}_{number}"
    numbers[stem.lower()] = number
    taken.add(name.lower())
    names.append(name)
  return names


def _cut(stem: str) -> str:
  """The beginning of a long name, no more than a file's may have."""
  data = os.fsencode(stem)
  if len(data) <= _STEM_BYTES:
    return stem
  # A character of several bytes goes as a whole.
  return data[:_STEM_BYTES].decode("utf-8", "ignore")


def _stems_inside(items: Sequence[Item], out: pathlib.Path) -> set[str]:
  """Of the inputs that lie in the output folder, in lower case."""
  real = os.path.realpath(out)
  folders: dict[str, bool] = {}
  inside = set()
  for item in items:
    folder, name = os.path.split(item.path)
    if folder not in folders:
      folders[folder] = os.path.realpath(folder or ".") == real
    if folders[folder]:
      inside.add(os.path.splitext(name)[0].lower())
  return inside


def write(
  seen: Seen,
  prediction: Prediction,
  stem: str,
  kinds: Kinds,
  out: pathlib.Path,
  temporary: pathlib.Path,
) -> Names:
  """Writes the pictures of one item, each by a rename.

  Args:
    seen: the item, with its image.
    prediction: about the image as a whole.
    stem: from `stems`.
    kinds: which pictures.
    out: folder of the outputs; crops and thumbnails have their own inside.
    temporary: a folder on the same disk.

  Returns:
    `overlay`, `crop` and `thumbnail`, those that `kinds` names: the path of
    each from `out`, or None where there is nothing to show.
  """
  assert seen.image is not None
  names: Names = {}

  def save(kind: str, name: str, data: bytes) -> None:
    part = temporary / f"{seen.number}.{kind}"
    part.write_bytes(data)
    os.replace(part, out / name)
    names[kind] = name

  if kinds.overlays != "none":
    drawn = _draw(seen.image, prediction)
    suffix = _SUFFIXES[kinds.overlays]
    save("overlay", f"{stem}{suffix}", _encoded(drawn, suffix, _QUALITY))
  if kinds.crops:
    crop = _crop(seen, prediction)
    names["crop"] = None
    if crop is not None:
      crop = _shrunk(crop, _LONGEST_SIDE)
      data = _encoded(crop, ".jpg", _CROP_QUALITY)
      save("crop", f"crops/{stem}.jpg", data)
  if kinds.thumbnails:
    small = _shrunk(seen.image, _THUMBNAIL_SIDE)
    save(
      "thumbnail", f"thumbnails/{stem}.jpg", _encoded(small, ".jpg", _QUALITY)
    )
  return names


def make_folders(kinds: Kinds, out: pathlib.Path) -> None:
  """The folders that `write` writes into."""
  if kinds.crops:
    (out / "crops").mkdir(exist_ok=True)
  if kinds.thumbnails:
    (out / "thumbnails").mkdir(exist_ok=True)


def _draw(image: np.ndarray, prediction: Prediction) -> np.ndarray:
  label = ""
  if prediction.label is not None:
    # The number first: a long name is cut at its end.
    name = display_name(prediction.label, 60)
    label = f"{prediction.probability:.2f} {name}"
  gates = {
    task: np.asarray(weights)
    for task, weights in prediction.weights.items()
    if len(weights) > 1
  }
  image = _shrunk(image, _OVERLAY_SIDE)
  box = None
  if prediction.box is not None:
    height, width = image.shape[:2]
    # As the rows tell it.
    shares = np.round(prediction.box.shares, 6)
    box = (shares * (width, height, width, height)).tolist()
  image, box = overlay.magnify(image, box)
  return overlay.draw(image, box, label, gates)


def _shrunk(image: np.ndarray, longer: int) -> np.ndarray:
  """The image, its longer side at most `longer` pixels."""
  height, width = image.shape[:2]
  scale = longer / max(height, width)
  if scale >= 1:
    return image
  size = (max(1, round(width * scale)), max(1, round(height * scale)))
  return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _crop(seen: Seen, prediction: Prediction) -> np.ndarray | None:
  """The object in all pixels of the file; None without a box or an area."""
  if prediction.box is None:
    return None
  image = seen.image
  assert image is not None
  if image.shape[:2] != seen.size:
    image = images.load_image(seen.item.path)
  height, width = image.shape[:2]
  x1, y1, x2, y2 = prediction.box.shares
  left, right = sorted((round(x1 * width), round(x2 * width)))
  top, bottom = sorted((round(y1 * height), round(y2 * height)))
  part = image[max(top, 0) : bottom, max(left, 0) : right]
  return part if part.size else None


def _encoded(image: np.ndarray, suffix: str, quality: int) -> bytes:
  """An encoded picture: JPEG, or PNG with little time spent on its size."""
  if suffix == ".jpg":
    pixels = np.ascontiguousarray(image)
    return simplejpeg.encode_jpeg(pixels, quality, colorsubsampling="420")
  pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
  quick = [cv2.IMWRITE_PNG_COMPRESSION, 1]
  return cv2.imencode(".png", pixels, quick)[1].tobytes()
