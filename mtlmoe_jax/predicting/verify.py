"""Whether predictions that were written are what the model says today."""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.predicting import judging
from mtlmoe_jax.predicting import passport as passport_lib
from mtlmoe_jax.predicting import rows as rows_lib
from mtlmoe_jax.predicting.inputs import Detection, Item
from mtlmoe_jax.predicting.predictor import Predictor

# What a model answers; where the pictures are is no answer.
_ANSWERS = (
  *("width", "height", "class", "class_index", "probability", "top5", "box"),
  *("experts", "error"),
)
# What a passport file has beside the facts that give it its name.
_TEXTS = ("passport", "run", "folder")
# Of a file that rows are taken from, at least.
_PLACES = 10


@dataclasses.dataclass(frozen=True)
class Verdict:
  """How rows compare with what the model says of the same images now.

  Attributes:
    rows: in the file.
    compared: of them computed again.
    equal: of those equal to the bit.
    classes: of those with another class.
    probability: largest difference of a probability.
    box: largest difference of a side of a box, a share of the image.
    changed: a line about what is not as it was: model, versions, device.
    examples: a line about each of the first rows that differ.
  """

  rows: int
  compared: int
  equal: int
  classes: int
  probability: float
  box: float
  changed: tuple[str, ...]
  examples: tuple[str, ...]


def read_passport(path: str | os.PathLike[str]) -> dict[str, Any]:
  """The passport beside a file of predictions.

  Args:
    path: predictions.jsonl, as `mtlmoe predict` wrote it.

  Raises:
    InputError: there is none, it is none, or it was changed since.
  """
  file = pathlib.Path(path).parent / passport_lib.FILE
  try:
    found = json.loads(file.read_text("utf-8"))
    is_one = all(isinstance(found[key], str) for key in _TEXTS)
    if not is_one or not {"digest", "step"} <= found["checkpoint"].keys():
      raise TypeError
    facts = {k: v for k, v in found.items() if k not in _TEXTS}
  except FileNotFoundError:
    raise errors.InputError(
      f"{path}: there is no {passport_lib.FILE} beside it, which tells what "
      "the predictions are of; name a file that mtlmoe predict wrote"
    ) from None
  except (AttributeError, KeyError, TypeError, ValueError, OSError):
    raise errors.InputError(
      f"{file} is no passport of predictions: predict again"
    ) from None
  if passport_lib.name(facts) != found["passport"]:
    raise errors.InputError(
      f"{file} is not as it was written (what it tells has another name than "
      f"{errors.shown(found['passport'], 40)}): predict again"
    )
  return found


