"""Any prepared TFDS data set with an image, a label and a box per example.

Read by `builder.as_data_source` (what `tfds.data_source` calls) from
ArrayRecord files, so no TensorFlow is imported. Preparing the files does need
TensorFlow, once: `mtlmoe prepare_cub --tfds_dir=DIR`, or `tfds build` with
`--file_format=array_record`. TFDS boxes are ymin, xmin, ymax, xmax in [0, 1].
"""

from typing import Any, NamedTuple

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.data.readers.file_source import Whole
from mtlmoe_jax.data.readers.problems import Problems, checked_box
from mtlmoe_jax.data.source import Concat, Record, Subset, fingerprint
from mtlmoe_jax.ops import boxes

_SPLITS = ("train", "validation", "test")


class Keys(NamedTuple):
  """Names of the features that are read; None: there is none."""

  image: str
  label: str
  box: str | None
  file_name: str | None
  label_name: str | None
  objects: str | None


def open_tfds(
  path: str, name: str, need_box: bool, objects: str, problems: Problems
) -> Whole:
  """Opens a prepared data set; reads all labels and boxes, decodes no image.

  Args:
    path: TFDS data directory (the one that holds the folder `name`).
    name: data set, for example "caltech_birds2011" or "name/config:1.2.3".
    need_box: whether the data set must have boxes.
    objects: `config.data.objects`, for those that have several in an example.
    problems: where mistakes are reported.

  Returns:
    Train, validation and test examples in stored order, and those splits. A
    data set without a test split is tested on its validation split.

  Raises:
    InputError: a missing package, folder, feature or split, files that are not
      ArrayRecord; and, unless `problems` collects, the first bad example.
  """
  if objects == "each":
    raise errors.InputError(
      f"config.data.objects='each': windows are cut from image files, which "
      f"the TFDS data set {name!r} has not; use 'largest'"
    )
  builder = _builder(path, name)
  what = f"TFDS data set {builder.info.full_name}"
  keys = _keys(builder.info.features, what, need_box)
  splits = [split for split in _SPLITS if split in builder.info.splits]
  if "train" not in splits or len(splits) < 2:
    raise errors.InputError(
      f"{what} has the splits {', '.join(builder.info.splits) or 'none'}: "
      "train and test (or validation) are needed"
    )
  sources = [
    TfdsSource(builder, split, keys, objects, problems) for split in splits
  ]
  whole = Concat(sources)
  ends = np.cumsum([0] + [len(source) for source in sources])
  official = {
    split: np.arange(ends[i], ends[i + 1]) for i, split in enumerate(splits)
  }
  if "test" not in official:
    official["test"] = official.pop("validation")
  names = _written_names(whole.class_names, sources)
  without = sum(source.without_box for source in sources)
  notes = []
  if without:
    notes.append(f"{without} of {len(whole)} examples have no box")
  several = sum(source.several for source in sources)
  if several:
    notes.append(
      f"{several} of {len(whole)} examples have several objects: the largest "
      "of each is read"
    )
  source = Subset(whole, np.arange(len(whole)), names)
  return Whole(source, official, notes=tuple(notes))


