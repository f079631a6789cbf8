"""Training on features that are computed once."""

import json
import shutil

import jax
import numpy as np
import pytest

from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.checkpoints import restore
from mtlmoe_jax.data import feature_store
from mtlmoe_jax.devices import sharding
from mtlmoe_jax.evaluation import evaluate
from mtlmoe_jax.training import (
  features,
  initialization,
  loop,
  metric_log,
)
from tests.support import tiny

FROZEN = {
  "model.shared_stages": 1,
  "optimizer.frozen": ("stem/",),
  "features.views": 2,
  "eval.report": False,
  # The optimizer is not what is looked at.
  "optimizer.name": "sgd",
  "optimizer.ema": 0.0,
  # One folder of features is enough to look at.
  "data.validation_fraction": 0.0,
}
# Nothing random, so that every view is the same.
STILL = {
  "data.augment.crop_area_min": 1.0,
  "data.augment.crop_aspect_max": 1.0,
  "data.augment.flip": 0.0,
  "data.augment.brightness": 0.0,
  "data.augment.contrast": 0.0,
  "data.augment.saturation": 0.0,
}


def losses(folder):
  return [
    entry["loss"]
    for entry in metric_log.read(folder)
    if entry["split"] == "train"
  ]


def final(folder):
  return jax.tree.leaves(restore.restore_for_eval(folder, "latest").variables)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp("features")
  config = tiny.config(**FROZEN, **{"features.cache": str(folder / "cache")})
  assert loop.train(config, str(folder / "run")) == 0
  return folder


def test_loss_is_that_of_training_on_images(tmp_path):
  fixed = {**FROZEN, **STILL}
  assert loop.train(tiny.config(**fixed), str(tmp_path / "features")) == 0
  plain = tiny.config(**{**fixed, "features.views": 0})
  assert loop.train(plain, str(tmp_path / "images")) == 0
  # Features are kept in float16, the gates' images in 8 bits.
  np.testing.assert_allclose(
    losses(tmp_path / "features"), losses(tmp_path / "images"), rtol=5e-3
  )
  results = [
    json.loads((tmp_path / name / "result.json").read_text())
    for name in ("features", "images")
  ]
  assert results[0]["n"] == results[1]["n"]


def test_another_run_takes_what_is_there_and_watches_the_network(finished):
  cache, folder = finished / "other", finished / "watched"
  shutil.copytree(finished / "cache", cache)
  assert len(list(cache.iterdir())) == 1
  files = list(cache.glob("*/*"))
  assert len(files) == len(feature_store.COLUMNS)
  times = [path.stat().st_mtime_ns for path in files]
  config = tiny.config(**FROZEN, **{"features.cache": str(cache)})
  config.eval.watch_test = True
  assert loop.train(config, str(folder)) == 0
  assert [path.stat().st_mtime_ns for path in files] == times
  assert len(list(cache.iterdir())) == 2  # The test split's are new.
  # To watch changes nothing.
  for one, other in zip(final(finished / "run"), final(folder)):
    np.testing.assert_array_equal(one, other)
  rows = [r for r in metric_log.read(folder) if r["split"] == "test"]
  assert rows[-1]["step"] == 8
  assert all(row["train_seconds"] >= 0 for row in rows)
  result = json.loads((folder / "result.json").read_text())
  of_step = {row["step"]: row for row in rows}
  assert result["miou"] == of_step[result["step"]]["miou"]
  assert not (folder / "eval" / "test" / "report.html").exists()
  # The whole network, without features in float16.
  restored = restore.restore_for_eval(folder, "best")
  whole = evaluate.evaluate_restored(restored, finished / "eval")
  assert whole.metrics["miou"] == pytest.approx(result["miou"], abs=5e-3)
  assert (finished / "eval" / "test" / "report.html").exists()


def test_mixup_mixes_the_features_that_are_there(finished):
  cache = finished / "cache"
  config = tiny.config(**FROZEN, **{"features.cache": str(cache)})
  config.data.augment.mixup = 1.0
  before = set(cache.iterdir())
  assert loop.train(config, str(finished / "mixed")) == 0
  assert set(cache.iterdir()) == before
  mixed, plain = losses(finished / "mixed"), losses(finished / "run")
  assert np.isfinite(mixed).all() and mixed != plain


