"""Batches: endless and shuffled to train, complete and in order to evaluate.

Letters: B images of a batch, H = W = `config.data.image_size`.
A batch is a dict of numpy arrays:
  image u8 [B, H, W, 3] RGB (8 bits on purpose: a quarter of the transfer; the
  model normalises), label i32 [B], box f32 [B, 4] xyxy normalised to the frame,
  has_label, has_box, valid bool [B], index i32 [B] (position in the source;
  -1 for padding).
"""

import math
from collections.abc import Iterator

import grain
import ml_collections
import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data import augment, images
from mtlmoe_jax.data.source import Record, Source

Batch = dict[str, np.ndarray]


def train_iterator(
  source: Source, config: ml_collections.ConfigDict, batch_size: int
) -> grain.DatasetIterator:
  """Endless augmented batches.

  Every epoch has each record once, in an order of its own; a batch may end one
  epoch and begin the next, so nothing is dropped. Order and augmentation
  depend on `config.seed` alone, not on the number of threads. `get_state()`
  is a few bytes, and `set_state()` goes on with the same bits.

  Args:
    source: training records.
    config: the whole config; `seed` and `data` are used.
    batch_size: B.

  Returns:
    An iterator of batches.

  Raises:
    InputError: an empty source; while iterating: a file that cannot be read.
  """
  if not len(source):
    raise errors.InputError(f"the training split of {source.name} is empty")
  size, options = config.data.image_size, config.data.augment

  def transform(item: tuple[int, Record], random: np.random.Generator) -> Batch:
    index, record = item
    return _element(
      index, record, *augment.augment(record, random, size, options)
    )

  dataset = (
    grain.MapDataset.source(_Indexed(source))
    .seed(config.seed)
    .shuffle()
    .repeat()
    # After `repeat`, so that each epoch sees other crops.
    .random_map(transform)
    .to_iter_dataset(_read_options(config, batch_size))
    .batch(batch_size, drop_remainder=True)
  )
  return iter(dataset)


def eval_batches(
  source: Source, config: ml_collections.ConfigDict, batch_size: int
) -> Iterator[Batch]:
  """All records once, in order, whole images resized to the frame.

  Args:
    source: records.
    config: the whole config; `data` is used.
    batch_size: B; the last batch is filled up with rows of valid = False.

  Yields:
    ceil(len(source) / B) batches.

  Raises:
    InputError: a file that cannot be read.
  """
  size = config.data.image_size

  def transform(item: tuple[int, Record]) -> Batch:
    index, record = item
    frame = images.resize(record["image"], size)
    return _element(index, record, frame, record["box"])

  if not len(source):
    return
  dataset = (
    grain.MapDataset.source(_Indexed(source))
    .map(transform)
    .to_iter_dataset(_read_options(config, batch_size))
    .batch(batch_size, drop_remainder=False)
  )
  for batch in dataset:
    yield pad(batch, batch_size)


def num_batches(source: Source, batch_size: int) -> int:
  """How many batches `eval_batches` yields."""
  return math.ceil(len(source) / batch_size)


def pad(batch: Batch, batch_size: int) -> Batch:
  """Fills a batch up with rows that are not valid.

  Args:
    batch: arrays with at most `batch_size` rows.
    batch_size: B.

  Returns:
    Arrays with B rows; added ones are zero, with label and index -1.
  """
  missing = batch_size - len(batch["valid"])
  if not missing:
    return batch

  def filled(name: str, value: np.ndarray) -> np.ndarray:
    rows = np.zeros((missing, *value.shape[1:]), value.dtype)
    if name in ("label", "index"):
      rows -= 1
    return np.concatenate([value, rows])

  return {name: filled(name, value) for name, value in batch.items()}


class _Indexed:
  """A source whose items tell their position."""

  def __init__(self, source: Source):
    self._source = source

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> tuple[int, Record]:
    return index, self._source[index]

  def __repr__(self) -> str:
    return f"{self._source.name}[{len(self)}]"


def _element(
  index: int, record: Record, image: np.ndarray, box: np.ndarray
) -> Batch:
  return {
    "image": image,
    "label": np.int32(record["label"]),
    "box": np.asarray(box, np.float32),
    "has_label": np.bool_(record["has_label"]),
    "has_box": np.bool_(record["has_box"]),
    "valid": np.bool_(True),
    "index": np.int32(index),
  }


def _read_options(
  config: ml_collections.ConfigDict, batch_size: int
) -> grain.ReadOptions:
  # Threads, never processes: decoding and resizing release Python's lock, and
  # the cache is shared. Two batches ahead keep the device busy.
  return grain.ReadOptions(
    num_threads=config.data.threads, prefetch_buffer_size=2 * batch_size
  )
