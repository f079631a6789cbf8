"""Data: sources, splits, augmentation and batches.

Names are loaded when they are used first: to predict needs no pipeline.
"""

from typing import TYPE_CHECKING

from mtlmoe_jax.utils import lazy

if TYPE_CHECKING:
  from mtlmoe_jax.data.frames import Batch, closer_frames, eval_frames
  from mtlmoe_jax.data.images import load_image
  from mtlmoe_jax.data.opening import (
    Data,
    open_again,
    open_data,
    unlearnable,
    untrained,
  )
  from mtlmoe_jax.data.pipeline import (
    ProcessSlice,
    epoch_images,
    eval_batches,
    num_batches,
    train_iterator,
    views_iterator,
  )
  from mtlmoe_jax.data.resampling import resize
  from mtlmoe_jax.data.source import Record, Source, Subset

_NAMES = {
  "Batch": "frames",
  "Data": "opening",
  "ProcessSlice": "pipeline",
  "Record": "source",
  "Source": "source",
  "Subset": "source",
  "closer_frames": "frames",
  "epoch_images": "pipeline",
  "eval_batches": "pipeline",
  "eval_frames": "frames",
  "load_image": "images",
  "num_batches": "pipeline",
  "open_again": "opening",
  "open_data": "opening",
  "resize": "resampling",
  "train_iterator": "pipeline",
  "unlearnable": "opening",
  "untrained": "opening",
  "views_iterator": "pipeline",
}
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

__getattr__, __dir__ = lazy.members(__name__, names=_NAMES)