def verify(
  restored: Restored,
  path: str | os.PathLike[str],
  sample: int = 50,
  folder: str = "",
) -> Verdict:
  """Computes rows again and compares them.

  Args:
    restored: the model.
    path: predictions.jsonl; its passport lies beside it.
    sample: rows to compare; 0: all. They are of ten places or more, evenly
      spread over the file. All rows of their batches are computed, since the
      last bits of an answer depend on its place.
    folder: from which relative paths of images are meant; "": as when they were
      predicted.

  Raises:
    InputError: a file that holds no predictions.
  """
  then = read_passport(path)
  count = sum(1 for _ in _rows(path))
  if not count:
    raise errors.InputError(f"{path} holds no predictions")
  size = int(then["batch_size"])
  sampled = _sampled(count, size, sample)
  whole = {number // size for number in sampled}
  numbers = [i for i in range(count) if i // size in whole]
  rows = [row for i, row in enumerate(_rows(path)) if i // size in whole]
  others = {row["passport"] for row in rows} - {then["passport"]}
  if others:
    raise errors.InputError(
      f"{path}: its rows have the passport {min(others)}, the one beside it is "
      f"{then['passport']}: they are not of one prediction"
    )
  predictor = Predictor(restored, views=then["views"])
  now = passport_lib.of(restored, predictor, size)
  items = [_item(row, folder or then["folder"]) for row in rows]
  batches = [
    range(i, min(i + size, len(items))) for i in range(0, len(items), size)
  ]
  with judging.make_pool() as pool:
    judge = judging.judge(
      predictor, items, batches, size, pool, keep_images=False
    )
    with contextlib.closing(judge):
      again = [
        rows_lib.row(*judged, then["passport"])
        for batch in judge
        for judged in batch
      ]
  for row, other in zip(rows, again):
    if other["error"]:
      # In the words of the row: its path may be meant from elsewhere.
      other["error"] = other["error"].replace(other["id"], row["id"])
  pairs = [
    pair for number, *pair in zip(numbers, rows, again) if number in sampled
  ]
  return _verdict(count, pairs, _changed(then, now))


def _sampled(count: int, size: int, sample: int) -> set[int]:
  """Which rows to compare, from few batches that are evenly spread.

  Args:
    count: rows there are.
    size: of a batch.
    sample: how many rows; 0: all.
  """
  wanted = min(sample or count, count)
  batches = -(-count // size)
  places = min(batches, max(-(-wanted // size), min(wanted, _PLACES)))
  while True:
    begins = np.linspace(0, batches - 1, places).round().astype(int) * size
    # Not the first of each alone: the next place in the next batch.
    order = [
      begin + (i + k) % (min(begin + size, count) - begin)
      for k in range(size)
      for i, begin in enumerate(begins.tolist())
      if begin + k < count
    ]
    if len(order) >= wanted:
      return set(order[:wanted])
    places += 1  # The last batch has fewer.


def _rows(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
  """The rows of a file, one at a time."""
  try:
    with open(path, encoding="utf-8") as file:
      for number, line in enumerate(file, 1):
        row = _row(line)
        if row is None:
          raise errors.InputError(
            f"{path} is no file of predictions, a JSON object a line (line "
            f"{number}): name the predictions.jsonl that mtlmoe predict wrote"
          )
        yield row
  except OSError as error:
    raise errors.InputError(
      f"{path}: cannot be read ({error.strerror}); name a predictions.jsonl"
    ) from None
  except UnicodeDecodeError:
    raise errors.InputError(
      f"{path} is no text: name the predictions.jsonl that mtlmoe predict wrote"
    ) from None


def _row(line: str) -> dict[str, Any] | None:
  """The row of a line; None: it is none."""
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):
    return None
  if not isinstance(row, dict) or not {"passport", *_ANSWERS} <= row.keys():
    return None
  frame = row.get("frame"), row.get("seconds")
  is_row = (
    isinstance(row.get("id"), str)
    and isinstance(row["passport"], str)
    and _is_number(row["probability"])
    and _is_corners(row["box"])
    and _is_corners(row.get("detection"))
    and all(map(_is_number, frame))
  )
  return row if is_row else None


def _is_number(value: object) -> bool:
  """Whether a value of JSON is a number, or null."""
  return value is None or isinstance(value, (int, float))


def _is_corners(value: object) -> bool:
  """Whether a value of JSON is a box of a row, or null."""
  if value is None:
    return True
  shares = value.get("normalised") if isinstance(value, dict) else None
  return (
    isinstance(shares, list)
    and len(shares) == 4
    and all(isinstance(share, (int, float)) for share in shares)
  )


def _item(row: Mapping[str, Any], folder: str) -> Item:
  detection = None
  found = row.get("detection")
  if found is not None:
    detection = Detection(
      tuple(found["normalised"]),
      found.get("confidence"),
      found.get("category"),
    )
  path = os.path.join(folder, row["id"])
  is_blank = row.get("detection", row) is None
  return Item(path, detection, row.get("frame"), row.get("seconds"), is_blank)


def _changed(
  then: Mapping[str, Any], now: Mapping[str, Any]
) -> tuple[str, ...]:
  """A line about each fact of a passport that is not as it was."""
  old, new = _flat(then), _flat(now)
  return tuple(
    f"{name}: {old.get(name)} then, {new[name]} now"
    for name in new
    if old.get(name) != new[name]
  )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat


def _verdict(
  count: int,
  pairs: Sequence[Sequence[Mapping[str, Any]]],
  changed: tuple[str, ...],
) -> Verdict:
  equal, classes, probability, box = 0, 0, 0.0, 0.0
  examples = []
  for then, now in pairs:
    if all(then[name] == now[name] for name in _ANSWERS):
      equal += 1
      continue
    examples.append(_difference(then, now))
    classes += then["class"] != now["class"]
    if then["probability"] is not None and now["probability"] is not None:
      apart = abs(then["probability"] - now["probability"])
      probability = max(probability, apart)
    if then["box"] and now["box"]:
      sides = zip(then["box"]["normalised"], now["box"]["normalised"])
      box = max(box, *(abs(a - b) for a, b in sides))
  return Verdict(
    count,
    len(pairs),
    equal,
    classes,
    probability,
    box,
    changed,
    tuple(examples[:3]),
  )


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
  """One line about a row that is not as it was."""
  said = [
    f"{name} {then[name]!r} then, {now[name]!r} now"
    for name in ("error", "width", "height", "class", "probability")
    if then[name] != now[name]
  ]
  for name in ("box", "experts", "top5"):
    if then[name] != now[name]:
      said.append(f"{name} differs")
  return f"{then['id']}: {'; '.join(said)}"
