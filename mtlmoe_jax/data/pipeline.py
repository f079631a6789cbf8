"""Batches: endless and shuffled to train, complete and in order to evaluate.

Letters: B images of a batch, H = W = `config.data.image_size`.
A batch is a dict of numpy arrays (`eval_batches` may add frames to it):
  image u8 [B, H, W, 3] RGB (8 bits on purpose: a quarter of the transfer; the
  model normalises), label i32 [B], box f32 [B, 4] xyxy normalised to the frame,
  has_label, has_box, valid bool [B], index i32 [B] (position in the source;
  -1 for padding).
"""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import ml_collections
import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data import augment, windows
from mtlmoe_jax.data.feature_store import Views
from mtlmoe_jax.data.frames import Batch, eval_frames, pad
from mtlmoe_jax.data.source import Concat, Source

# A record as a batch has it: with its index, and frames or features.
Example = dict[str, Any]
# Names and types of what a batch holds beside `valid`.
_COLUMNS = {
  "image": np.uint8,
  "label": np.int32,
  "box": np.float32,
  "has_label": np.bool_,
  "has_box": np.bool_,
  "index": np.int32,
  "features": np.float16,  # these of `Views` alone
  "gate_features": np.float16,
  "crops": np.uint8,  # these of `eval_frames` alone
  "windows": np.float32,
  "large": np.uint8,
}
# Tells the order of the extra records from that of the main ones.
_OTHERS = 2**31
# Most images that a thread makes at a time.
_PIECE = 8


@dataclasses.dataclass(frozen=True)
class ProcessSlice:
  """The rows of each batch that one process makes.

  Attributes:
    index: which of the equal parts, from 0.
    count: how many parts.
  """

  index: int = 0
  count: int = 1


_WHOLE = ProcessSlice()


def epoch_images(
  source: Source,
  config: ml_collections.ConfigDict,
  extra: Source | None = None,
) -> int:
  """Images of an epoch: all of `source`, and some of `extra`.

  Args:
    source: training records.
    config: the whole config; `data.extra.share` is used.
    extra: further records; so many (rounded, at least one) that they are the
      share of the epoch.
  """
  count = len(source)
  if extra is None:
    return count
  share = config.data.extra.share
  return count + max(1, round(count * share / (1 - share)))


def train_iterator(
  source: Source,
  config: ml_collections.ConfigDict,
  batch_size: int,
  extra: Source | None = None,
  part: ProcessSlice = _WHOLE,
) -> "TrainBatches":
  """Endless augmented batches.

  Every epoch has each record once, in an order of its own; a batch may end one
  epoch and begin the next, so nothing is dropped. Order and augmentation
  depend on `config.seed` alone, not on the number of threads or processes.

  Records of `extra` are scattered among them (see `epoch_images`); each comes
  once before one comes again, however many epochs that takes.

  Args:
    source: training records.
    config: the whole config; `seed` and `data` are used.
    batch_size: B.
    extra: further records with the same class names; their `index` goes on
      behind that of `source`.
    part: of each batch, the rows to make.

  Returns:
    An iterator of batches, or of this part of them.

  Raises:
    InputError: an empty source; while iterating: a file that cannot be read.
  """
  if not len(source):
    raise errors.InputError(f"the training split of {source.name} is empty")
  order = _Order(len(source), config.seed)
  if extra is not None:
    drawn = epoch_images(source, config, extra) - len(source)
    order = _MixedOrder(len(source), drawn, len(extra), config.seed)
    source = Concat([source, extra])

  def row(position: int) -> Example:
    return _augmented(source, order[position], position, config)

  return TrainBatches(row, config, batch_size, part)


def view_batches(
  source: Source, config: ml_collections.ConfigDict, batch_size: int
) -> Iterator[Batch]:
  """`config.features.views` augmented views of all records, view after view.

  Args:
    source: training records.
    config: the whole config; `seed`, `data` and `features` are used.
    batch_size: B; the last batch is filled up with rows of valid = False.

  Yields:
    ceil(views n / B) batches.

  Raises:
    InputError: a file that cannot be read.
  """

  def row(position: int) -> Example:
    return _augmented(source, position % len(source), position, config)

  count = len(source) * config.features.views
  for batch in _batches(row, count, config, batch_size):
    yield pad(batch, batch_size)


def views_iterator(
  views: Views, config: ml_collections.ConfigDict, batch_size: int
) -> "TrainBatches":
  """As `train_iterator`, of views that were made before.

  Each epoch has one view of each record; after as many epochs as there are
  views the first comes again.

  Args:
    views: with features.
    config: the whole config; `seed` and `data` are used.
    batch_size: B.

  Returns:
    An iterator of batches with `features` f16 [B, ...].
  """
  order = _Order(views.records, config.seed)

  def row(position: int) -> Example:
    epoch = position // views.records
    return views.row(epoch % views.views, order[position])

  return TrainBatches(row, config, batch_size)


def eval_batches(
  source: Source, config: ml_collections.ConfigDict, batch_size: int
) -> Iterator[Batch]:
  """All records once, in order, whole images resized to the frame.

  Args:
    source: records.
    config: the whole config; `data` and `eval` are used.
    batch_size: B; the last batch is filled up with rows of valid = False.

  Yields:
    ceil(len(source) / B) batches; with crops in `config.eval.views` they also
    have `crops` u8 [B, 5, H, W, 3] and `windows` f32 [B, 5, 4], with zoom
    `large` u8 [B, 2 H, 2 W, 3], see `eval_frames`.

  Raises:
    InputError: a file that cannot be read.
  """

  def row(index: int) -> Example:
    record = source[index]
    return {**record, **eval_frames(record["image"], config), "index": index}

  if not len(source):
    return
  for batch in _batches(row, len(source), config, batch_size):
    yield pad(batch, batch_size)


