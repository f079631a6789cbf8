import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax.ops import mixup as mixing

COUNT = 8
mixup = jax.jit(mixing.mixup)


def batch(has_label=(True,) * COUNT, valid=(True,) * COUNT):
  rng = np.random.default_rng(0)
  return {
    "image": rng.integers(0, 256, (COUNT, 2, 3, 3), dtype=np.uint8),
    "label": np.arange(COUNT, dtype=np.int32),
    "has_label": np.array(has_label),
    "has_box": np.arange(COUNT) % 3 > 0,
    "valid": np.array(valid),
    "index": np.arange(10, 10 + COUNT),
  }


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_mixed_images_are_those_of_a_loop(alpha):
  given_batch = batch()
  found = mixup(jax.random.key(1), given_batch, 0.5, alpha)
  weights = np.asarray(found["label_weight"])
  mixed = weights < 1
  assert 0 < mixed.sum() < COUNT
  assert (weights >= 0.5).all()
  for b in range(COUNT):
    own, other = given_batch["image"][[b, b - 1]].astype(np.float64)
    want = weights[b] * own + (1 - weights[b]) * other
    np.testing.assert_allclose(found["image"][b], want, rtol=1e-6)
    assert found["other_label"][b] == (b - 1) % COUNT
    assert found["has_box"][b] == (given_batch["has_box"][b] and not mixed[b])
  for name in ("label", "has_label", "valid", "index"):
    np.testing.assert_array_equal(found[name], given_batch[name])
  whole = given_batch["image"][~mixed].astype(np.float32)
  np.testing.assert_array_equal(found["image"][~mixed], whole)


def test_features_of_a_stem_are_mixed_as_the_images():
  given_batch = batch()
  # A linear stem: features of a mixed image are the mixed features.
  stem = np.random.default_rng(1).normal(size=(2 * 3 * 3, 5))
  given_batch["features"] = (
    given_batch["image"].reshape(COUNT, -1) @ stem
  ).astype(np.float16)
  found = mixup(jax.random.key(1), given_batch, 0.5, 1.0)
  want = np.asarray(found["image"]).reshape(COUNT, -1) @ stem
  np.testing.assert_allclose(found["features"], want, rtol=2e-3, atol=1.0)
  assert (np.asarray(found["label_weight"]) < 1).any()
  assert found["features"].dtype == np.float32


def test_share_0_mixes_none_and_share_1_all():
  none, all_ = (mixup(jax.random.key(0), batch(), s, 1.0) for s in (0.0, 1.0))
  assert (none["label_weight"] == 1).all()
  np.testing.assert_array_equal(none["has_box"], batch()["has_box"])
  assert (all_["label_weight"] < 1).all() and not all_["has_box"].any()


FLAGS = st.lists(st.booleans(), min_size=COUNT, max_size=COUNT)


@settings(max_examples=25, deadline=None)
@given(FLAGS, FLAGS, st.integers(0, 99))
def test_only_images_with_labels_on_both_sides_are_mixed(labels, valid, seed):
  found = mixup(jax.random.key(seed), batch(labels, valid), 1.0, 1.0)
  usable = np.array(labels) & np.array(valid)
  mixed = np.asarray(found["label_weight"]) < 1
  np.testing.assert_array_equal(mixed, usable & np.roll(usable, 1))


def test_the_key_decides_alone():
  one, same, other = (
    mixup(jax.random.key(k), batch(), 0.5, 1.0) for k in (3, 3, 4)
  )
  jax.tree.map(np.testing.assert_array_equal, one, same)
  assert (one["label_weight"] != other["label_weight"]).any()


def test_parts_are_folded_beta():
  # Alpha 1 is uniform: folded it is uniform in [1/2, 1], with variance 1/48.
  keys = jax.random.split(jax.random.key(0), 500)
  many = jax.jit(jax.vmap(mixing.mixup, (0, None, None, None)))
  weights = np.asarray(many(keys, batch(), 1.0, 1.0)["label_weight"]).ravel()
  assert abs(weights.mean() - 0.75) < 4 / np.sqrt(48 * weights.size)
