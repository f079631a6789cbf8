import itertools
import json
import threading

import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data, errors
from mtlmoe_jax.data import cache, pipeline
from tests.support import layouts

ROWS = {
  i + 1: (f"00{1 + i % 2}.c{i % 2}", 50 + i, 40, (5, 5, 30, 25), 1)
  for i in range(14)
}


@pytest.fixture
def root(tmp_path, monkeypatch):
  monkeypatch.setattr(layouts, "CUB_ROWS", ROWS)
  root = layouts.make_cub(tmp_path / "cub")
  # The last two are the test split.
  for number in (13, 14):
    layouts.edit(root / "train_test_split.txt", f"{number} 1", f"{number} 0")
  return root


def make_config(root, **options):
  config = config_lib.default_config()
  config.data.name = "cub"
  config.data.path = str(root)
  config.data.image_size = 32
  config.data.validation_fraction = 0.0
  for key, value in options.items():
    config.data[key] = value
  return config


def train(config, batch_size=5):
  source = data.open_data(config).train
  return data.train_iterator(source, config, batch_size)


def take(iterator, count):
  return list(itertools.islice(iterator, count))


def assert_same(first, second):
  assert len(first) == len(second)
  for a, b in zip(first, second):
    assert a.keys() == b.keys()
    for key in a:
      np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_batch_fields(root):
  (batch,) = take(train(make_config(root)), 1)
  shapes = {k: (v.shape, v.dtype.str[1:]) for k, v in batch.items()}
  assert shapes == {
    "image": ((5, 32, 32, 3), "u1"),
    "label": ((5,), "i4"),
    "box": ((5, 4), "f4"),
    "has_label": ((5,), "b1"),
    "has_box": ((5,), "b1"),
    "valid": ((5,), "b1"),
    "index": ((5,), "i4"),
  }
  assert batch["valid"].all()
  assert batch["has_box"].all()
  assert ((batch["box"] >= 0) & (batch["box"] <= 1)).all()
  source = data.open_data(make_config(root)).train
  np.testing.assert_array_equal(batch["label"], source.labels[batch["index"]])


def test_each_epoch_has_each_image_once_in_its_own_order(root):
  # 12 images, batches of 5: batches run across the ends of epochs.
  batches = take(train(make_config(root)), 12)
  seen = np.concatenate([b["index"] for b in batches]).reshape(5, 12)
  for epoch in seen:
    np.testing.assert_array_equal(np.sort(epoch), np.arange(12))
  assert len({tuple(epoch) for epoch in seen.tolist()}) == 5
  # And other crops of the same image in other epochs.
  pixels = np.concatenate([b["image"] for b in batches])
  flat = seen.ravel()
  first, second = np.flatnonzero(flat == 0)[:2]
  assert (pixels[first] != pixels[second]).any()


def test_threads_and_cache_never_change_the_bits(root):
  want = take(train(make_config(root, threads=1, cache_gib=0.0)), 8)
  for options in (
    {"threads": 4, "cache_gib": 0.0},
    {"threads": 2, "cache_gib": 1.0},
    {"threads": 2, "cache_gib": 3 * 6000 / cache.GIB},
  ):
    assert_same(want, take(train(make_config(root, **options)), 8))


def test_seed_changes_order_and_crops(root):
  config = make_config(root)
  first = take(train(config), 2)
  config.seed = 1
  second = take(train(config), 2)
  assert (first[0]["index"] != second[0]["index"]).any()


@pytest.mark.parametrize("stop", [0, 1, 3, 7])
def test_restored_state_goes_on_with_the_same_bits(root, stop):
  config = make_config(root)
  iterator = train(config)
  take(iterator, stop)
  state = iterator.get_state()
  assert len(json.dumps(state)) < 200
  want = take(iterator, 6)
  again = train(config)
  again.set_state(json.loads(json.dumps(state)))
  assert_same(want, take(again, 6))
  # Also backwards, on an iterator that has run ahead.
  again.set_state(state)
  assert_same(want[:2], take(again, 2))


def test_eval_drops_nothing_and_pads_the_last_batch(root):
  config = make_config(root)
  source = data.open_data(config).train
  batches = list(data.eval_batches(source, config, 5))
  assert len(batches) == data.num_batches(source, 5) == 3
  assert all(b["image"].shape == (5, 32, 32, 3) for b in batches)
  index = np.concatenate([b["index"] for b in batches])
  np.testing.assert_array_equal(index, [*range(12), -1, -1, -1])
  valid = np.concatenate([b["valid"] for b in batches])
  np.testing.assert_array_equal(valid, index >= 0)
  last = batches[-1]
  assert (last["label"][2:] == -1).all()
  for key in ("image", "box", "has_label", "has_box"):
    assert not last[key][2:].any()
  # The frame is the whole image as prediction resizes it, box unchanged.
  path = root / "images" / source.ids[1]
  want = data.resize(data.load_image(path), 32)
  np.testing.assert_array_equal(batches[0]["image"][1], want)
  np.testing.assert_array_equal(batches[0]["box"][1], source[1]["box"])