class TrainBatches:
  """An endless iterator of batches whose state is how many it has given.

  So its state means the same to any number of processes.
  """

  def __init__(
    self,
    row: Callable[[int], Example],
    config: ml_collections.ConfigDict,
    batch_size: int,
    part: ProcessSlice = _WHOLE,
  ) -> None:
    if batch_size % part.count:
      raise errors.InputError(
        f"config.batch_size={batch_size} does not divide over {part.count} "
        "processes"
      )
    self._size = batch_size // part.count
    first = part.index * self._size

    def own(position: int) -> Example:
      batch, place = divmod(position, self._size)
      return row(batch * batch_size + first + place)

    self._dataset = _batches(own, sys.maxsize, config, self._size)
    self._iterator, self._given = iter(self._dataset), 0

  def __iter__(self) -> "TrainBatches":
    return self

  def __next__(self) -> Batch:
    batch = next(self._iterator)
    self._given += 1
    return batch

  def get_state(self) -> dict[str, int]:
    """A few bytes for `set_state`."""
    return {"batches": self._given}

  def set_state(self, state: dict[str, int]) -> None:
    """Goes on where an iterator with this state would, with the same bits."""
    pieces = self._size // _piece(self._size)
    if "batches" in state:
      self._given = state["batches"]
    else:  # Of an earlier version, by one process: Grain's own.
      self._given = state["next_index"] // pieces
    self._iterator = iter(self._dataset)
    self._iterator.set_state({"next_index": self._given * pieces})


def num_batches(source: Source, batch_size: int) -> int:
  """How many batches `eval_batches` yields."""
  return math.ceil(len(source) / batch_size)


def _augmented(
  source: Source, index: int, position: int, config: ml_collections.ConfigDict
) -> Example:
  """A record under the augmentation of a position in the stream."""
  record = source[index]
  random = np.random.Generator(np.random.Philox(key=(config.seed, position)))
  window = None
  if config.data.objects == "each" and record["has_box"]:
    size = record["image"].shape[:2]
    seen = windows.training_window(random, record["box"], size)
    record = windows.cropped(record, seen)
    window = (0, 0, record["image"].shape[1], record["image"].shape[0])
  image, box = augment.augment(
    record, random, config.data.image_size, config.data.augment, window
  )
  return {**record, "image": image, "box": box, "index": index}


class _Order:
  """An endless sequence of positions: each epoch has all, in its own order.

  Grain's `shuffle` needs no memory, but its time grows as the data set gets
  small (0.1 ms a record at 300 of them, half as long as a crop); this takes 8
  bytes a record.
  """

  def __init__(self, length: int, *seed: int) -> None:
    self._length, self._seed = length, seed
    # Batches ahead may belong to the next epoch already.
    self._order = functools.lru_cache(maxsize=2)(self._shuffled)

  def _shuffled(self, epoch: int) -> np.ndarray:
    random = np.random.default_rng((*self._seed, epoch))
    return random.permutation(self._length)

  def __getitem__(self, position: int) -> int:
    epoch, place = divmod(position, self._length)
    return int(self._order(epoch)[place])


class _MixedOrder(_Order):
  """Each epoch has all positions of a source and the next few of another.

  Those of the other one (`drawn` an epoch, of `others`) are counted on behind
  the source and have an order of their own, which runs on over epochs.
  """

  def __init__(self, length: int, drawn: int, others: int, seed: int) -> None:
    super().__init__(length + drawn, seed)
    self._first, self._drawn = length, drawn
    self._others = _Order(others, seed, _OTHERS)

  def _shuffled(self, epoch: int) -> np.ndarray:
    order = super()._shuffled(epoch)
    start = epoch * self._drawn
    others = [self._others[start + i] for i in range(self._drawn)]
    order[order >= self._first] = self._first + np.array(others)
    return order


class _Pieces:
  """Batches in equal pieces: what one thread makes at a time.

  Handing over image by image costs as much as resampling them.
  """

  def __init__(
    self, row: Callable[[int], Example], length: int, size: int
  ) -> None:
    self._row, self._length, self._size = row, length, size

  def __len__(self) -> int:
    # In integers: a float cannot hold the length of an endless source.
    return -(-self._length // self._size)

  def __getitem__(self, index: int) -> Batch:
    start = index * self._size
    stop = min(start + self._size, self._length)
    rows = [self._row(index) for index in range(start, stop)]
    piece: Batch = {
      name: np.array([row[name] for row in rows], dtype)
      for name, dtype in _COLUMNS.items()
      if name in rows[0]
    }
    return {**piece, "valid": np.ones(len(rows), np.bool_)}


def _batches(
  row: Callable[[int], Example],
  length: int,
  config: ml_collections.ConfigDict,
  batch_size: int,
) -> grain.IterDataset:
  size = _piece(batch_size)
  pieces = batch_size // size
  # Threads, never processes: decoding and resizing release Python's lock, and
  # the cache is shared. Two batches ahead keep the device busy.
  threads = config.data.threads
  options = grain.ReadOptions(
    num_threads=threads, prefetch_buffer_size=max(threads, 2 * pieces)
  )
  dataset = grain.MapDataset.source(_Pieces(row, length, size))
  return dataset.to_iter_dataset(options).batch(
    pieces, drop_remainder=False, batch_fn=_concatenate
  )


def _piece(batch_size: int) -> int:
  """Images that a thread makes at a time: a divisor of the batch."""
  return max(n for n in range(1, _PIECE + 1) if batch_size % n == 0)


def _concatenate(pieces: Sequence[Batch]) -> Batch:
  if len(pieces) == 1:
    return pieces[0]
  return {
    name: np.concatenate([piece[name] for piece in pieces])
    for name in pieces[0]
  }
