"""Boxes shuffled among the images of training: a control."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data, errors
from mtlmoe_jax.data import shuffled
from tests.support import layouts, tiny

seeds = st.integers(0, 2**16)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 60), seeds)
def test_derangement_moves_everything(count, seed):
  found = shuffled.derangement(count, seed)
  assert sorted(found.tolist()) == list(range(count))
  assert count == 1 or not np.any(found == np.arange(count))
  np.testing.assert_array_equal(found, shuffled.derangement(count, seed))


def boxes_of(source):
  return np.array([source[i]["box"] for i in range(len(source))])


def opened(**options):
  return data.open_data(tiny.config(**options))


def test_training_images_have_one_anothers_boxes():
  plain, mixed = opened(), opened(**{"data.shuffle_boxes": True})
  before, after = boxes_of(plain.train), boxes_of(mixed.train)
  np.testing.assert_array_equal(after, before[mixed.train.donors])
  assert np.all(np.any(after != before, 1))
  assert sorted(after.tolist()) == sorted(before.tolist())
  # Again, and in another order: what was kept is what was read.
  for i in reversed(range(len(mixed.train))):
    one, other = plain.train[i], mixed.train[i]
    np.testing.assert_array_equal(other["box"], after[i])
    np.testing.assert_array_equal(other["image"], one["image"])
    for key in ("label", "id", "has_label", "attributes"):
      assert one[key] == other[key]
  for split in ("validation", "test"):
    one, other = getattr(plain, split), getattr(mixed, split)
    assert one.fingerprint == other.fingerprint
    np.testing.assert_array_equal(boxes_of(one), boxes_of(other))
  prints = {
    d.train.fingerprint
    for d in (plain, mixed, opened(**{"data.shuffle_boxes": True, "seed": 1}))
  }
  assert len(prints) == 3 and plain.fingerprint != mixed.fingerprint
  again = opened(**{"data.shuffle_boxes": True})
  assert again.fingerprint == mixed.fingerprint


def test_a_missing_box_goes_round_and_extra_images_keep_theirs(tmp_path):
  layouts.make_cub(tmp_path / "cub")
  layouts.make_cub(tmp_path / "extra")
  options = {
    "data.name": "cub",
    "data.path": str(tmp_path / "cub"),
    "data.extra.path": str(tmp_path / "extra"),
    "data.extra.name": "cub",
    "data.validation_fraction": 0.0,
  }
  plain = opened(**options)
  mixed = opened(**options, **{"data.shuffle_boxes": True})
  np.testing.assert_array_equal(boxes_of(mixed.extra), boxes_of(plain.extra))

  class Without:
    """The first record has no box."""

    def __getitem__(self, index):
      return {**plain.train[index], "has_box": index != 0}

    def __len__(self):
      return len(plain.train)

    def __getattr__(self, name):
      return getattr(plain.train, name)

  source = shuffled.ShuffledBoxes(Without(), 0)
  has_box = [source[i]["has_box"] for i in range(len(source))]
  assert has_box == [donor != 0 for donor in source.donors]
  assert has_box[0]


def test_each_image_is_read_at_most_twice():
  reads = []

  class Counting:
    name, class_names, ids, labels, fingerprint = "c", (), (), (), ""

    def __len__(self):
      return 6

    def __getitem__(self, index):
      reads.append(index)
      return {"box": np.full(4, index, np.float32), "has_box": True}

  source = shuffled.ShuffledBoxes(Counting(), 0)
  for _ in range(3):
    for i in range(6):
      assert source[i]["box"][0] == source.donors[i]
  assert max(reads.count(i) for i in range(6)) <= 3 + 1


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (
      {"data.shuffle_boxes": True, "model.tasks": "class"},
      r"config\.data\.shuffle_boxes=True: .*tasks is 'class'; add 'box'",
    ),
    (
      {"loss.weighting": "pcgrad", "model.tasks": "box"},
      r"config\.loss\.weighting='pcgrad': .*tasks is 'box'; use 'class,box'",
    ),
  ],
)
def test_controls_that_need_tasks_are_refused_without(options, message):
  with pytest.raises(errors.InputError, match=message) as error:
    config_lib.check_config(tiny.config(**options))
  assert "\n" not in str(error.value)
