"""Everything that is wrong with a data set, in one go."""

import collections
import concurrent.futures
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data import leaks, opening
from mtlmoe_jax.data.readers.problems import Problems
from mtlmoe_jax.data.source import Record, Source
from mtlmoe_jax.utils.progress import Progress


@dataclasses.dataclass(frozen=True)
class Report:
  """What `check` sees.

  Attributes:
    problems: one line each; empty: the data set is fine.
    text: counts and statistics, several lines.
    source: the whole data set; None where it cannot be opened.
    readable: positions of the images that can be decoded.
    data: its splits; None where it cannot be split.
    records: of the readable images, without their pixels.
    looks: what `look` said of each of them.
    notes: lines that tell what else was there, and what became of it.
  """

  problems: list[str]
  text: str
  source: Source | None = None
  readable: Sequence[int] = ()
  data: opening.Data | None = None
  records: Sequence[Record] = ()
  looks: Sequence[Any] = ()
  notes: Sequence[str] = ()


def check(
  config: ml_collections.ConfigDict,
  look: Callable[[np.ndarray], Any] | None = None,
) -> Report:
  """Opens, splits and decodes everything, without stopping at a mistake.

  Args:
    config: the whole config.
    look: called with the pixels of every image that can be read, from several
      threads; None: nobody looks.

  Returns:
    The problems, class counts and box statistics.
  """
  problems = Problems(collect=True)
  sections: list[str] = []
  source: Source | None = None
  good: list[int] = []
  records: list[Record] = []
  looks: dict[int, Any] = {}
  notes: tuple[str, ...] = ()

  def seen(index: int, image: np.ndarray) -> None:
    looks[index] = look(image) if look else None

  def report(data: opening.Data | None = None) -> Report:
    text = "\n".join(sections)
    saw = [looks[i] for i in good]
    return Report(
      problems.messages, text, source, good, data, records, saw, notes
    )

  try:
    whole = opening.open_whole(config, problems)
    source, notes = whole.source, (*whole.recognised, *whole.notes)
    good, records = decode_all(source, config.data.threads, problems, seen)
    sections.append(_boxes_text(records))
    sections += _attributes_text(records)
    extra = opening.open_extra(config, problems)
    if extra is not None:
      _, others = decode_all(extra, config.data.threads, problems)
      sections.append("extra " + _boxes_text(others))
    data = opening.split_data(config, whole, extra)
  except errors.InputError as error:
    # Nothing to split; what was seen so far is still reported.
    problems(str(error))
    return report()
  splits = {"train": data.train, "test": data.test}
  if data.validation is not None:
    splits["validation"] = data.validation
  if data.extra is not None:
    splits["extra"] = data.extra
  sections.insert(0, _counts_text(data.class_names, splits))
  sections[1:1] = notes = (*data.recognised, *data.notes)
  for line in opening.untrained(data):
    problems(line)
  lines = opening.unlearnable(config, data)
  if "class" in lines:
    problems(lines["class"])
  if "box" in lines:  # No mistake of the data: nobody need have boxes.
    sections.append(f"note: {lines['box']}")
    notes += (lines["box"],)
  leaked = leaks.told(config, data)
  sections += leaked
  notes += tuple(line.strip() for line in leaked)
  sections.append(f"fingerprint: {data.fingerprint}")
  return report(data)


def decode_all(
  source: Source,
  threads: int,
  problems: Problems,
  seen: Callable[[int, np.ndarray], None] | None = None,
) -> tuple[list[int], list[Record]]:
  """Decodes every image.

  Args:
    source: of the images.
    threads: that decode side by side.
    problems: where those that cannot be read are reported.
    seen: called with position and pixels of each that can be read.

  Returns:
    Positions of the good ones, and their records without the image.

  Raises:
    InputError: the first that cannot be read, unless `problems` collects.
  """

  def one(index: int) -> Record | errors.InputError:
    try:
      record = source[index].copy()
    except errors.InputError as error:
      return error
    if seen is not None:
      seen(index, record["image"])
    # A data set need not fit into memory.
    record["image"] = np.empty((0, 0, 3), np.uint8)
    return record

  good, records = [], []
  with (
    concurrent.futures.ThreadPoolExecutor(threads) as pool,
    Progress(len(source), unit="image", label="decoding") as progress,
  ):
    for index, result in enumerate(pool.map(one, range(len(source)))):
      progress.update()
      if isinstance(result, errors.InputError):
        problems(str(result))
        continue
      good.append(index)
      records.append(result)
  return good, records


def _counts_text(
  class_names: tuple[str, ...], splits: dict[str, Source]
) -> str:
  counts = {
    name: collections.Counter(part.labels.tolist())
    for name, part in splits.items()
  }
  width = max(5, *(len(name) for name in class_names))
  lines = [f"{'class':{width}s} " + " ".join(f"{name:>10s}" for name in splits)]
  for label, name in enumerate(class_names):
    numbers = " ".join(f"{counts[s][label]:10d}" for s in splits)
    lines.append(f"{name:{width}s} {numbers}")
  totals = " ".join(f"{len(part):10d}" for part in splits.values())
  lines.append(f"{'all':{width}s} {totals}")
  return "\n".join(lines)


def _attributes_text(records: Sequence[Record]) -> list[str]:
  """Of text attributes: how many values, and of how many images."""
  lines = []
  known_of = records[0].get("attributes", {}) if records else {}
  for name, first in known_of.items():
    if not isinstance(first, str):
      continue
    values = [record["attributes"][name] for record in records]
    known = [value for value in values if value]
    lines.append(
      f"attribute {name}: {len(set(known))} value(s), known of {len(known)} of "
      f"{len(values)} readable images"
    )
  return lines


def _boxes_text(records: Sequence[Record]) -> str:
  boxes = np.asarray(
    [record["box"] for record in records if record["has_box"]], np.float64
  ).reshape(-1, 4)
  lines = [f"boxes: {len(boxes)} of {len(records)} readable images"]
  if len(boxes):
    sides = boxes[:, 2:] - boxes[:, :2]
    rows = {
      "x centre": (boxes[:, 0] + boxes[:, 2]) / 2,
      "y centre": (boxes[:, 1] + boxes[:, 3]) / 2,
      "width": sides[:, 0],
      "height": sides[:, 1],
      "area": sides.prod(1),
    }
    lines.append("share of image    mean     min  median     max")
    for name, v in rows.items():
      lines.append(
        f"{name:14s} {v.mean():7.3f} {v.min():7.3f} {np.median(v):7.3f} "
        f"{v.max():7.3f}"
      )
  return "\n".join(lines)
