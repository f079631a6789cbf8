"""predictions.megadetector.json: the output format of MegaDetector, 1.6.

lila.science/megadetector-output-format. Timelapse, AddaxAI and the package
megadetector-utils read it.
"""

import pathlib
from typing import Any

from mtlmoe_jax.predicting.formats.about import About, Row, Rows, by_image
from mtlmoe_jax.predicting.formats.naming import (
  clean,
  is_video,
  relative,
  root_of,
)
from mtlmoe_jax.predicting.formats.values import (
  WHOLE,
  box_of,
  category_of,
  confidence_of,
  finite,
  is_classified,
  is_frame,
  with_sides,
)
from mtlmoe_jax.predicting.formats.writing import dumps, open_text, write_list

NAME = "predictions.megadetector.json"
VERSION = "1.6"
# The numbers that its own models have.
_CATEGORIES = ("animal", "person", "vehicle")


def write(rows: Rows, about: About, folder: pathlib.Path) -> list[str]:
  """Writes predictions.megadetector.json.

  With a detector's boxes these are the boxes, with its confidence and its
  category, and the classes are ours. Without, there is one box an image: the
  model's, or the whole image where it has no box task; its `conf` is 1.0,
  since the model looks for the one object that it takes for granted.

  Args:
    rows: read two or three times.
    about: the run; its option megadetector_category names the one category of
      a run without a detector.
    folder: of the file.

  Returns:
    Names of the files written.
  """
  categories = _categories(rows, about)
  number_of = {name: number for number, name in categories.items()}
  root = root_of(rows, about)
  head: dict[str, Any] = {
    "info": _info(about),
    "detection_categories": categories,
  }
  if "class" in about.tasks:
    head["classification_categories"] = {
      str(i): _name(name) for i, name in enumerate(about.class_names)
    }
  numbers: dict[str, str] = {}
  for i, name in enumerate(about.class_names):
    numbers.setdefault(name, str(i))
  with open_text(folder / NAME) as file:
    file.write(dumps(head, indent=2).removesuffix("\n}") + ',\n  "images": ')
    images = (
      dumps(_image(relative(key, root), group, number_of, numbers))
      for key, group in by_image(rows)
    )
    write_list(file, images, "  ")
    file.write("\n}\n")
  return [NAME]


def _info(about: About) -> dict[str, Any]:
  """Of what made the boxes, and of what made the classes."""
  info: dict[str, Any] = {"format_version": VERSION}
  model, time = clean(about.model), about.time
  if about.has_detections:
    info["detector"] = clean(about.detector) or "unknown"
  else:
    info["detector"] = model
    info["detection_completion_time"] = time
  if "class" in about.tasks:
    info["classifier"] = model
    info["classification_completion_time"] = time
  return info


def _name(text: str) -> str:
  """The format has no blank names."""
  return clean(text).strip() or "unnamed"


def _categories(rows: Rows, about: About) -> dict[str, str]:
  """Names of categories by their numbers, as text, from 1."""
  if not about.has_detections:
    return {"1": _name(about.option("megadetector_category") or "animal")}
  seen = {
    name for row in rows() if row.get("detection") for name in [_found(row)]
  }
  names = [*_CATEGORIES, *sorted(seen - set(_CATEGORIES))]
  return {str(i): name for i, name in enumerate(names, 1)}


def _found(row: Row) -> str:
  return category_of(row).strip() or _CATEGORIES[0]


def _image(
  file: str,
  group: list[Row],
  number_of: dict[str, str],
  numbers: dict[str, str],
) -> dict[str, Any]:
  """The entry of an image or a video."""
  image: dict[str, Any] = {"file": file}
  read = [row for row in group if row.get("error") is None]
  if read and read[0].get("width"):
    image |= {"width": read[0]["width"], "height": read[0]["height"]}
  frames = [row for row in read if is_frame(row)]
  if frames or is_video(file):
    image["frame_rate"] = _frame_rate(frames) if frames else -1
    image["frames_processed"] = sorted({row["frame"] for row in frames})
  if read:
    found = (_detection(row, number_of, numbers) for row in read)
    image["detections"] = [detection for detection in found if detection]
  else:
    image["failure"] = clean(str(group[0]["error"]))
    image["detections"] = None
  return image


def _frame_rate(rows: list[Row]) -> float:
  """Frames a second, as frames and their times tell.

  Of a single frame at time 0 nothing tells it, and any number is as good.
  """
  last = max(rows, key=lambda row: row["frame"])
  seconds = finite(last.get("seconds"))
  if not seconds or not last["frame"]:
    return 1.0
  return round(last["frame"] / seconds, 3)


def _detection(
  row: Row, number_of: dict[str, str], numbers: dict[str, str]
) -> dict[str, Any] | None:
  """One box; None where the detector found nothing in the image."""
  confidence: float | None = 1.0
  category = "1"
  if "detection" in row:
    if not row["detection"]:
      return None
    confidence = confidence_of(row)
    category = number_of[_found(row)]
  found: dict[str, Any] = {
    "category": category,
    "conf": 1.0 if confidence is None else confidence,
    "bbox": with_sides(box_of(row, "detection") or WHOLE),
  }
  if is_classified(row):
    top = row.get("top5") or [row]
    pairs = [(t["class"], finite(t["probability"]) or 0.0) for t in top]
    pairs.sort(key=lambda pair: -pair[1])
    found["classifications"] = [[numbers[c], p] for c, p in pairs]
  if is_frame(row):
    found["frame_number"] = row["frame"]
  return found
