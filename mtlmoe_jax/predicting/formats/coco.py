"""predictions.coco.json: results that pycocotools' `loadRes` takes.

Beside it lies predictions.coco_images.json, a data set without annotations
whose images and categories the results refer to; or results refer to those of
the user's own file (`coco_images`).
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from mtlmoe_jax import errors
from mtlmoe_jax.devices import processes
from mtlmoe_jax.predicting.formats.about import About, Row, Rows
from mtlmoe_jax.predicting.formats.coco_ids import Known, read
from mtlmoe_jax.predicting.formats.naming import (
  Some,
  clean,
  is_video,
  relative,
  root_of,
)
from mtlmoe_jax.predicting.formats.values import (
  WHOLE,
  box_of,
  confidence_of,
  finite,
  is_classified,
  is_frame,
)
from mtlmoe_jax.predicting.formats.writing import dumps, open_text, write_list

NAME = "predictions.coco.json"
IMAGES = "predictions.coco_images.json"
OBJECT = "object"


def foresee(ids: Sequence[str], about: About) -> None:
  """Finds before a run that the user's file is not about its images.

  Args:
    ids: of the images.
    about: the run.

  Raises:
    InputError: the file cannot be read, means none of the images, or leaves
      open which one it means.
  """
  if not about.option("coco_images"):
    return
  known = read(about.option("coco_images"), about)
  root = root_of(lambda: ({"id": key} for key in ids), about)
  missing = Some()
  has_one = False
  for key in ids:
    name = relative(key, root)
    if is_video(name) or known.image(name) is not None:
      has_one = True
    else:
      missing.add(name)
  if missing.count and not has_one:
    raise _of_others(known, missing)


def _of_others(known: Known, missing: Some) -> errors.InputError:
  return errors.InputError(
    f"coco_images={known.path}: has none of the images ({missing}): give the "
    "file that is about them"
  )


def write(rows: Rows, about: About, folder: pathlib.Path) -> list[str]:
  """Writes predictions.coco.json, and what its ids mean.

  One result a row: the most probable class, the model's box in pixels, as
  score the probability of the class, times the detector's confidence where
  there is one. Without the class task the category is "object"; without any
  box the result is about the whole image. A frame of a video is an image named
  `VIDEO#NUMBER`. Rows without an answer have no result.

  Args:
    rows: read once or twice.
    about: the run; its option coco_images names the user's file.
    folder: of the files.

  Returns:
    Names of the files written.

  Raises:
    InputError: the user's file cannot be read or means none of the images.
  """
  root = root_of(rows, about)
  given = about.option("coco_images")
  if given:
    known = read(given, about)
    with open_text(folder / NAME) as file:
      write_list(file, _of_known(rows, root, known))
      file.write("\n")
    return [NAME]
  ids = _categories(about)
  with (
    open_text(folder / NAME) as results,
    open_text(folder / IMAGES) as images,
  ):
    images.write('{\n  "info": ')
    images.write(dumps({"description": clean(about.model)}))
    images.write(',\n  "images": ')
    write_list(images, _numbered(rows, root, ids, results), "  ")
    images.write(',\n  "annotations": [],\n  "categories": ')
    entries = (dumps({"id": k, "name": clean(n)}) for n, k in ids.items())
    write_list(images, entries, "  ")
    images.write("\n}\n")
  return [NAME, IMAGES]


def _categories(about: About) -> dict[str, int]:
  """Ids from 1, as COCO's own."""
  names = about.class_names if "class" in about.tasks else [OBJECT]
  ids: dict[str, int] = {}
  for i, name in enumerate(names, 1):
    ids.setdefault(name, i)
  return ids


def _numbered(
  rows: Rows, root: str, ids: Mapping[str, Any], results: TextIO
) -> Iterator[str]:
  """The images, numbered from 1; results are written on the way."""
  separator = "["
  number, last = 0, None
  for row in rows():
    if row.get("error") is not None or not row.get("width"):
      continue
    name = _file_name(row, root)
    if name != last:
      number, last = number + 1, name
      yield dumps(
        {
          "id": number,
          "file_name": name,
          "width": row["width"],
          "height": row["height"],
        }
      )
    result = _result(row, number, ids)
    if result is not None:
      results.write(f"{separator}\n  {dumps(result)}")
      separator = ","
  results.write("[]\n" if separator == "[" else "\n]\n")


def _of_known(rows: Rows, root: str, known: Known) -> Iterator[str]:
  """Results about the images of a user's file."""
  missing = Some()
  unknown: set[str] = set()
  count = 0
  for row in rows():
    if row.get("error") is not None or not row.get("width"):
      continue
    name = _file_name(row, root)
    key = known.image(name)
    if key is None:
      missing.add(name)
      continue
    label = row.get("class")
    if label is not None and label not in known.categories:
      unknown.add(label)
      continue
    result = _result(row, key, known.categories)
    count += result is not None
    if result is not None:
      yield dumps(result)
  if missing.count and not count:
    raise _of_others(known, missing)
  if missing.count:
    processes.say(
      f"note: images that {known.path} does not have get no COCO results: "
      f"{missing}"
    )
  if unknown:
    processes.say(
      f"note: {known.path} has no category "
      f"{errors.listed(sorted(unknown), 3)}; their COCO results are left out"
    )


def _file_name(row: Row, root: str) -> str:
  name = relative(row["id"], root)
  return f"{name}#{row['frame']}" if is_frame(row) else name


def _result(
  row: Row, image: Any, ids: Mapping[str, Any]
) -> dict[str, Any] | None:
  """An entry of the results; None where nothing of ours was found."""
  if "detection" in row and not row["detection"]:
    return None
  label = row.get("class")
  if label is not None and not is_classified(row):
    return None
  score = finite(row.get("probability")) if label is not None else 1.0
  confidence = confidence_of(row)
  x1, y1, x2, y2 = box_of(row) or WHOLE
  width, height = row["width"], row["height"]
  box = [x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height]
  key = ids[label] if label is not None else next(iter(ids.values()), 1)
  return {
    "image_id": image,
    "category_id": key,
    "bbox": [round(value, 2) for value in box],
    "score": (score or 0.0) * (1.0 if confidence is None else confidence),
  }
