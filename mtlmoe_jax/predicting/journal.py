"""What has been predicted so far, so that a kill loses no more than a batch.

A folder inside the output folder, `.predict`, holds `about.json` (what the
predictions are of) and `rows.jsonl`, a line for each item as it is done: its
key, how its batch looked, its row. The same command reads them and goes on with
what is missing; at its end the folder is removed. Of each item no more than a
number is kept in memory.
"""

import datetime
import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from mtlmoe_jax.utils import files

FOLDER = ".predict"
# Rows reach the disk at least that often; a kill alone loses none of them.
_SYNC_SECONDS = 2.0

Row = dict[str, Any]


class Journal:
  """The rows of a prediction, in a file, by the number of their item.

  Attributes:
    begun: when it was begun, ISO 8601 with its zone.
    discarded: whether rows of another prediction were there.
  """

  def __init__(
    self,
    out: pathlib.Path,
    keys: Sequence[str],
    signatures: Sequence[str],
    about: Mapping[str, Any],
  ):
    """Opens or begins the journal of an output folder.

    Args:
      out: the output folder, which is there.
      keys: of each item, all different.
      signatures: how the file of each looks now, and its batch: a row of
        another is not taken.
      about: what rows depend on; rows of another are not taken.
    """
    self._folder = out / FOLDER
    self._keys, self._signatures = keys, signatures
    self._path = self._folder / "rows.jsonl"
    # Where the row of each item begins; -1: it is not there.
    self._places = np.full(len(keys), -1, np.int64)
    self.begun, self.discarded = "", False
    self._begin(about)
    self._read()
    self._file = open(self._path, "ab")  # noqa: SIM115
    self._end = self._file.tell()
    self._synced = time.monotonic()

  def _begin(self, about: Mapping[str, Any]) -> None:
    """Removes what is of another prediction."""
    record = self._folder / "about.json"
    facts = files.plain(dict(about))
    try:
      found = json.loads(record.read_text("utf-8"))
      self.begun = str(found["begun"])
      same = found["about"] == facts
    except (OSError, ValueError, KeyError, TypeError):
      same = False
    if not same:
      self.discarded = self._path.exists() and self._path.stat().st_size > 0
      self._path.unlink(missing_ok=True)
      now = datetime.datetime.now().astimezone()
      self.begun = now.isoformat(timespec="seconds")
      files.write_json(record, {"begun": self.begun, "about": facts})

  def _read(self) -> None:
    """Finds the rows that are there; cuts a line that a kill left half."""
    if not self._path.exists():
      return
    numbers = {key: i for i, key in enumerate(self._keys)}
    place = 0
    with open(self._path, "rb+") as file:
      for line in file:
        try:
          key, signature, _ = json.loads(line)
        except ValueError:
          break
        if not line.endswith(b"\n"):
          break
        number = numbers.get(key)
        if number is not None and self._signatures[number] == signature:
          self._places[number] = place
        place += len(line)
      file.truncate(place)

  @property
  def done(self) -> int:
    """How many items have a row."""
    return int((self._places >= 0).sum())

  def has(self, number: int) -> bool:
    """Whether an item has a row."""
    return bool(self._places[number] >= 0)

  def append(self, rows: Sequence[tuple[int, Row]]) -> None:
    """Adds the rows of some items.

    Args:
      rows: (number of the item, its row), JSON values.
    """
    for number, row in rows:
      entry = [self._keys[number], self._signatures[number], row]
      line = json.dumps(entry, allow_nan=False).encode() + b"\n"
      self._file.write(line)
      self._places[number] = self._end
      self._end += len(line)
    self._file.flush()
    now = time.monotonic()
    if now - self._synced > _SYNC_SECONDS:
      os.fsync(self._file.fileno())
      self._synced = now

  def rows(self) -> Iterator[Row]:
    """The rows there are, in the order of the items, one at a time."""
    with open(self._path, "rb") as file:
      for place in self._places.tolist():
        if place >= 0:
          file.seek(place)
          yield json.loads(file.readline())[2]

  def close(self) -> None:
    """Ends writing; what is there stays."""
    if not self._file.closed:
      self._file.flush()
      os.fsync(self._file.fileno())
      self._file.close()

  def remove(self) -> None:
    """Ends it for good."""
    self.close()
    shutil.rmtree(self._folder, ignore_errors=True)

  def __enter__(self) -> "Journal":
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    self.close()
