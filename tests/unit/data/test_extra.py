"""A further data set that joins training."""

import collections
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data, errors
from mtlmoe_jax.data import check, pipeline
from tests.support import layouts

# One class of CUB_ROWS and two new ones.
FILES = [f"{c}/{i}.jpg" for c in ("001.Red_bird", "Crow", "Owl") for i in "123"]


def fill(root, names=FILES):
  for i, name in enumerate(names):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(layouts.encode(layouts.picture(i, 24, 20)))
  return root


@pytest.fixture
def root(tmp_path):
  layouts.make_cub(tmp_path / "cub")
  fill(tmp_path / "extra")
  return tmp_path


def make_config(root, **options):
  config = config_lib.default_config()
  config.data.name = "cub"
  config.data.path = str(root / "cub")
  config.data.image_size = 32
  config.data.validation_fraction = 0.0
  config.data.extra.path = str(root / "extra")
  # Two beside the three training images of CUB_ROWS.
  config.data.extra.share = 0.4
  for key, value in options.items():
    config_lib.set_path(config, f"data.{key}", value)
  config_lib.check_config(config)
  return config


def batches(config, count, size=5):
  opened = data.open_data(config)
  made = data.train_iterator(opened.train, config, size, opened.extra)
  return list(itertools.islice(made, count))


def test_classes_are_united_by_name_and_only_training_grows(root):
  opened = data.open_data(make_config(root))
  assert opened.class_names == (
    "001.Red_bird",
    "002.Sky_blue_bird",
    "Crow",
    "Owl",
  )
  assert opened.extra.ids == FILES
  np.testing.assert_array_equal(
    opened.extra.labels, [0, 0, 0, *[2] * 3, *[3] * 3]
  )
  record = opened.extra[4]
  assert record["label"] == 2 and record["has_label"] and not record["has_box"]
  plain = data.open_data(make_config(root, **{"extra.path": ""}))
  assert plain.extra is None and len(plain.class_names) == 2
  for split in ("train", "test"):
    with_extra, without = (getattr(d, split) for d in (opened, plain))
    assert with_extra.ids == without.ids
    np.testing.assert_array_equal(with_extra.labels, without.labels)
  assert opened.fingerprint != plain.fingerprint


def test_of_a_subset_the_other_classes_come_behind(root):
  opened = data.open_data(make_config(root, classes="last:1"))
  assert opened.class_names == (
    "002.Sky_blue_bird",
    "001.Red_bird",
    "Crow",
    "Owl",
  )
  assert set(opened.train.labels) == set(opened.test.labels) == {0}
  assert opened.extra.labels[0] == 1


def test_boxes_of_extra_images_count_where_they_are(root):
  (root / "extra" / "boxes.csv").write_text(
    "path,x_min,y_min,x_max,y_max\nCrow/1.jpg,0.1,0.2,0.6,0.8\n"
  )
  extra = data.open_data(make_config(root)).extra
  has_box = [extra[i]["has_box"] for i in range(len(extra))]
  assert has_box == [i == 3 for i in range(9)]


def test_a_split_of_its_own_is_kept(root):
  names = ["train/Crow/1.jpg", "train/Owl/2.jpg", "test/Owl/3.jpg"]
  fill(root / "split", [*names, "val/Jay/4.jpg"])
  opened = data.open_data(
    make_config(root, **{"extra.path": str(root / "split")})
  )
  assert opened.extra.ids == names[:2]
  # Jay has no image to learn from.
  assert opened.class_names[2:] == ("Crow", "Owl")


def test_cub_can_be_the_extra_data(root):
  config = make_config(root, **{"extra.name": "cub"})
  config.data.name, config.data.path = "folder", str(root / "extra")
  config.data.extra.path = str(root / "cub")
  opened = data.open_data(config)
  assert opened.class_names[3:] == ("002.Sky_blue_bird",)
  np.testing.assert_array_equal(opened.extra.labels, [0, 0, 3])
  assert opened.extra[0]["has_box"]


