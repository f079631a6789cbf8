"""Data: sources, splits, augmentation and batches."""

from mtlmoe_jax.data.frames import closer_frames, eval_frames
from mtlmoe_jax.data.images import load_image
from mtlmoe_jax.data.opening import (
  Data,
  open_again,
  open_data,
  unlearnable,
  untrained,
)
from mtlmoe_jax.data.pipeline import (
  Batch,
  ProcessSlice,
  epoch_images,
  eval_batches,
  num_batches,
  train_iterator,
  views_iterator,
)
from mtlmoe_jax.data.resampling import resize
from mtlmoe_jax.data.source import Record, Source, Subset

__all__ = [
  "Batch",
  "Data",
  "ProcessSlice",
  "Record",
  "Source",
  "Subset",
  "closer_frames",
  "epoch_images",
  "eval_batches",
  "eval_frames",
  "load_image",
  "num_batches",
  "open_again",
  "open_data",
  "resize",
  "train_iterator",
  "unlearnable",
  "untrained",
  "views_iterator",
]
