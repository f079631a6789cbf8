"""Label Studio's export: tasks with rectangles in per cent, and choices.

labelstud.io/guide/export: `JSON`, `JSON_MIN`, and `CSV`, whose cells are those
of JSON_MIN. Rectangles may be turned about their top left corner, clockwise.
"""

import collections
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.data.layouts import placing, texts
from mtlmoe_jax.data.layouts.coco import File
from mtlmoe_jax.data.layouts.scenes import (
  Corners,
  Scenes,
  Thing,
  frame,
  from_corner,
  number,
  numbers,
)
from mtlmoe_jax.data.layouts.tree import Tree, local
from mtlmoe_jax.data.readers.problems import Problems

_LABELS = ("rectanglelabels", "polygonlabels", "labels")
# Counted with what is left out, told apart.
_TURNED = "rectangles are turned"
_POLYGON = "marks are polygons"


def is_label_studio(value: Any) -> bool:
  """Whether a JSON value is a list of tasks."""
  return (
    isinstance(value, list)
    and bool(value)
    and all(isinstance(task, Mapping) for task in value)
    and (
      all(
        isinstance(task.get("data"), Mapping)
        and isinstance(task.get("annotations"), list)
        for task in value
      )
      or any("annotator" in task and "annotation_id" in task for task in value)
    )
  )


def is_header(line: str) -> bool:
  """Whether the first line of a table is that of Label Studio's CSV."""
  return {"annotator", "annotation_id"} <= set(re.split(r"[,;\s\"]", line))


def tasks(table: texts.Table) -> list[dict[str, Any]]:
  """The rows of its CSV, as JSON_MIN has them.

  Raises:
    InputError: a cell begins as JSON, and is none.
  """
  found = []
  for line, row in table.rows:
    task: dict[str, Any] = dict(row)
    for column, cell in row.items():
      if cell.startswith(("[", "{")):
        try:
          task[column] = json.loads(cell)
        except (ValueError, RecursionError) as error:
          raise errors.InputError(
            f"{table.path} line {line}: {column} {cell!r:.60} is no JSON, or "
            f"is cut ({error}): export it again"
          ) from None
    found.append(task)
  return found


def read(file: File, tree: Tree, problems: Problems) -> Scenes:
  """Reads one export.

  Args:
    file: of it.
    tree: of the images.
    problems: where mistakes are reported.

  Returns:
    The scenes; classes sorted, as Label Studio's other exports have them.

  Raises:
    InputError: see `placing.place`.
  """
  left_out: collections.Counter[str] = collections.Counter()
  said = []
  for place, task in enumerate(file.value):
    where = f"{file.path} task {task.get('id', place)}"
    name = _image(task.get("data") or task)
    results = _results(task, where, left_out, problems)
    if name is None:
      problems(f"{where}: names no image: add it, or remove the task")
    elif results is not None:
      said.append(_said(name, file, where, results, left_out, problems))
  notes: list[str] = []
  for what, cut in ((_TURNED, ", cut to the image"), (_POLYGON, "")):
    if count := left_out.pop(what, 0):
      notes.append(
        f"{file.path}: {count} {what}; the upright box around each is read{cut}"
      )
  placing.counted(left_out, f"left out of {file.path}", notes)
  scenes = placing.place(said, tree, file.path, notes, problems)
  return Scenes("label_studio", tree, (), scenes, notes=notes)


def _image(data: Mapping[str, Any]) -> str | None:
  """The text of a task that names an image; of several that called so."""
  named = [
    (key not in ("image", "img", "photo"), place, value)
    for place, (key, value) in enumerate(data.items())
    if isinstance(value, str) and images.is_named_image(local(value))
  ]
  return min(named)[2] if named else None


def _results(
  task: Mapping[str, Any],
  where: str,
  left_out: collections.Counter[str],
  problems: Problems,
) -> list[Mapping[str, Any]] | None:
  """What one person found; None where nobody has looked."""
  if "annotations" not in task:  # JSON_MIN
    found: list[Mapping[str, Any]] = []
    for key, value in task.items():
      if isinstance(value, list):
        found += [row for row in value if isinstance(row, Mapping)]
      elif isinstance(value, Mapping) and "choices" in value:
        found.append(value)
      elif key == "choice" and isinstance(value, str):
        found.append({"choices": [value]})
    return found
  kept = [
    row
    for row in task["annotations"]
    if isinstance(row, Mapping) and not row.get("was_cancelled")
  ]
  if not kept:
    left_out["tasks that nobody has annotated"] += 1
    return None
  if len(kept) > 1:
    problems(
      f"{where}: has {len(kept)} annotations: keep one of them (in Label "
      "Studio, cancel the others)"
    )
  return [
    row for row in kept[-1].get("result") or [] if isinstance(row, Mapping)
  ]