def test_eval_of_a_large_image_equals_prediction(tmp_path, monkeypatch):
  # Cached images are shrunk first; that must not show.
  rows = {
    1: ("001.c0", 401, 203, (5, 5, 30, 25), 0),
    2: ("001.c0", 90, 300, (5, 5, 30, 25), 1),
  }
  monkeypatch.setattr(layouts, "CUB_ROWS", rows)
  config = make_config(layouts.make_cub(tmp_path / "large"))
  source = data.open_data(config).test
  assert min(source[0]["image"].shape[:2]) == 64
  (batch,) = data.eval_batches(source, config, 1)
  path = tmp_path / "large" / "images" / source.ids[0]
  want = data.resize(data.load_image(path), 32)
  np.testing.assert_array_equal(batch["image"][0], want)


def test_pad_leaves_full_batches_alone():
  batch = {"valid": np.ones(3, bool), "index": np.arange(3)}
  assert pipeline.pad(batch, 3) is batch


def test_a_file_that_breaks_later_is_named(root):
  config = make_config(root)
  source = data.open_data(config).train
  path = root / "images" / source.ids[4]
  path.write_bytes(path.read_bytes()[:-200])
  with pytest.raises(errors.InputError, match=path.name):
    take(data.train_iterator(source, config, 4), 3)
  with pytest.raises(errors.InputError, match=path.name):
    list(data.eval_batches(source, config, 4))


class Counting:
  """A source that counts how often each record is decoded."""

  name, class_names, fingerprint = "counting", ("a",), "0"

  def __init__(self, count):
    self.ids = [str(i) for i in range(count)]
    self.labels = np.zeros(count, np.int32)
    self.reads = [0] * count

  def __len__(self):
    return len(self.ids)

  def __getitem__(self, index):
    self.reads[index] += 1
    return {
      "image": np.full((10, 10, 3), index, np.uint8),
      "label": np.int32(0),
      "box": np.zeros(4, np.float32),
      "has_label": True,
      "has_box": False,
      "id": self.ids[index],
    }


def test_cache_is_bounded_shared_and_read_only():
  budget = cache.Budget(5 * 300 / cache.GIB)
  first, second = Counting(4), Counting(4)
  caches = [cache.CachedSource(s, 64, budget) for s in (first, second)]
  for _ in range(3):
    for view in caches:
      for i in range(4):
        assert (view[i]["image"] == i).all()
  # 5 of 8 images of 300 bytes fit.
  assert first.reads == [1, 1, 1, 1]
  assert second.reads == [1, 3, 3, 3]
  with pytest.raises(ValueError, match="read-only"):
    caches[0][0]["image"][:] = 0
  caches[0][0]["id"] = "changed"
  assert caches[0][0]["id"] == "0"


def test_cache_from_many_threads():
  budget = cache.Budget(20 * 300 / cache.GIB)
  view = cache.CachedSource(Counting(30), 64, budget)
  wrong = []

  def read(seed):
    for i in np.random.default_rng(seed).integers(0, 30, 300):
      if not (view[int(i)]["image"] == i).all():
        wrong.append(i)

  threads = [threading.Thread(target=read, args=(s,)) for s in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not wrong
  assert len(view._kept) == 20
  assert not budget.take(1)


def test_empty_source_is_refused():
  config = config_lib.default_config()
  with pytest.raises(errors.InputError, match="empty"):
    data.train_iterator(Counting(0), config, 2)
  assert list(data.eval_batches(Counting(0), config, 2)) == []


def test_batches_larger_than_the_data_set(root):
  (batch,) = take(train(make_config(root), batch_size=30), 1)
  assert len(batch["index"]) == 30
  assert set(batch["index"].tolist()) == set(range(12))


@pytest.mark.parametrize("batch_size", [1, 8, 14, 24])
def test_the_stream_is_the_same_in_batches_of_any_size(root, batch_size):
  def stream(size):
    batches = take(train(make_config(root), size), 48 // size)
    return {
      key: np.concatenate([b[key] for b in batches]) for key in batches[0]
    }

  want, got = stream(12), stream(batch_size)
  for key, value in got.items():
    np.testing.assert_array_equal(value, want[key][: len(value)], err_msg=key)
