"""The drawn birds: exact boxes, same pixels everywhere, not too easy."""

import hashlib
import os
import pathlib
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifier

from mtlmoe_jax import config, errors
from mtlmoe_jax.data import source
from mtlmoe_jax.data.drawn import scenery, species, synthetic


def options(**changes):
  values = config.default_config().data.synthetic.to_dict()
  return types.SimpleNamespace(**{**values, **changes})


def small(split="train", **changes):
  kw = {"classes": 10, "per_class": 8, "size": 48, "seed": 0, **changes}
  return synthetic.Synthetic(split, **kw)


def sha(image):
  return hashlib.sha256(image.tobytes()).hexdigest()


def test_splits_have_the_sizes_asked_for_and_balanced_labels():
  train, test = synthetic.open_splits(options())
  assert (len(train), len(test)) == (1200, 400)
  assert np.bincount(train.labels).tolist() == [120] * 10
  assert np.bincount(test.labels).tolist() == [40] * 10
  assert train.labels.dtype == np.int32
  assert train.class_names == test.class_names


def test_record_follows_the_protocol():
  data = small()
  record = data[13]
  assert set(record) == set(source.Record.__annotations__)
  assert record["image"].shape == (48, 48, 3)
  assert record["image"].dtype == np.uint8
  assert record["box"].dtype == np.float32 and record["box"].shape == (4,)
  assert record["label"] == data.labels[13] == 1
  assert record["id"] == data.ids[13] == "train/001/0005"
  assert record["has_label"] is True and record["has_box"] is True


def test_an_index_out_of_range_ends_iteration():
  data = small(classes=1, per_class=2)
  assert len(list(data)) == 2
  assert data[-1]["id"] == data.ids[-1]
  with pytest.raises(IndexError):
    data[2]


def test_train_and_test_share_no_image():
  train, test = small(), small("test")
  assert not set(train.ids) & set(test.ids)
  seen = [sha(s[i]["image"]) for s in (train, test) for i in range(0, 80, 4)]
  assert len(set(seen)) == len(seen)


def test_more_classes_or_images_leave_the_earlier_ones_as_they_are():
  few, many = small(classes=3, per_class=2), small(classes=12, per_class=5)
  where = {name: i for i, name in enumerate(many.ids)}
  for i, name in enumerate(few.ids):
    a, b = few[i], many[where[name]]
    np.testing.assert_array_equal(a["image"], b["image"])
    assert a["attributes"] == b["attributes"]
  assert few.class_names == many.class_names[:3]


def test_pixels_are_the_same_in_another_process():
  code = (
    "import hashlib\n"
    "from mtlmoe_jax.data.drawn.synthetic import Synthetic\n"
    "data = Synthetic('train', 10, 8, 48, 7)\n"
    "for i in (79, 3, 41, 22):\n"
    "  print(hashlib.sha256(data[i]['image'].tobytes()).hexdigest())\n"
  )
  # The hash seed of the other process differs on purpose.
  out = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    check=True,
    env={**os.environ, "PYTHONHASHSEED": "123", "JAX_PLATFORMS": "cpu"},
    cwd=pathlib.Path(__file__).resolve().parents[4],
  ).stdout.split()
  data = small(seed=7)
  assert out == [sha(data[i]["image"]) for i in (79, 3, 41, 22)]


def test_threads_see_the_same_pixels():
  data = small()
  alone = [sha(data[i]["image"]) for i in range(0, 80, 2)]
  with ThreadPoolExecutor(4) as pool:
    together = list(pool.map(lambda i: sha(data[i]["image"]), range(0, 80, 2)))
  assert together == alone


def test_seed_and_size_change_the_pixels():
  base = small()[0]
  assert (small(seed=1)[0]["image"] != base["image"]).any()
  big = small(size=96)[0]
  assert big["image"].shape == (96, 96, 3)
  # The same bird in the same place, up to the finer grid.
  np.testing.assert_allclose(big["box"], base["box"], atol=1.5 / 48)


@pytest.mark.parametrize("i", range(3, 80, 7))
def test_box_is_the_tight_box_of_the_redrawn_mask(i):
  data = small()
  mask, box = data.mask(i), data[i]["box"]
  rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
  tight = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
  np.testing.assert_array_equal(box, np.float32(tight) / len(mask))


def test_box_holds_exactly_the_pixels_that_depend_on_the_bird():
  # Two species that differ in their colours only: the images differ where the
  # bird is and nowhere else (but for the reflection of one that swims).
  data = small()
  other = small()
  kind = other._species[0]
  paint = {"upper": (255, 0, 255), "lower": (0, 255, 0)}
  changed = species.Species(**{**kind.__dict__, **paint})
  other._species = (changed, *other._species[1:])
  dry = [
    i
    for i in range(8)
    if data[i]["attributes"]["pose"] != synthetic.POSES.index("swimming")
  ]
  assert dry
  for i in dry:
    a, b = data[i], other[i]
    differs = (a["image"] != b["image"]).any(-1)
    rows, columns = (
      np.flatnonzero(differs.any(1)),
      np.flatnonzero(differs.any(0)),
    )
    x0, y0, x1, y1 = a["box"] * 48
    assert columns[0] >= int(x0) and columns[-1] <= int(np.ceil(x1)) - 1
    assert rows[0] >= int(y0) and rows[-1] <= int(np.ceil(y1)) - 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 199))