def _said(
  name: str,
  file: File,
  where: str,
  results: Sequence[Mapping[str, Any]],
  left_out: collections.Counter[str],
  problems: Problems,
) -> placing.Said:
  entry = placing.Said(name, file.base, [], where, pixels=False)
  before = problems.count
  choices = []
  for result in results:
    value = result.get("value", result)
    if not isinstance(value, Mapping):
      continue
    size = frame(result.get("original_height"), result.get("original_width"))
    entry.size = entry.size or size
    if "choices" in value:
      choices += [str(choice) for choice in value["choices"]]
      continue
    labels = next((value[key] for key in _LABELS if value.get(key)), None)
    if labels is None:
      left_out["marks without a label"] += 1
      continue
    box = _box(value, size, where, left_out, problems)
    if box is not None:
      entry.things += [Thing(str(label), box) for label in labels]
  if choices and not entry.things:
    entry.things = [Thing(choice, None) for choice in choices]
  elif choices:
    left_out["choices beside rectangles"] += len(choices)
  entry.is_spoiled = problems.count > before
  return entry


def _box(
  value: Mapping[str, Any],
  size: tuple[int, int] | None,
  where: str,
  left_out: collections.Counter[str],
  problems: Problems,
) -> Corners | None:
  """The upright box, as shares; None after a report."""
  if "points" in value:
    return _around_polygon(value["points"], where, left_out, problems)
  sides = numbers([value.get(k) for k in ("x", "y", "width", "height")], 4)
  if sides is None:
    left_out["marks that are no rectangles"] += 1
    return None
  x, y, width, height = (side / 100 for side in sides)
  turn = math.radians(number(value.get("rotation")) or 0)
  if not turn:
    return from_corner(x, y, width, height)
  if size is None:
    problems(
      f"{where}: a turned rectangle without original_width and original_height "
      "cannot be read: add them"
    )
    return None
  left_out[_TURNED] += 1
  return _around_turned(x, y, width, height, turn, size)


def _around_polygon(
  points: Any,
  where: str,
  left_out: collections.Counter[str],
  problems: Problems,
) -> Corners | None:
  """The box around a polygon's corners, as shares; None after a report."""
  rows = points if isinstance(points, list) else []
  corners = [row for point in rows if (row := numbers(point, 2))]
  if len(corners) < max(3, len(rows)):
    problems(
      f"{where}: points {points!r:.80} must be three or more pairs of numbers"
    )
    return None
  left_out[_POLYGON] += 1
  xs, ys = zip(*corners)
  return (min(xs) / 100, min(ys) / 100, max(xs) / 100, max(ys) / 100)


def _around_turned(
  x: float,
  y: float,
  width: float,
  height: float,
  turn: float,
  size: tuple[int, int],
) -> Corners:
  """The box around the part of a turned rectangle that is in the image.

  Angles are those of pixels, not of shares.
  """
  h, w = size
  cos, sin = math.cos(turn), math.sin(turn)
  right = np.array([cos / w, sin / h]) * width * w
  down = np.array([-sin / w, cos / h]) * height * h
  corner = np.array([x, y])
  points = [corner, corner + right, corner + right + down, corner + down]
  for axis in (0, 1):
    for edge, sign in ((0.0, 1.0), (1.0, -1.0)):
      points = _cut(points, axis, edge, sign)
  if not points:
    # Wholly outside: as it is, for the rule of boxes to refuse.
    points = [corner, corner + right + down]
  low, high = np.min(points, axis=0), np.max(points, axis=0)
  return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def _cut(
  points: list[np.ndarray], axis: int, edge: float, sign: float
) -> list[np.ndarray]:
  """A polygon's part on one side of a line (Sutherland and Hodgman 1974)."""
  kept = []
  for a, b in zip(points, [*points[1:], *points[:1]]):
    from_a, from_b = sign * (a[axis] - edge), sign * (b[axis] - edge)
    if from_a >= 0:
      kept.append(a)
    if (from_a >= 0) != (from_b >= 0):
      kept.append(a + (b - a) * from_a / (from_a - from_b))
  return kept
