"""From a config to the three sources of a run."""

import dataclasses
import os

import ml_collections
import numpy as np

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.data import cache, cub, folder, splits, synthetic, tfds
from mtlmoe_jax.data.file_source import Whole
from mtlmoe_jax.data.problems import Problems
from mtlmoe_jax.data.source import Concat, Source, Subset, fingerprint


@dataclasses.dataclass(frozen=True)
class Data:
  """The data of a run.

  Attributes:
    train: training records.
    validation: records that choose the best checkpoint, or None.
    test: test records.
    class_names: name of each label.
    fingerprint: sha256 (hex) of all splits.
  """

  train: Source
  validation: Source | None
  test: Source
  class_names: tuple[str, ...]
  fingerprint: str


def open_data(config: ml_collections.ConfigDict) -> Data:
  """Opens, splits and caches the data set of a config.

  All annotations and image headers are read and checked here, so that a bad
  row is told before training begins; pixels are decoded when they are used.

  Args:
    config: the whole config; `data`, `seed` and `model.tasks` are used.

  Returns:
    The splits, with labels 0, 1, ... in the order of the chosen classes.

  Raises:
    InputError: anything wrong with the path, a file, a row or an option.
  """
  return split_data(config, open_whole(config, Problems()))


def open_whole(config: ml_collections.ConfigDict, problems: Problems) -> Whole:
  """Opens the data set itself, without scheme, subset and cache.

  Args:
    config: the whole config.
    problems: where mistakes in rows and files are reported.

  Returns:
    All records and the official splits.

  Raises:
    InputError: what makes it impossible to open.
  """
  data = config.data
  if data.name == "synthetic":
    train, test = synthetic.open_splits(data.synthetic)
    total = len(train) + len(test)
    return Whole(
      Concat([train, test]),
      {
        "train": np.arange(len(train)),
        "test": np.arange(len(train), total),
      },
    )
  if not data.path:
    raise errors.InputError(
      f"config.data.path is empty: data.name={data.name!r} needs the folder "
      "of the data set"
    )
  # A shell leaves the ~ of --config.data.path=~/birds alone.
  path = os.path.expanduser(data.path)
  if data.name == "cub":
    return cub.open_cub(path, problems)
  if data.name == "folder":
    return folder.open_folder(path, problems)
  if data.name == "tfds":
    need_box = "box" in config_lib.tasks_of(config)
    return tfds.open_tfds(path, data.tfds_name, need_box, problems)
  raise errors.InputError(
    f"config.data.name={data.name!r}: must be one of "
    f"{', '.join(config_lib.DATA_NAMES)}"
  )


def split_data(config: ml_collections.ConfigDict, whole: Whole) -> Data:
  """Applies split scheme, class subset, validation and cache.

  Args:
    config: the whole config.
    whole: what `open_whole` gave.

  Returns:
    The splits.

  Raises:
    InputError: a bad subset, or a split without images.
  """
  data, source = config.data, whole.source
  chosen = splits.choose_classes(source.class_names, data.classes)
  if data.split_scheme == "poster":
    train, test = splits.poster_split(source.labels)
    parts = {"train": train, "test": test}
  else:
    parts = dict(whole.official)
  if len(chosen) < len(source.class_names):
    parts = {
      name: index[np.isin(source.labels[index], chosen)]
      for name, index in parts.items()
    }
  validation = parts.pop("validation", None)
  if data.validation_fraction <= 0:
    validation = None
  elif validation is None or not len(validation):
    kept, held = splits.hold_out(
      source.labels[parts["train"]], data.validation_fraction, config.seed
    )
    validation = parts["train"][held] if len(held) else None
    parts["train"] = parts["train"][kept]
  for name, index in parts.items():
    if not len(index):
      raise errors.InputError(
        f"the {name} split is empty: config.data.name={data.name!r}, "
        f"classes={data.classes!r} and split_scheme={data.split_scheme!r} "
        "leave no image; choose other classes or another scheme"
      )
  names = tuple(source.class_names[label] for label in chosen)
  new_label = {old: new for new, old in enumerate(chosen)}
  budget = cache.Budget(data.cache_gib)

  def view(index: np.ndarray) -> Source:
    subset = Subset(source, index, names, new_label)
    return cache.CachedSource(subset, 2 * data.image_size, budget)

  out = {name: view(index) for name, index in parts.items()}
  held_out = None if validation is None else view(validation)
  return Data(
    out["train"],
    held_out,
    out["test"],
    names,
    fingerprint(
      out["train"].fingerprint,
      held_out.fingerprint if held_out else "",
      out["test"].fingerprint,
    ),
  )