def test_any_seed_and_class_gives_a_bird_in_the_frame(seed, label):
  data = synthetic.Synthetic("test", species.COUNT, 1, 32, seed)
  record = data[label]
  x0, y0, x1, y1 = record["box"]
  assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
  assert 0.4 <= max(x1 - x0, y1 - y0) <= 1
  assert record["attributes"]["occlusion"] <= 0.22


def test_attributes_are_complete_and_true():
  data = small(per_class=12)
  records = [data[i] for i in range(len(data))]
  values = [r["attributes"] for r in records]
  assert all(tuple(v) == synthetic.ATTRIBUTES for v in values)
  assert all(type(x) is float for v in values for x in v.values())
  table = {k: np.array([v[k] for v in values]) for k in synthetic.ATTRIBUTES}
  assert set(table["pose"]) == {0, 1, 2}
  assert set(table["facing"]) == {-1, 1}
  assert set(table["background"]) == set(range(len(scenery.BACKGROUNDS)))
  assert 0 < np.mean(table["occlusion"] > 0) < 1
  assert (table["family"] == np.repeat([0, 1], 60)).all()
  assert ((table["flap"] != 0) == (table["pose"] == 1)).all()
  boxes = np.stack([r["box"] for r in records])
  np.testing.assert_allclose(table["centre_x"], boxes[:, ::2].mean(1), 1e-5)
  np.testing.assert_allclose(
    table["scale"], (boxes[:, 2:] - boxes[:, :2]).max(1), 1e-5
  )
  # No class keeps to one pose, side or background.
  for c in range(10):
    mine = data.labels == c
    assert len(set(table["pose"][mine])) > 1
    assert len(set(table["facing"][mine])) == 2
    assert len(set(table["background"][mine])) > 2


def test_a_bird_that_faces_left_has_its_bill_on_the_left():
  # The longest bill of the first family; without looking back.
  data = small(per_class=40)
  names = [s.traits["bill"] for s in species.first(10)]
  label = names.index("curved")
  for j in range(40):
    i = label * 40 + j
    record = data[i]
    told = record["attributes"]
    if told["look_back"] or told["pose"] != 1:
      continue
    mask = data.mask(i)
    x0, x1 = (round(float(v) * mask.shape[1]) for v in record["box"][::2])
    if x0 == 0 or x1 == mask.shape[1]:
      continue  # The frame cuts it.
    edge = max(2, (x1 - x0) // 12)
    left, right = mask[:, x0 : x0 + edge].sum(), mask[:, x1 - edge : x1].sum()
    # The bill is thinner than the tail.
    assert (left < right) == (told["facing"] < 0)


def test_names_are_unique_stable_and_describe_traits():
  names = synthetic.species_names(200)
  assert len(set(names)) == len(names) == 200
  assert synthetic.species_names(10) == names[:10]
  assert all(len(n.split()) >= 3 for n in names)
  for kind in species.first(200):
    assert ("long-billed" in kind.name) <= (kind.traits["bill"] == "long")
    assert ("crested" in kind.name) <= (kind.traits["crown"] == "crested")


def test_species_of_a_family_share_colours_and_differ_in_several_parts():
  kinds = species.first(200)
  for a in kinds:
    for b in kinds:
      if a is b or a.family != b.family:
        continue
      assert (a.upper, a.lower, a.shape) == (b.upper, b.lower, b.shape)
      differing = sum(a.traits[t] != b.traits[t] for t in species.TRAITS)
      assert differing >= 3 and species.distance(a, b) >= 6


@pytest.mark.parametrize("classes", [0, 201])
def test_number_of_classes_is_checked(classes):
  with pytest.raises(errors.InputError, match=rf"classes={classes}\b"):
    synthetic.open_splits(options(classes=classes))


def test_fingerprint_changes_with_every_option_and_nothing_else():
  base = small()
  assert base.fingerprint == small().fingerprint
  others = [
    small("test"),
    small(seed=1),
    small(size=64),
    small(classes=9),
    small(per_class=9),
  ]
  prints = {base.fingerprint, *(o.fingerprint for o in others)}
  assert len(prints) == 6
  assert all(len(p) == 64 for p in prints)


@pytest.fixture(scope="module")
def drawn():
  """Images and labels of a small training and a small test split."""
  out = []
  for split, count in (("train", 24), ("test", 12)):
    data = small(split, per_class=count)
    images = [data[i]["image"] for i in range(len(data))]
    out.append((np.stack(images), data.labels))
  return out


def ridge_accuracy(features, drawn):
  (train, train_labels), (test, test_labels) = drawn
  model = RidgeClassifier(alpha=1.0).fit(features(train), train_labels)
  return model.score(features(test), test_labels)


def test_a_linear_classifier_of_pixels_fails(drawn):
  def pixels(images):
    coarse = images.reshape(len(images), 16, 3, 16, 3, 3).mean((2, 4))
    return coarse.reshape(len(images), -1) / 255 - 0.5

  assert ridge_accuracy(pixels, drawn) < 0.35  # Chance: 0.1.


def test_a_colour_histogram_does_not_tell_the_species(drawn):
  def histogram(images):
    codes = (images // 64) @ np.array([16, 4, 1])
    counts = [np.bincount(c.ravel(), minlength=64) for c in codes]
    return np.sqrt(np.stack(counts) / codes[0].size)

  # Chance is 0.1, and 0.2 once the family is known.
  assert ridge_accuracy(histogram, drawn) < 0.4
