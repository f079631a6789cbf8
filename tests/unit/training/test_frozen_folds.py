"""Heads on frozen features answer for images that they did not learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.data import opening
from mtlmoe_jax.data.drawn import synthetic
from mtlmoe_jax.data.readers.problems import Problems
from mtlmoe_jax.data.source import Subset
from mtlmoe_jax.ops import boxes as boxes_lib
from mtlmoe_jax.training import frozen_folds


def blobs(count=60, classes=3, width=8, seed=0):
  random = np.random.default_rng(seed)
  labels = (np.arange(count) % classes).astype(np.int32)
  centres = random.normal(size=(classes, width))
  features = centres[labels] + random.normal(size=(count, width))
  return features.astype(np.float32), labels, np.arange(count) // 3 % 4


def test_the_head_is_the_penalized_optimum_that_sklearn_finds():
  features, labels, folds = blobs()
  labels[::7] = (labels[::7] + 1) % 3
  found = frozen_folds.out_of_fold(features, labels, folds)
  taught = folds != 0
  x = frozen_folds._scaled(features, taught)
  penalty = 3 / (taught.sum() * frozen_folds._DECAY)
  other = LogisticRegression(C=penalty, tol=1e-8, max_iter=5000)
  expected = other.fit(x[taught], labels[taught]).predict_proba(x[~taught])
  np.testing.assert_allclose(found[~taught], expected, atol=0.02)
  np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_an_answer_depends_on_no_label_of_its_fold():
  features, labels, folds = blobs()
  before = frozen_folds.out_of_fold(features, labels, folds)
  labels = np.where(folds == 2, (labels + 1) % 3, labels).astype(np.int32)
  after = frozen_folds.out_of_fold(features, labels, folds)
  np.testing.assert_array_equal(before[folds == 2], after[folds == 2])
  assert np.abs(before - after)[folds != 2].max() > 0.1


def test_unlabelled_teach_nothing_and_unshown_classes_are_zero():
  features, labels, folds = blobs()
  labels[folds == 1] = 2  # shown by one fold alone ...
  labels[(folds != 1) & (labels == 2)] = -1
  found = frozen_folds.out_of_fold(features, labels, folds)
  assert (found[folds == 1][:, 2] == 0).all()
  assert (found[folds == 0][:, 2] > 0).all()
  moved = features + 100 * (labels < 0)[:, None].astype(np.float32)
  again = frozen_folds.out_of_fold(moved, labels, folds)
  np.testing.assert_allclose(again[labels >= 0], found[labels >= 0], atol=1e-5)
  with pytest.raises(ValueError, match="nothing to learn"):
    frozen_folds.out_of_fold(features, labels, np.zeros(60, int))


def test_boxes_are_those_of_a_ridge_regression():
  features, _, folds = blobs()
  weights = np.random.default_rng(1).normal(size=(8, 4)) / 50
  boxes = np.array([0.2, 0.3, 0.6, 0.7]) + features @ weights
  known = np.arange(60) % 5 > 0
  found = frozen_folds.boxes_out_of_fold(features, boxes, known, folds)
  taught = known & (folds != 0)
  x = frozen_folds._scaled(features, taught)
  ridge = Ridge(alpha=frozen_folds._RIDGE * taught.sum())
  expected = ridge.fit(x[taught], boxes[taught]).predict(x[folds == 0])
  np.testing.assert_allclose(found[folds == 0], expected, atol=1e-4)
  assert boxes_lib.iou(found, boxes).min() > 0.9


def test_features_are_rows_of_a_source_and_cells_of_a_grid():
  config = config_lib.default_config()
  config.data.image_size = config.data.synthetic.size = 64
  config.data.synthetic.classes, config.eval.batch_size = 2, 8
  config.data.synthetic.train_per_class = 5
  source, _ = synthetic.open_splits(config.data.synthetic)
  found = frozen_folds.features(config, source)
  assert found.shape == (10, 1280)
  cells = frozen_folds.features(config, Subset(source, range(9, -1, -1)), 2)
  np.testing.assert_allclose(
    cells.reshape(10, 4, 1280).mean(1)[::-1], found, rtol=1e-4, atol=1e-5
  )
  assert np.abs(found[0] - found[1]).max() > 0.1


def test_photographs_are_told_apart(cub_dir):
  config = config_lib.default_config()
  config.data.name, config.data.path = "cub", str(cub_dir)
  config.data.image_size, config.eval.batch_size = 96, 30
  source = opening.open_whole(config, Problems()).source
  source = Subset(source, np.flatnonzero(source.labels < 4)[::4])
  found = frozen_folds.features(config, source)
  folds = np.arange(len(source)) % 4
  answers = frozen_folds.out_of_fold(found, source.labels, folds)
  assert (answers.argmax(1) == source.labels).mean() > 0.6


def test_weights_that_are_missing_are_told(monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  with pytest.raises(errors.InputError, match=r"mtlmoe_jax\[lite\]"):
    frozen_folds.features(config_lib.default_config(), [])
