"""predictions.label_studio.json: tasks with pre-annotations, and their config.

Label Studio imports the one as tasks; the other, label_studio.xml, is the
labeling config that its names refer to.
"""

import pathlib
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any
from xml.sax import saxutils

from mtlmoe_jax.devices import processes
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
)
from mtlmoe_jax.predicting.formats.writing import dumps, open_text, write_list

NAME = "predictions.label_studio.json"
CONFIG = "predictions.label_studio.xml"
PREFIX = "/data/local-files/?d="
OBJECT = "object"
# What XML 1.0 cannot hold, escaped or not.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(rows: Rows, about: About, folder: pathlib.Path) -> list[str]:
  """Writes the tasks and their labeling config.

  A task an image, with one prediction: a rectangle an object, labelled with
  its class; a choice where the model has no box task and the run no detector.
  Images that could not be read and videos are no tasks.

  Args:
    rows: read twice at most.
    about: the run; its option label_studio_prefix is what an image's address
      begins with, its path below the folder of the images follows.
    folder: of the files.

  Returns:
    Names of the files written.
  """
  has_boxes = about.has_detections or "box" in about.tasks
  prefix = about.option("label_studio_prefix") or PREFIX
  root = root_of(rows, about)
  with open_text(folder / NAME) as file:
    write_list(file, _tasks(rows, about, has_boxes, prefix, root))
    file.write("\n")
  labels = _labels(rows, about)
  with open_text(folder / CONFIG) as file:
    file.write(_config(labels, has_boxes))
  return [NAME, CONFIG]


def _tasks(
  rows: Rows, about: About, has_boxes: bool, prefix: str, root: str
) -> Iterator[str]:
  # Names of objects in a bucket are taken as they are.
  scheme, mark, _ = prefix.partition("://")
  is_bucket = bool(mark) and scheme not in ("http", "https")
  videos = 0
  for key, group in by_image(rows):
    read = [row for row in group if row.get("error") is None]
    if is_video(key) or any(is_frame(row) for row in group):
      videos += 1
      continue
    if not read:
      continue
    name = relative(key, root)
    address = name if is_bucket else urllib.parse.quote(name)
    results = [
      _result(row, number, has_boxes)
      for number, row in enumerate(read, 1)
      if row.get("detection", True)
    ]
    scores = [r["score"] for r in results if "score" in r]
    prediction: dict[str, Any] = {"model_version": clean(about.model)}
    if scores:
      prediction["score"] = min(scores)
    task = {
      "data": {"image": prefix + address, "file": name},
      "predictions": [prediction | {"result": results}],
    }
    yield dumps(task)
  if videos:
    processes.say(
      f"note: Label Studio's tasks are images: {videos} videos are left out"
    )


def _result(row: Row, number: int, has_boxes: bool) -> dict[str, Any]:
  """A rectangle, or a choice for the whole image."""
  score = finite(row.get("probability")) if is_classified(row) else None
  result: dict[str, Any] = {
    "id": f"r{number}",
    "to_name": "image",
    "original_width": row["width"],
    "original_height": row["height"],
    "image_rotation": 0,
  }
  score = confidence_of(row) if score is None else score
  if score is not None:
    result["score"] = score
  if not has_boxes:
    return result | {
      "from_name": "class",
      "type": "choices",
      "value": {"choices": [_label(row)]},
    }
  x1, y1, x2, y2 = box_of(row) or WHOLE
  sides = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
  return result | {
    "from_name": "box",
    "type": "rectanglelabels",
    "value": {
      **{name: round(100 * value, 4) for name, value in sides.items()},
      "rotation": 0,
      "rectanglelabels": [_label(row)],
    },
  }


def _label(row: Row) -> str:
  name = row["class"] if is_classified(row) else category_of(row)
  return _of_xml(name) or OBJECT


def _labels(rows: Rows, about: About) -> list[str]:
  """All labels that a task may have: the classes, then what is seen besides."""
  names = {}
  if "class" in about.tasks:
    names = dict.fromkeys(_of_xml(n) or OBJECT for n in about.class_names)
  if about.has_detections or not names:
    names |= dict.fromkeys(
      sorted({_label(row) for row in rows() if row.get("error") is None})
    )
  return list(names) or [OBJECT]


def _config(labels: list[str], has_boxes: bool) -> str:
  """The labeling config: rectangles of these labels, or a choice of them."""
  tag, name, one = ("Choices", "class", "Choice")
  if has_boxes:
    tag, name, one = ("RectangleLabels", "box", "Label")
  lines = [
    "<View>",
    '  <Image name="image" value="$image"/>',
    f'  <{tag} name="{name}" toName="image">',
    *(f"    <{one} value={saxutils.quoteattr(n)}/>" for n in labels),
    f"  </{tag}>",
    "</View>",
  ]
  return "\n".join(lines) + "\n"


def _of_xml(text: str) -> str:
  """Text without what XML cannot hold; blanks at the ends would be lost."""
  return " ".join(_NOT_XML.sub(" ", clean(text)).split())
