"""This package's input pipeline as a contestant."""

from collections.abc import Callable

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data
from shapes import BATCHES


def batches(
  folder: str, size: int, batch: int, cache: bool
) -> tuple[Callable[[], None], dict]:
  """`BATCHES` batches of random crops with boxes, flipped half of the time.

  Args:
    folder: of images and boxes.csv.
    size: side of the crops.
    batch: images of a batch.
    cache: decoded images are kept, and all are decoded before the first run;
      else each is decoded each time.
  """
  config = config_lib.default_config()
  for key, value in {
    "data.name": "folder",
    "data.path": folder,
    "data.image_size": size,
    "data.validation_fraction": 0.0,
    "data.cache_gib": 2.0 if cache else 0.0,
    "data.threads": 2,
    "data.augment.brightness": 0.0,
    "data.augment.contrast": 0.0,
    "data.augment.saturation": 0.0,
  }.items():
    config_lib.set_path(config, key, value)
  config_lib.check_config(config)
  train = data.open_data(config).train
  if cache:
    for index in range(len(train)):
      train[index]
  iterator = data.train_iterator(train, config, batch)

  def run() -> None:
    for _ in range(BATCHES):
      next(iterator)

  return run, {"images": BATCHES * batch}
