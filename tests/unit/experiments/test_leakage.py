"""The gap between random and grouped folds is that of leakage, and no other."""

import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.data import groups, opening, splits
from mtlmoe_jax.data.readers.problems import Problems
from mtlmoe_jax.experiments import leakage
from mtlmoe_jax.training import frozen_folds
from tests.support import bursts, layouts

CELLS = leakage._GRID**2


def drawn(scenes, frames, scene_noise, seed=0):
  """Features of three classes: what a class, a scene and a frame look like."""
  random = np.random.default_rng(seed)
  labels = np.repeat(np.arange(scenes) % 3, frames).astype(np.int32)
  number = np.repeat(np.arange(scenes), frames)
  x = np.eye(3)[labels] + scene_noise * random.normal(size=(scenes, 3))[number]
  x = np.concatenate([x, random.normal(size=(scenes, 20))[number]], axis=1)
  x = x + 0.1 * random.normal(size=x.shape)
  return np.tile(x, CELLS).astype(np.float32), labels, number


def compared(cells, labels, number, boxes=None):
  count = len(labels)
  has_box = np.full(count, boxes is not None)
  boxes = np.zeros((count, 4), np.float32) if boxes is None else boxes
  ids = [f"{i:04d}" for i in range(count)]
  return leakage.compare(cells, labels, boxes, has_box, number, ids, 0)


def test_scenes_that_are_known_again_are_a_gap():
  cells, labels, number = drawn(45, 4, 2.0)
  scene_boxes = np.random.default_rng(3).uniform(0, 0.4, (45, 2))[number]
  boxes = np.concatenate([scene_boxes, scene_boxes + 0.5], axis=1)
  (top1, miou), notes = compared(cells, labels, number, np.float32(boxes))
  assert notes == []
  assert (top1.images, top1.groups) == (180, 45)
  assert top1.random > 0.95
  assert top1.grouped < 0.75
  assert 0 < top1.low < top1.random - top1.grouped < top1.high
  assert miou.random > miou.grouped + 0.05
  assert "180 images in 45 groups" in str(top1)


def test_images_that_are_all_new_leave_none():
  cells, labels, number = drawn(180, 1, 1.0)
  (top1,), _ = compared(cells, labels, number // 6)
  assert top1.low <= 0 <= top1.high


def test_a_class_in_one_group_is_not_judged():
  cells, labels, number = drawn(30, 2, 0.1)
  number = np.where(labels == 2, 99, number)
  (top1,), notes = compared(cells, labels, number)
  assert top1.images == 40
  assert notes == [
    "leakage: 20 images are not judged: other groups do not show their class"
  ]
  assert compared(cells, labels, labels)[0] == []


def test_groups_must_be_named(tmp_path):
  (tmp_path / "a").mkdir()
  (tmp_path / "a/1.jpg").write_bytes(layouts.encode(layouts.picture(0, 9, 9)))
  config = config_lib.default_config()
  config.data.name, config.data.path = "folder", str(tmp_path)
  with pytest.raises(errors.InputError, match="group_by is empty"):
    leakage.measure(config)


@pytest.mark.slow
def test_on_bursts_the_grouped_figure_is_that_of_new_scenes(tmp_path):
  config = config_lib.default_config()
  config.data.image_size, config.data.name = 96, "folder"
  config.data.group_by = bursts.PATTERN
  sources = []
  for split, scenes, frames in (("test", 40, 1), ("train", 15, 5)):
    bursts.write(tmp_path / split, split, 4, scenes, frames)
    config.data.path = str(tmp_path / split)
    sources.append(opening.open_whole(config, Problems()).source)
  new, known = sources
  top1 = leakage.measure(config)[0][0]
  x = np.concatenate([frozen_folds.features(config, s) for s in sources])
  number, _ = groups.group_ids(known, bursts.PATTERN)
  folds = splits.fold_groups(known.labels, number, 5, 0, known.ids)
  folds = np.concatenate([np.arange(len(new)) % 5, folds])
  labels = np.concatenate([np.full(len(new), -1, np.int32), known.labels])
  answers = frozen_folds.out_of_fold(x, labels, folds)[: len(new)]
  truth = (answers.argmax(1) == new.labels).mean()
  print(top1, f"new scenes {truth:.3f}", sep="\n")
  assert top1.low > 0.1
  # Two deviations of a figure over 60 scenes and one over 160.
  spread = 2 * (truth * (1 - truth) * (1 / 60 + 1 / 160)) ** 0.5
  assert abs(top1.grouped - truth) < spread < top1.random - truth