class TfdsSource:
  """One split of a data set.

  Attributes, beyond those of a source:
    written_names: what the examples call a label.
    without_box: how many have none, or one of zeros, which says so.
    several: how many have several.
  """

  def __init__(
    self,
    builder: Any,
    split: str,
    keys: Keys,
    objects: str,
    problems: Problems,
  ) -> None:
    """Reads every example once, without decoding its image.

    Args:
      builder: a `tfds.core.DatasetBuilder` with ArrayRecord files.
      split: name of the split.
      keys: the features to read.
      objects: "single" or "largest".
      problems: where bad labels and boxes are reported.

    Raises:
      InputError: files of another format; and, unless `problems` collects, a
        bad label or box.
    """
    import tensorflow_datasets as tfds

    self.name = builder.name
    self.class_names = tuple(builder.info.features[keys.label].names)
    self.written_names: dict[int, str] = {}
    self.without_box = self.several = 0
    self._objects = objects
    self._keys, self._where = keys, f"{builder.info.full_name} {split}"
    # Images stay encoded: `images` decodes them as it does files.
    skip = {
      key: tfds.decode.SkipDecoding()
      for key, feature in builder.info.features.items()
      if isinstance(feature, tfds.features.Image)
    }
    try:
      self._data = builder.as_data_source(split=split, decoders=skip)
    except (NotImplementedError, ValueError) as error:
      raise errors.InputError(
        f"{self._where} is not stored as ArrayRecord "
        f"({builder.info.file_format}): prepare it with "
        "--file_format=array_record"
      ) from error
    rows = [self._row(i, problems) for i in range(len(self._data))]
    self.ids = [row[0] for row in rows]
    self.labels = np.asarray([row[1] for row in rows], np.int32)
    self._has_box = np.asarray([row[2] is not None for row in rows], bool)
    none = np.zeros(4, np.float32)
    self._boxes = np.asarray(
      [none if row[2] is None else row[2] for row in rows], np.float32
    ).reshape(-1, 4)
    self.fingerprint = fingerprint(
      self.class_names, self.ids, self.labels, self._boxes, self._has_box
    )

  def _row(
    self, index: int, problems: Problems
  ) -> tuple[str, int, np.ndarray | None]:
    """(id, label, box or None) of one example."""
    example, keys = self._data[index], self._keys
    where = f"{self._where}[{index}]"
    label = int(example[keys.label])
    if not -1 <= label < len(self.class_names):
      problems(
        f"{where}: label {label} is not one of the "
        f"{len(self.class_names)} classes (0, 1, ...): "
        "prepare the data set again"
      )
      label = -1
    if keys.label_name and label >= 0:
      self.written_names[label] = example[keys.label_name].decode()
    box = None
    if keys.box or keys.objects:
      found = self._boxes_of(example)
      if len(found) > 1:
        self.several += 1
        if self._objects == "single":
          problems(
            f"{where}: has {len(found)} objects: config.data.objects='largest' "
            "reads the largest of each example"
          )
      if len(found):
        box = checked_box(found[0].tolist(), where, problems)
      else:
        self.without_box += 1
    name = example[keys.file_name].decode() if keys.file_name else where
    return name, label, box

  def _boxes_of(self, example: Any) -> np.ndarray:
    """f64 [k, 4] xyxy of an example, the largest first, without zeros.

    oxford_iiit_pet has a box of zeros where no head is marked.
    """
    if self._keys.box:
      value = example[self._keys.box]
    else:
      value = example[self._keys.objects]["bbox"]
    yxyx = np.asarray(value, np.float64).reshape(-1, 4)
    found = boxes.convert(yxyx[yxyx.any(1)], "yxyx", "xyxy")
    return found[np.argsort(-boxes.area(found), kind="stable")]

  def __len__(self) -> int:
    return len(self.ids)

  def __getitem__(self, index: int) -> Record:
    data = self._data[index][self._keys.image]
    return {
      "image": images.decode_bytes(data, f"{self._where} {self.ids[index]}"),
      "label": self.labels[index],
      "box": self._boxes[index].copy(),
      "has_label": bool(self.labels[index] >= 0),
      "has_box": bool(self._has_box[index]),
      "id": self.ids[index],
    }


def _builder(path: str, name: str) -> Any:
  try:
    from tensorflow_datasets.core import read_only_builder, registered
  except ImportError:
    raise errors.InputError(
      "config.data.name='tfds' needs the package tensorflow-datasets: "
      "pip install 'mtlmoe_jax[tfds]'"
    ) from None
  try:
    # From the prepared files alone: the code of a data set may need
    # TensorFlow, its files do not.
    return read_only_builder.builder_from_files(name, data_dir=path)
  except (registered.DatasetNotFoundError, OSError, ValueError) as error:
    raise errors.InputError(
      f"config.data.path={path!r}: no prepared TFDS data set {name!r} there "
      "(config.data.tfds_name); give TFDS's data_dir, or prepare it with "
      "mtlmoe prepare_cub --tfds_dir=DIR"
    ) from error


def _keys(features: Any, what: str, need_box: bool) -> Keys:
  import tensorflow_datasets as tfds

  kinds = tfds.features

  def first(usual: str, kind: type) -> str | None:
    """The feature with the usual name, or the only one of its kind."""
    keys = [key for key, f in features.items() if isinstance(f, kind)]
    if usual in keys:
      return usual
    return keys[0] if len(keys) == 1 else None

  image = first("image", kinds.Image)
  label = first("label", kinds.ClassLabel)
  box = first("bbox", kinds.BBoxFeature)
  objects = None if box else _objects(features)
  has_box = box or objects
  if image is None or label is None or (has_box is None and need_box):
    chosen = {"image": image, "label": label, "bbox": has_box}
    missing = next(key for key, feature in chosen.items() if feature is None)
    raise errors.InputError(
      f"{what} has no {missing} feature (it has {', '.join(features)}): choose "
      "another data set with one image, label and bbox an example"
      + (", or model.tasks=class" if missing == "bbox" else "")
    )
  texts = {k for k, f in features.items() if isinstance(f, kinds.Text)}
  names = [k for k in ("image/filename", "file_name", "id") if k in texts]
  return Keys(
    image,
    label,
    box,
    names[0] if names else None,
    "label_name" if "label_name" in texts else None,
    objects,
  )


def _objects(features: Any) -> str | None:
  """The feature that lists objects with boxes, as stanford_dogs has it."""
  import tensorflow_datasets as tfds

  for key, feature in features.items():
    inner = getattr(feature, "feature", None)
    if isinstance(inner, tfds.features.FeaturesDict):
      box = dict(inner.items()).get("bbox")
      if isinstance(box, tfds.features.BBoxFeature):
        return str(key)
  return None


def _written_names(
  names: tuple[str, ...], sources: list[TfdsSource]
) -> tuple[str, ...]:
  """Class names, with bare numbers replaced by what the examples say.

  caltech_birds2011 numbers its classes and writes their names beside each
  example.
  """
  if not all(name.isdigit() for name in names):
    return names
  written = {
    k: v for source in sources for k, v in source.written_names.items()
  }
  if len(set(written.values())) < len(written):
    return names
  return tuple(written.get(i, name) for i, name in enumerate(names))
