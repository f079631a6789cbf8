"""Training on features of a frozen stem that are computed once.

What does not change need not be computed in every step: each training image
is augmented V times (`features.views`), the stem runs on all V copies, and the
gates, experts and towers train on its features, which a feature store keeps.
Evaluation runs the whole network.

Letters: B images of a batch, n records, V augmented copies of each.
"""

import functools
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import ml_collections
import numpy as np

from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.data import feature_store, pipeline, source
from mtlmoe_jax.devices import compilation, processes, sharding
from mtlmoe_jax.utils import progress
from mtlmoe_jax.utils.trees import Flat

# Counts changes of this code that change the arrays.
_VERSION = 1
# What is frozen, and of whose outputs the arrays are.
_PARTS = ("stem", "gate_backbone")


def check(
  config: ml_collections.ConfigDict, params: Flat, frozen: frozenset[str]
) -> None:
  """Refuses a model whose features change while it trains.

  Raises:
    InputError: no stem, or one that learns.
  """
  if not config.model.shared_stages:
    raise errors.InputError(
      f"config.features.views={config.features.views}: needs a shared stem "
      "whose features are computed once; set config.model.shared_stages"
    )
  learns = [n for n in params if n.startswith("stem/") and n not in frozen]
  if learns or config.model.norm == "batch":
    raise errors.InputError(
      f"config.features.views={config.features.views}: the stem must stay as "
      "it is; set --config.optimizer.frozen=stem/ and config.model.norm to "
      "frozen or group"
    )
  if processes.count() > 1:
    raise errors.InputError(
      f"config.features.views={config.features.views}: features are computed "
      "and kept by one process; start one, or set features.views=0"
    )


def prepare(
  records: data_lib.Source,
  variables: dict[str, Any],
  config: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
  folder: pathlib.Path,
) -> feature_store.Views:
  """The feature store of a training set, computed unless it is on disk.

  Args:
    records: the training records.
    variables: `params` and `batch_stats` of the model; the stem is used.
    config: the whole config.
    mesh: the devices.
    folder: where feature stores are; each is named by a digest of all that
      its features depend on.

  Returns:
    The store.

  Raises:
    InputError: an image that cannot be read, or a damaged folder.
  """
  if config.features.seed >= 0:
    config = config.copy_and_resolve_references()
    config.seed = config.features.seed
  stem = _stem_of(variables)
  place = folder / _digest(records, stem, config)
  if not place.is_dir():
    count = len(records) * config.features.views
    computed = _compute(records, stem, config, mesh, count)
    feature_store.write(place, count, computed)
  return feature_store.Views(place, len(records))


def folder_of(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> pathlib.Path:
  """Where a run's features are: shared with other runs, or its own."""
  return pathlib.Path(config.features.cache or workdir / "features")


def of_split(
  records: data_lib.Source,
  variables: dict[str, Any],
  config: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
  folder: pathlib.Path,
) -> list[data_lib.Batch] | None:
  """What `pipeline.eval_batches` gives, with features; kept as `prepare` does.

  Args:
    records: a split that is evaluated again and again, each image once, whole.
    variables: `params` and `batch_stats` of the model; the stem is used.
    config: the whole config.
    mesh: the devices.
    folder: where folders of features are.

  Returns:
    Batches whose images are as small as gates look at; None for a run without
    features, or whose evaluation looks at more than the whole image.

  Raises:
    InputError: an image that cannot be read, or a damaged folder.
  """
  if not config.features.views or config.eval.views != "whole":
    return None
  size, count = config.eval.batch_size, len(records)
  stem = _stem_of(variables)
  place = folder / _digest(records, stem, config, whole=True)
  if not place.is_dir():
    batches = pipeline.eval_batches(records, config, size)
    feature_store.write(
      place, count, _with_features(batches, stem, config, mesh)
    )
  return list(batches_of(feature_store.Views(place, count), range(count), size))


def batches_of(
  store: feature_store.Views, indices: range, size: int
) -> Iterator[data_lib.Batch]:
  """The first view of some records, `size` at a time, the last filled up."""
  for i in range(0, len(indices), size):
    yield pipeline.pad(store.rows(indices[i : i + size]), size)


def of_run(
  run: Restored, records: data_lib.Source
) -> list[data_lib.Batch] | None:
  """`of_split` for a checkpoint, where its run had its features.

  Args:
    run: with the config of this evaluation.
    records: of the split.
  """
  config = run.config
  mesh = sharding.make_mesh(**config.mesh)
  folder = folder_of(config, run.workdir)
  return of_split(records, run.variables, config, mesh, folder)


def _stem_of(variables: dict[str, Any]) -> dict[str, Any]:
  """Collections of the parts that are frozen."""
  return {
    name: {part: tree[part] for part in _PARTS if part in tree}
    for name, tree in variables.items()
  }


def _compute(
  records: data_lib.Source,
  stem: dict[str, Any],
  config: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
  count: int,
) -> Iterator[data_lib.Batch]:
  size = config.eval.batch_size
  bar = progress.Progress(
    -(-count // size), items_per_step=size, label="features"
  )
  copies = pipeline.view_batches(records, config, size)
  with bar:
    for batch in _with_features(copies, stem, config, mesh):
      yield batch
      bar.update(1)


def _with_features(
  batches: Iterable[data_lib.Batch],
  stem: dict[str, Any],
  config: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
) -> Iterator[data_lib.Batch]:
  """The batches, each with `features` and its images made small."""
  run = compilation.jit_forward(functools.partial(models.stem_features, config))
  with jax.set_mesh(mesh):
    for batch in batches:
      images = sharding.put_batch({"image": batch["image"]}, mesh)["image"]
      yield {**batch, **jax.device_get(run(stem, images))}


def _digest(
  records: data_lib.Source,
  stem: dict[str, Any],
  config: ml_collections.ConfigDict,
  whole: bool = False,
) -> str:
  """Of all that the arrays depend on; whole images are not augmented."""
  leaves = jax.tree_util.tree_leaves_with_path(stem)
  weights = [
    part
    for path, leaf in leaves
    for part in (sharding.path_name(path), np.asarray(leaf))
  ]
  model = config.model
  digest = source.fingerprint(
    _VERSION,
    records.fingerprint,
    list(records.ids),
    *([] if whole else [config.seed, config.features.views]),
    sorted(models.preprocessing(config).items()),
    "whole" if whole else _augmentation(config),
    (model.backbone, model.shared_stages, model.norm, config.precision),
    sorted(model.token_moe.to_dict().items()),
    *([] if models.sees_pixels(config) else ["no images"]),
    *weights,
  )
  return digest[:24]


def _augmentation(config: ml_collections.ConfigDict) -> list[tuple[str, Any]]:
  """The options of what happens before the stem: mixup comes after it."""
  options = config.data.augment.to_dict().items()
  return sorted((k, v) for k, v in options if not k.startswith("mixup"))
