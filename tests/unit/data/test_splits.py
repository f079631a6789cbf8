import os
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data, errors
from mtlmoe_jax.data import splits
from mtlmoe_jax.data.source import Concat, Subset
from tests.support import layouts

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(
  lambda v: np.asarray(v, np.int32)
)


@given(LABELS)
@settings(max_examples=25, deadline=None)
def test_poster_split_against_a_naive_one(labels):
  train, test = splits.poster_split(labels)
  seen, want = {}, []
  for i, label in enumerate(labels.tolist()):
    if seen.get(label, 0) % 10 == 0:
      want.append(i)
    seen[label] = seen.get(label, 0) + 1
  np.testing.assert_array_equal(test, want)
  assert sorted([*train, *test]) == list(range(len(labels)))
  for label, count in seen.items():
    assert (labels[test] == label).sum() == -(-count // 10)


@given(LABELS, st.floats(0.01, 0.99), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_hold_out_takes_a_share_of_each_class(labels, share, seed):
  kept, held = splits.hold_out(labels, share, seed)
  assert sorted([*kept, *held]) == list(range(len(labels)))
  for label in set(labels.tolist()):
    count = (labels == label).sum()
    out = (labels[held] == label).sum()
    if count == 1:
      assert out == 0
    else:
      assert 1 <= out <= count - 1
      assert abs(out - share * count) <= 1
  again = splits.hold_out(labels, share, seed)[1]
  np.testing.assert_array_equal(held, again)


def test_hold_out_depends_on_the_seed_and_spares_unlabelled():
  labels = np.repeat([0, 1, -1], 40)
  held = [splits.hold_out(labels, 0.25, seed)[1] for seed in (0, 1)]
  assert [len(h) for h in held] == [20, 20]
  assert set(held[0]) != set(held[1])
  assert (labels[held[0]] >= 0).all()


NAMES = st.lists(
  st.tuples(st.integers(0, 3), st.text("abc", min_size=1)),
  min_size=2,
  max_size=40,
  unique=True,
)


@given(NAMES, st.floats(0.05, 0.9), st.integers(0, 3), st.randoms())
@settings(max_examples=60, deadline=None)
def test_hold_out_by_name_knows_no_order_and_hardly_moves(
  images, share, seed, random
):
  def held(images):
    labels = np.array([label for label, _ in images])
    ids = [f"{label}/{name}" for label, name in images]
    return {ids[i] for i in splits.hold_out(labels, share, seed, ids)[1]}

  before = held(images)
  new = images.pop(random.randrange(len(images)))
  random.shuffle(images)
  moved = (held(images) ^ before) - {f"{new[0]}/{new[1]}"}
  assert len(moved) <= 1
  assert all(name.startswith(f"{new[0]}/") for name in moved)


GROUPED = st.lists(
  st.tuples(st.integers(-1, 3), st.integers(0, 9)), min_size=1, max_size=60
)


@given(GROUPED, st.floats(0.05, 0.9), st.integers(0, 3), st.randoms())
@settings(max_examples=100, deadline=None)
def test_no_group_is_ever_in_two_parts(pairs, share, seed, random):
  ids = [f"{i:02d}" for i in range(len(pairs))]
  labels, groups = (np.array(v) for v in zip(*pairs))
  kept, held = splits.hold_out_groups(labels, groups, share, seed, ids)
  assert sorted([*kept, *held]) == list(range(len(ids)))
  assert not set(groups[kept]) & set(groups[held])
  assert set(labels[kept]) >= set(labels) - {-1}  # each can be learned
  order = list(range(len(ids)))
  random.shuffle(order)
  again = splits.hold_out_groups(
    labels[order], 7 * groups[order], share, seed, [ids[i] for i in order]
  )[1]
  assert {order[i] for i in again} == set(held.tolist())
  folds = splits.fold_groups(labels, groups, 3, seed, ids)
  for group in np.unique(groups):
    assert len(set(folds[groups == group])) == 1
  dealt = splits.shuffle_folds(labels, folds, seed, ids)
  for label in np.unique(labels):
    np.testing.assert_array_equal(
      np.bincount(dealt[labels == label], minlength=3),
      np.bincount(folds[labels == label], minlength=3),
    )


def test_groups_are_held_out_near_their_share():
  # 30 groups of 1 to 5 images each in two classes that share none.
  sizes = np.tile([1, 2, 3, 4, 5], 12)
  groups = np.repeat(np.arange(60), sizes)
  labels = groups % 2
  ids = [f"{i:03d}" for i in range(len(groups))]
  held = splits.hold_out_groups(labels, groups, 0.2, 0, ids)[1]
  for label in (0, 1):
    assert abs((labels[held] == label).sum() - 18) <= 2
  # What one class is like changes nothing in the other.
  some = np.flatnonzero((labels == 0) | (groups < 30))
  fewer = splits.hold_out_groups(
    labels[some], groups[some], 0.2, 0, [ids[i] for i in some]
  )[1]
  first = {ids[i] for i in held if labels[i] == 0}
  assert first == {ids[some[i]] for i in fewer if labels[some[i]] == 0}
  other = splits.hold_out_groups(labels, groups, 0.2, 1, ids)[1]
  assert set(other) != set(held)


def test_two_large_groups_give_one_and_a_single_one_stays():
  labels = np.repeat([0, 0, 1], 10)
  groups = np.repeat([5, 6, 7], 10)
  ids = [f"{i:02d}" for i in range(30)]
  held = splits.hold_out_groups(labels, groups, 0.1, 0, ids)[1]
  assert set(groups[held]) in ({5}, {6})


def test_folds_have_each_class_in_equal_parts():
  labels = np.repeat([0, 1, 2], [20, 15, 7])
  ids = [f"{i:02d}" for i in range(42)]
  folds = splits.fold_groups(labels, np.arange(42), 5, 0, ids)
  for label, most in ((0, 4), (1, 3), (2, 2)):
    counts = np.bincount(folds[labels == label], minlength=5)
    assert counts.max() == most
    assert counts.max() - counts.min() <= 1
  assert np.ptp(np.bincount(folds)) <= 2
  dealt = splits.shuffle_folds(labels, folds, 1, ids)
  assert (dealt != folds).mean() > 0.5


def test_true_cub_sizes():
  # The parent of MTLMOE_CUB_DIR may hold all annotation files.
  parent = pathlib.Path(os.environ.get("MTLMOE_CUB_DIR", "/none")).parent
  file = parent / "cub_annotations_full" / "image_class_labels.txt"
  if not file.is_file():
    pytest.skip("no cub_annotations_full beside MTLMOE_CUB_DIR")
  labels = np.loadtxt(file, dtype=np.int32)[:, 1] - 1
  assert len(labels) == 11788
  train, test = splits.poster_split(labels)
  assert len(test) == 1191
  assert len(train) == 11788 - 1191
  last = splits.choose_classes([str(i) for i in range(200)], "last:10")
  assert np.isin(labels[test], last).sum() == 60
  kept, held = splits.hold_out(labels[train], 0.1, 0)
  assert len(np.unique(labels[train][held])) == 200
  assert abs(len(held) - 0.1 * len(train)) < 100
  assert len(kept) + len(held) == len(train)


NAMES = ("ant", "bee", "cat", "dog", "7")


@pytest.mark.parametrize(
  ("wanted", "labels"),
  [
    ("all", [0, 1, 2, 3, 4]),
    ("first:2", [0, 1]),
    ("last:2", [3, 4]),
    ("except_last:2", [0, 1, 2]),
    ("cat,ant", [0, 2]),
    (("dog", "1"), [1, 3]),
    ("7", [4]),  # the name wins over the index
    (" bee , 0 ", [0, 1]),
  ],
)
def test_choose_classes(wanted, labels):
  assert splits.choose_classes(NAMES, wanted) == labels


@pytest.mark.parametrize(
  ("wanted", "message"),
  [
    ("first:0", "from 1 to 5"),
    ("last:6", "from 1 to 5"),
    ("first:x", "'x'"),
    ("except_last:5", "leaves none"),
    ("", "names no class"),
    ((), "names no class"),
    ("cow", "unknown class 'cow'"),
    ("5", "unknown class '5'"),
    ("middle:2", "unknown class 'middle:2'"),
    ("ant,0", "names a class twice"),
  ],
)
def test_bad_classes(wanted, message):
  with pytest.raises(errors.InputError, match=message) as info:
    splits.choose_classes(NAMES, wanted)
  assert "config.data.classes" in str(info.value)


def cub_config(root, **options):
  config = config_lib.default_config()
  config.data.name = "cub"
  config.data.path = str(root)
  config.data.image_size = 32
  for key, value in options.items():
    config.data[key] = value
  return config


@pytest.fixture
def eleven_each(tmp_path, monkeypatch):
  rows = {
    100 * c + i + 1: (f"{c + 1:03d}.{n}", 12, 8, (1, 1, 9, 5), i % 2)
    for c, n in enumerate(("a", "b", "c"))
    for i in range(11)
  }
  monkeypatch.setattr(layouts, "CUB_ROWS", rows)
  return layouts.make_cub(tmp_path / "cub")


def test_open_data_official(eleven_each):
  opened = data.open_data(cub_config(eleven_each, validation_fraction=0.2))
  assert opened.class_names == ("001.a", "002.b", "003.c")
  np.testing.assert_array_equal(np.bincount(opened.test.labels), [6, 6, 6])
  np.testing.assert_array_equal(np.bincount(opened.train.labels), [4, 4, 4])
  np.testing.assert_array_equal(
    np.bincount(opened.validation.labels), [1, 1, 1]
  )
  ids = [*opened.train.ids, *opened.validation.ids, *opened.test.ids]
  assert len(set(ids)) == 33


def test_open_data_poster_subset_and_no_validation(eleven_each):
  config = cub_config(
    eleven_each,
    split_scheme="poster",
    classes="last:2",
    validation_fraction=0.0,
  )
  opened = data.open_data(config)
  assert opened.validation is None
  assert opened.class_names == ("002.b", "003.c")
  # Labels begin at 0 again, and name the right folder.
  for part in (opened.train, opened.test):
    for i in range(len(part)):
      record = part[i]
      assert record["id"].startswith(opened.class_names[record["label"]])
      assert record["label"] == part.labels[i]
  np.testing.assert_array_equal(np.bincount(opened.test.labels), [2, 2])
  np.testing.assert_array_equal(np.bincount(opened.train.labels), [9, 9])


def test_fingerprint_follows_split_and_seed(eleven_each):
  def told(seed=0, **options):
    config = cub_config(eleven_each, **options)
    config.seed = seed
    return data.open_data(config).fingerprint

  prints = [
    told(),
    told(seed=1),
    told(split_scheme="poster"),
    told(classes="first:2"),
  ]
  assert len(set(prints)) == 4
  assert told() == prints[0]


def test_empty_split_is_refused(tmp_path):
  rows = {
    n: (*row[:4], 1) for n, row in layouts.CUB_ROWS.items()
  }  # nothing in test
  root = layouts.make_cub(tmp_path / "cub", rows)
  with pytest.raises(errors.InputError, match="test split is empty"):
    data.open_data(cub_config(root))


def test_synthetic_goes_through_the_same_door():
  config = config_lib.default_config()
  config.data.synthetic.classes = 5
  config.data.synthetic.train_per_class = 4
  config.data.synthetic.test_per_class = 2
  config.data.synthetic.size = 32
  config.data.classes = "last:2"
  opened = data.open_data(config)
  assert len(opened.train) == 6
  assert len(opened.validation) == 2
  assert len(opened.test) == 4
  assert opened.train[0]["label"] == opened.train.labels[0]


def test_concat_and_subset_views(eleven_each):
  source = data.open_data(cub_config(eleven_each)).test
  both = Concat([Subset(source, [3, 1]), Subset(source, [0])])
  assert both.ids == [source.ids[3], source.ids[1], source.ids[0]]
  assert [both[i]["id"] for i in range(3)] == both.ids
  relabelled = Subset(source, [0], ("x", "y"), {0: 1})
  assert relabelled[0]["label"] == relabelled.labels[0] == 1
  assert relabelled.fingerprint != Subset(source, [0]).fingerprint
