"""From a config to the sources of a run."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.data import cache, membership, split_files, splits, windows
from mtlmoe_jax.data import groups as groups_lib
from mtlmoe_jax.data.drawn import synthetic
from mtlmoe_jax.data.layouts import auto
from mtlmoe_jax.data.readers import tfds
from mtlmoe_jax.data.readers.file_source import FileSource, Whole
from mtlmoe_jax.data.readers.problems import Problems
from mtlmoe_jax.data.shuffled import ShuffledBoxes
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
    extra: further training records, of `config.data.extra`, or None.
    notes: lines that tell what else was there, and what became of it.
    recognised: lines that tell what the data set was read as, by what.
    has_boxes: False where it is known that no training image has one.
    files: the whole data set, where it is one of files.
    groups: i64, of each of `files`, of `config.data.group_by`; None without.
  """

  train: Source
  validation: Source | None
  test: Source
  class_names: tuple[str, ...]
  fingerprint: str
  extra: Source | None = None
  notes: tuple[str, ...] = ()
  recognised: tuple[str, ...] = ()
  has_boxes: bool = True
  files: FileSource | None = None
  groups: np.ndarray | None = None

  def ids(self) -> dict[str, list[str]]:
    """Names of the images of "train", "test" and perhaps "validation"."""
    parts = {"train": self.train, "test": self.test}
    if self.validation is not None:
      parts["validation"] = self.validation
    return {part: source.ids for part, source in parts.items()}

  def write_membership(self, path: str | os.PathLike) -> None:
    """Keeps which image went where, for data sets of files."""
    if self.files is not None:
      membership.write(path, self.ids(), self.files)


def open_data(config: ml_collections.ConfigDict) -> Data:
  """Opens, splits and caches the data set of a config.

  All annotations and image headers are read and checked here, so that a bad
  row is told before training begins; pixels are decoded when they are used.

  Args:
    config: the whole config; `data`, `seed` and `model.tasks` are used.

  Returns:
    The splits, with labels 0, 1, ... in the order of the chosen classes, then
    of those that only the extra data has.

  Raises:
    InputError: anything wrong with the path, a file, a row or an option.
  """
  problems = Problems()
  whole = open_whole(config, problems)
  return split_data(config, whole, open_extra(config, problems))


def open_again(
  config: ml_collections.ConfigDict,
  class_names: Sequence[str],
  images: Sequence[membership.Image],
) -> Data:
  """Opens the data of a run that has ended: no image changes its part.

  Args:
    config: of the run; its `data.path` may be another one.
    class_names: of the run.
    images: of the run, of `membership.read`.

  Returns:
    As `open_data`, with the classes of the run; parts may be empty, and `notes`
    tell what is new, gone or changed.

  Raises:
    InputError: as `open_data`.
  """
  whole = _opened(config, Problems())
  if not isinstance(whole.source, FileSource):
    return split_data(config, open_whole(config, Problems()))
  # A split file knew the images of the run alone, and may be gone.
  has_split = whole.has_split and not config.data.split_file
  own = whole.official if has_split else None
  parts, notes = membership.find(images, whole.source, own)
  labels = {name: i for i, name in enumerate(class_names)}
  known = {
    label: labels[name]
    for label, name in enumerate(whole.source.class_names)
    if name in labels
  }
  is_known = np.isin(whole.source.labels, list(known))
  others = sum(len(p) - int(is_known[p].sum()) for p in parts.values())
  if others:
    notes += (f"{others} images are of classes that the run does not have",)
  parts = {part: index[is_known[index]] for part, index in parts.items()}
  validation: np.ndarray | None = parts.pop("validation")
  if not any(image.part == "validation" for image in images):
    validation = None
  # How it is split now is not how the run has split it.
  whole = dataclasses.replace(
    whole, notes=(*whole.notes, *notes), recognised=()
  )
  return _views(
    config,
    whole,
    parts,
    validation,
    tuple(class_names),
    known,
    is_training=False,
  )


def unlearnable(
  config: ml_collections.ConfigDict, data: Data
) -> dict[str, str]:
  """Why the training images cannot teach a task.

  Args:
    config: the whole config.
    data: of it.

  Returns:
    A line by task, of those that cannot be learned.
  """
  tasks = config_lib.resolve(config)
  lines = {}
  is_single = tasks.has_class and len(data.class_names) == 1
  if is_single and not data.has_boxes:
    lines["class"] = (
      f"there is one class alone, {data.class_names[0]!r}, and no box: nothing "
      "to learn; give a second class, or boxes"
    )
  elif is_single:
    lines["class"] = (
      f"there is one class alone, {data.class_names[0]!r}, and nothing to tell "
      "it from: give at least two, or learn the box alone with "
      "config.model.tasks='box'"
    )
  if tasks.has_box and not data.has_boxes:
    lines["box"] = (
      f"config.model.tasks={config.model.tasks!r}: no training image of "
      f"config.data.path={config.data.path!r} has a box: give boxes.csv, or "
      "learn the class alone with config.model.tasks='class'"
    )
  return lines