@settings(max_examples=30, deadline=None)
@given(
  st.integers(1, 20), st.integers(1, 9), st.floats(0.05, 0.9), st.integers(0, 3)
)
def test_share_is_exact_over_each_epoch(main, others, share, seed):
  config = config_lib.default_config()
  config.data.extra.share = share
  length = pipeline.epoch_images(range(main), config, range(others))
  drawn = length - main
  assert drawn == max(1, round(main * share / (1 - share)))
  order = pipeline._MixedOrder(main, drawn, others, seed)
  found = np.array([order[i] for i in range(6 * length)])
  for epoch in found.reshape(6, length):
    np.testing.assert_array_equal(np.sort(epoch[epoch < main]), np.arange(main))
    assert (epoch >= main).sum() == drawn
  # Each of the others once before one comes again.
  rest = found[found >= main] - main
  for start in range(0, len(rest) - others + 1, others):
    assert set(rest[start : start + others]) == set(range(others))
  counts = collections.Counter(rest.tolist())
  assert max(counts.values()) - min(counts[i] for i in range(others)) <= 1


def test_main_and_extra_are_scattered(root):
  found = batches(make_config(root), 8)
  index = np.concatenate([b["index"] for b in found])
  extra = index >= 3
  assert extra.sum() == 16
  # An epoch is five images, and not always the same two come last.
  assert len({tuple(e) for e in extra.reshape(8, 5).tolist()}) > 2
  opened = data.open_data(make_config(root))
  labels = np.concatenate([opened.train.labels, opened.extra.labels])
  for batch in found:
    np.testing.assert_array_equal(batch["label"], labels[batch["index"]])
    np.testing.assert_array_equal(batch["has_box"], batch["index"] < 3)
    assert not batch["box"][~batch["has_box"]].any()


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_restored_state_goes_on_with_the_same_bits(root, stop):
  config = make_config(root)
  want = batches(config, 9, 4)
  config.data.threads = 4
  opened = data.open_data(config)
  iterator = data.train_iterator(opened.train, config, 4, opened.extra)
  list(itertools.islice(iterator, stop))
  state = json.loads(json.dumps(iterator.get_state()))
  again = data.train_iterator(opened.train, config, 4, opened.extra)
  again.set_state(state)
  for expected, batch in zip(want[stop:], again):
    for key, value in expected.items():
      np.testing.assert_array_equal(batch[key], value, err_msg=key)


@pytest.mark.parametrize("place", ["", "images"])
def test_the_main_data_is_refused(root, place):
  path = str(root / "link" / place)
  (root / "link").symlink_to(root / "cub")
  with pytest.raises(errors.InputError, match=r"extra\.path=.*one folder"):
    data.open_data(make_config(root, **{"extra.path": path}))


def test_wrong_folders_name_the_option(root):
  def opened(name, path):
    options = {"extra.path": str(root / path), "extra.name": name}
    return data.open_data(make_config(root, **options))

  for name, path, message in (
    ("folder", "none", "no such folder"),
    ("cub", "extra", r"no images\.txt"),
    ("folder", "extra/Crow", "no images in class"),
  ):
    with pytest.raises(errors.InputError, match=message) as info:
      opened(name, path)
    assert str(info.value).startswith("config.data.extra.path=")
  # Two of its images, of the test split.
  kept = {n: layouts.CUB_ROWS[n] for n in (2, 9)}
  layouts.make_cub(root / "tested", kept)
  with pytest.raises(errors.InputError, match="no training image"):
    opened("cub", "tested")


def test_check_counts_extra_images_and_lists_their_problems(root):
  report = check.check(make_config(root))
  assert report.problems == []
  lines = [line.split() for line in report.text.splitlines()]
  assert lines[0] == ["class", "train", "test", "extra"]
  assert lines[1] == ["001.Red_bird", "2", "1", "3"]
  assert lines[4] == ["Owl", "0", "0", "3"]
  assert lines[5] == ["all", "3", "2", "9"]
  assert "extra boxes: 0 of 9 readable images" in report.text
  broken = root / "extra" / FILES[5]
  broken.write_bytes(broken.read_bytes()[:-80])
  (problem,) = check.check(make_config(root)).problems
  assert FILES[5] in problem