def folder_of_features(folder, change):
  """The name that a run with other options has for its features."""
  config = tiny.config(**{**FROZEN, **change})
  data = data_lib.open_data(config)
  model = models.build_model(config, len(data.class_names))
  mesh = sharding.make_mesh(**config.mesh)
  variables = initialization.init_variables(model, config, mesh)
  features.prepare(data.train, variables, config, mesh, folder)
  (made,) = folder.iterdir()
  return made.name


@pytest.mark.parametrize(
  "change",
  [
    {"seed": 1},
    {"features.views": 1},
    {"data.augment.flip": 0.1},
    {"model.shared_stages": 2},
  ],
)
def test_other_features_have_a_folder_of_their_own(finished, tmp_path, change):
  (kept,) = (finished / "cache").iterdir()
  assert folder_of_features(tmp_path, change) != kept.name


def test_runs_may_share_the_augmentation_of_their_features(tmp_path):
  """With one stem; what is held out would be another seed's."""
  config = tiny.config(**FROZEN)
  data = data_lib.open_data(config)
  model = models.build_model(config, len(data.class_names))
  mesh = sharding.make_mesh(**config.mesh)
  variables = initialization.init_variables(model, config, mesh)
  counts = []
  for seed, shared in ((0, -1), (1, 0), (0, 0), (1, 1), (1, -1)):
    config.seed, config.features.seed = seed, shared
    features.prepare(data.train, variables, config, mesh, tmp_path)
    assert config.seed == seed
    counts.append(len(list(tmp_path.iterdir())))
  assert counts == [1, 1, 1, 2, 2]


def test_the_folder_is_named_by_the_options(finished, tmp_path):
  (kept,) = (finished / "cache").iterdir()
  assert folder_of_features(tmp_path, {"steps": 1}) == kept.name


def test_views_of_a_record_differ_and_keep_their_labels(finished):
  (kept,) = (finished / "cache").iterdir()
  records = len(np.load(kept / "label.npy")) // 2
  found = feature_store.Views(kept, records)
  assert found.views == 2
  rows = [[found.row(view, i) for i in range(records)] for view in range(2)]
  for one, other in zip(*rows):
    assert one["label"] == other["label"]
    assert one["features"].dtype == np.float16
  assert any(
    (one["features"] != other["features"]).any() for one, other in zip(*rows)
  )


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"model.shared_stages": 0, "optimizer.frozen": ()}, "shared_stages"),
    ({"optimizer.frozen": ()}, "optimizer.frozen"),
    ({"model.norm": "batch"}, "norm"),
    ({"features.views": -1}, "features.views"),
    ({"features.seed": -2}, "features.seed"),
  ],
)
def test_a_stem_that_changes_is_refused(tmp_path, change, message):
  with pytest.raises(errors.InputError, match=message):
    loop.train(tiny.config(**{**FROZEN, **change}), str(tmp_path / "run"))


def batch(value, count=3):
  columns = {name: np.zeros((count, 1)) for name in feature_store.COLUMNS}
  columns["features"] = np.full((count, 2), value, np.float16)
  return {**columns, "valid": np.array([True] * (count - 1) + [False])}


def test_nothing_is_left_of_features_that_were_not_completed(tmp_path):
  def broken():
    yield batch(1)
    raise RuntimeError("power cut")

  with pytest.raises(RuntimeError, match="power cut"):
    feature_store.write(tmp_path / "key", 4, broken())
  assert list(tmp_path.iterdir()) == []
  with pytest.raises(errors.InputError, match="float16"):
    feature_store.write(tmp_path / "key", 4, [batch(np.inf)])
  assert list(tmp_path.iterdir()) == []


def test_padding_is_left_out_and_a_damaged_folder_is_named(tmp_path):
  folder = tmp_path / "key"
  feature_store.write(folder, 4, [batch(1), batch(2)])
  found = feature_store.Views(folder, 2)
  assert [found.row(v, i)["features"][0] for v in (0, 1) for i in (0, 1)] == [
    1,
    1,
    2,
    2,
  ]
  with pytest.raises(errors.InputError, match="not of 3 records"):
    feature_store.Views(folder, 3)
  (folder / "box.npy").write_bytes(b"not an array")
  with pytest.raises(errors.InputError, match="remove the folder"):
    feature_store.Views(folder, 2)