def untrained(data: Data) -> list[str]:
  """Lines that tell of classes which no training image shows, but others do."""

  def labels(*parts: Source | None) -> set[int]:
    return {int(i) for part in parts if part is not None for i in part.labels}

  return [
    f"class {data.class_names[label]!r} has no training image: add some or "
    "leave it out with config.data.classes"
    for label in sorted(
      labels(data.validation, data.test) - labels(data.train, data.extra)
    )
    if label >= 0
  ]


def open_whole(config: ml_collections.ConfigDict, problems: Problems) -> Whole:
  """Opens the data set itself, without scheme, groups, subset and cache.

  Args:
    config: the whole config.
    problems: where mistakes in rows and files are reported.

  Returns:
    All records and the official splits, or those of `data.split_file`.

  Raises:
    InputError: what makes it impossible to open.
  """
  whole = _opened(config, problems)
  if config.data.split_file:
    whole = split_files.apply(whole, config.data.split_file, problems)
  return whole


def _opened(config: ml_collections.ConfigDict, problems: Problems) -> Whole:
  data = config.data
  if config_lib.is_drawn(config):
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
  need_box = config_lib.resolve(config).has_box
  if data.name == "tfds":
    return tfds.open_tfds(
      path, data.tfds_name, need_box, data.objects, problems
    )
  return auto.open_layout(
    data, data.name, path, data.images, need_box, problems
  )


def open_extra(
  config: ml_collections.ConfigDict, problems: Problems
) -> Source | None:
  """Opens the data set whose images join training.

  Args:
    config: the whole config.
    problems: where mistakes in rows and files are reported.

  Returns:
    Its training images, or all where it has no split of its own; None without
    `config.data.extra.path`.

  Raises:
    InputError: what makes it impossible to open; a folder that shares images
      with the main one.
  """
  data = config.data
  if not data.extra.path:
    return None
  path = os.path.expanduser(data.extra.path)
  if data.path and not config_lib.is_drawn(config):
    folders = [os.path.realpath(os.path.expanduser(data.path))]
    folders.append(os.path.realpath(path))
    if os.path.commonpath(folders) in folders:
      raise errors.InputError(
        f"config.data.extra.path={data.extra.path!r}: one folder with "
        f"config.data.path={data.path!r}, whose test images would be trained "
        "on; give another data set"
      )
  whole = auto.open_layout(
    data, data.extra.name, path, "", False, problems, "data.extra.path"
  )
  extra = whole.source
  if whole.has_split:
    extra = Subset(extra, whole.official["train"])
  if not len(extra):
    raise errors.InputError(
      f"config.data.extra.path={data.extra.path!r}: no training image there; "
      "give another data set"
    )
  return extra


def split_data(
  config: ml_collections.ConfigDict, whole: Whole, extra: Source | None = None
) -> Data:
  """Applies split scheme, class subset, validation, cache and controls.

  Args:
    config: the whole config.
    whole: what `open_whole` gave.
    extra: what `open_extra` gave.

  Returns:
    The splits.

  Raises:
    InputError: a bad subset, or a split without images.
  """
  data, source = config.data, whole.source
  groups = None
  if data.group_by:
    groups, whole = _grouped(data.group_by, whole)
  elif isinstance(source, FileSource):
    groups = groups_lib.of_images(source)
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
    train = parts["train"]
    labels, ids = source.labels[train], [source.ids[i] for i in train]
    share, seed = data.validation_fraction, config.seed
    if groups is not None:
      kept, positions = splits.hold_out_groups(
        labels, groups[train], share, seed, ids
      )
    else:
      # Drawn images are always the same, and so is their order.
      named = ids if isinstance(source, FileSource) else None
      kept, positions = splits.hold_out(labels, share, seed, named)
    validation = train[positions] if len(positions) else None
    parts["train"] = train[kept]
  for name, index in parts.items():
    if not len(index):
      raise errors.InputError(
        f"the {name} split is empty: config.data.name={data.name!r}, "
        f"classes={data.classes!r} and split_scheme={data.split_scheme!r} "
        "leave no image; choose other classes or another scheme"
      )
  names = tuple(source.class_names[label] for label in chosen)
  new_label = {old: new for new, old in enumerate(chosen)}
  made = _views(config, whole, parts, validation, names, new_label, extra)
  return dataclasses.replace(made, groups=groups)


def group_ids(spec: str, whole: Whole) -> tuple[np.ndarray, tuple[str, ...]]:
  """The groups of a data set of files, see `groups.group_ids`.

  Raises:
    InputError: also where it is none of files.
  """
  if not isinstance(whole.source, FileSource):
    raise errors.InputError(
      f"config.data.group_by={spec!r}: groups are those of image files, and "
      f"data.name={whole.source.name!r} has none; leave it empty"
    )
  return groups_lib.group_ids(whole.source, spec)


def _grouped(spec: str, whole: Whole) -> tuple[np.ndarray, Whole]:
  """The groups, and the data set with whole ones held out for its test."""
  groups, notes = group_ids(spec, whole)
  source = whole.source
  alone = [
    name
    for label, name in enumerate(source.class_names)
    if len(np.unique(groups[source.labels == label])) == 1
  ]
  if not whole.has_split:
    train, test = splits.hold_out_groups(
      source.labels, groups, splits.TEST_SHARE, splits.TEST_SEED, source.ids
    )
    if not len(test):
      raise errors.InputError(
        f"config.data.group_by={spec!r}: no group can be held out, each has "
        "the only images of a class: group otherwise, or give test/ yourself"
      )
    whole = dataclasses.replace(whole, official={"train": train, "test": test})
    if alone:
      notes += (
        f"config.data.group_by={spec!r}: {len(alone)} classes are in one group "
        f"alone and not tested ({alone[0]})",
      )
  return groups, dataclasses.replace(whole, notes=(*whole.notes, *notes))


def _views(
  config: ml_collections.ConfigDict,
  whole: Whole,
  parts: Mapping[str, np.ndarray],
  validation: np.ndarray | None,
  names: tuple[str, ...],
  new_label: dict[int, int],
  extra: Source | None = None,
  is_training: bool = True,
) -> Data:
  """The parts of a data set, cached.

  Args:
    config: the whole config.
    whole: the data set.
    parts: positions of "train" and "test".
    validation: those of the images that choose a checkpoint, or None.
    names: of the classes.
    new_label: label by that of `whole`.
    extra: what `open_extra` gave; its further classes come after `names`.
    is_training: False where all parts are judged, that of training too.
  """
  data, source = config.data, whole.source
  if extra is not None:
    # In the order of their labels; classes without an image are left out.
    there = {int(i): extra.class_names[i] for i in np.unique(extra.labels)}
    names += tuple(name for name in there.values() if name not in names)
    extra_label = {old: names.index(name) for old, name in there.items()}
  budget = cache.Budget(data.cache_gib)
  is_windowed = data.objects == "each" and not config_lib.is_drawn(config)

  def view(
    source: Source,
    index: np.ndarray,
    label_map: dict[int, int],
    is_trained_on: bool,
  ) -> Source:
    seen: Source = Subset(source, index, names, label_map)
    side = 2 * data.image_size
    if is_windowed:
      # A window of training is a part of what is kept: that has more pixels.
      side = 3 * data.image_size
      seen = windows.Windows(seen, is_trained_on)
    return cache.CachedSource(seen, side, budget)

  out = {
    name: view(source, index, new_label, is_training and name == "train")
    for name, index in parts.items()
  }
  if data.shuffle_boxes and len(out["train"]):
    # Outside the cache, which has the images that are read for their boxes.
    out["train"] = ShuffledBoxes(out["train"], config.seed)
  held_out = None
  if validation is not None:
    held_out = view(source, validation, new_label, False)
  prints = [
    out["train"].fingerprint,
    held_out.fingerprint if held_out else "",
    out["test"].fingerprint,
  ]
  if extra is not None:
    extra = view(extra, np.arange(len(extra)), extra_label, True)
    prints.append(extra.fingerprint)
  return Data(
    out["train"],
    held_out,
    out["test"],
    names,
    fingerprint(*prints),
    extra,
    whole.notes,
    whole.recognised,
    extra is not None or _has_boxes(source, parts["train"]),
    source if isinstance(source, FileSource) else None,
  )


def _has_boxes(source: Source, index: np.ndarray) -> bool:
  """Whether a record has a box, as far as that can be told without reading."""
  if isinstance(source, FileSource):
    return bool(source.has_box[index].any())
  return True
