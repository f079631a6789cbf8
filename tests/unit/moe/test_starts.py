"""Where a router starts: clusters, discriminants, calibration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax.moe import starts


def softmax(x):
  e = np.exp(x - x.max(1, keepdims=True))
  return e / e.sum(1, keepdims=True)


def blobs(sizes, width=3, seed=0, spread=0.05):
  """Points around corners that are far from each other; (points, corner)."""
  rng = np.random.default_rng(seed)
  label = np.repeat(np.arange(len(sizes)), sizes)
  corners = 10 * np.eye(max(width, len(sizes)))[: len(sizes), :width]
  return corners[label] + spread * rng.normal(size=(len(label), width)), label


def classes(count, images, features=12, apart=1.0, seed=0):
  """Features of images of some classes: (z, labels)."""
  rng = np.random.default_rng(seed)
  means = apart * rng.normal(size=(count, features))
  labels = np.repeat(np.arange(count), images)
  return means[labels] + rng.normal(size=(len(labels), features)), labels


def probabilities(z, fit):
  router = starts.linear_router(fit)
  return softmax(z @ router.kernel + router.bias)


def test_moments_by_hand():
  mean, std = starts.moments(np.array([[1.0, 5], [3, 5]]))
  np.testing.assert_allclose(mean, [2, 5])
  np.testing.assert_allclose(std, [1, 1])  # A constant feature stays 0.


def test_clusters_are_found_and_weigh_the_same():
  points, label = blobs([40, 40, 40])
  shares = starts.balanced_kmeans(points, 3, seed=0)
  np.testing.assert_allclose(shares.sum(1), 1)
  np.testing.assert_allclose(shares.mean(0), 1 / 3, atol=1e-3)
  found = shares.argmax(1)
  assert all(len(set(found[label == i])) == 1 for i in range(3))
  assert len(set(found)) == 3


def test_a_large_cluster_is_shared():
  points, _ = blobs([90, 10], spread=5.0)
  shares = starts.balanced_kmeans(points, 2, seed=0)
  np.testing.assert_allclose(shares.mean(0), 0.5, atol=1e-2)


def test_weights_of_points_count():
  points = np.array([[0.0], [1], [10]])
  shares = starts.balanced_kmeans(points, 2, 0, weights=np.array([1, 1, 2]))
  assert shares.argmax(1)[0] == shares.argmax(1)[1] != shares.argmax(1)[2]


def test_more_clusters_than_points_are_refused():
  with pytest.raises(ValueError, match="2 points: fewer than 3 clusters"):
    starts.balanced_kmeans(np.zeros((2, 1)), 3, 0)


@settings(max_examples=25, deadline=None)
@given(
  st.integers(2, 4), st.integers(0, 10**6), st.floats(0.4, 0.95), st.booleans()
)
def test_calibrated_scores_are_sharp_and_balanced(
  experts, seed, sharpness, uneven
):
  rng = np.random.default_rng(seed)
  scores = rng.normal(size=(400, experts)) + uneven * np.arange(experts)
  sharpness = max(sharpness, 1.1 / experts)
  scale, bias = starts.calibrate(scores, sharpness)
  probs = softmax(scale * scores + bias)
  assert probs.max(1).mean() == pytest.approx(sharpness, abs=1e-3)
  np.testing.assert_allclose(probs.mean(0), 1 / experts, atol=1e-3)


def test_scores_that_say_nothing_stay_finite():
  scale, bias = starts.calibrate(np.ones((5, 3)))
  assert scale == 1 and not bias.any()


def test_a_discriminant_finds_the_classes_where_clusters_find_the_scenery():
  # The largest variance is a scenery that has nothing to do with the class.
  z, labels = classes(6, 60, apart=1.5)
  scenery = np.random.default_rng(1).integers(0, 2, len(z))
  z = np.hstack([z, 30 * (scenery[:, None] - 0.5) + 0.01 * z[:, :1]])
  fit = starts.discriminant(z, labels, 3, seed=0)
  chosen = probabilities(z, fit).argmax(1)
  purity = np.mean(
    [np.bincount(chosen[labels == c]).max() / 60 for c in range(6)]
  )
  assert purity > 0.9
  blind = probabilities(z, starts.kmeans(z, 2, seed=0)).argmax(1)
  assert max(np.mean(blind == scenery), np.mean(blind != scenery)) == 1


def test_fewer_classes_than_experts_part_the_images():
  z, labels = classes(2, 90, apart=2.0)
  probs = probabilities(z, starts.discriminant(z, labels, 4, seed=0))
  np.testing.assert_allclose(probs.mean(0), 0.25, atol=0.05)
  chosen = probs.argmax(1)
  both = set(chosen[labels == 0]) & set(chosen[labels == 1])
  assert len(set(chosen)) == 4 and len(both) <= 2


def test_images_are_calibrated_without_their_own_labels():
  # More features than images and labels by chance: a discriminant is sure of
  # its own images, and knows nothing of others.
  rng = np.random.default_rng(0)
  z, labels = rng.normal(size=(80, 60)), np.repeat(np.arange(8), 10)
  fit = starts.discriminant(z, labels, 4, seed=0)
  own = (z @ fit.projection + fit.offset) @ fit.centers.T
  own -= (fit.centers**2).sum(1) / 2

  def agreement(scores):
    """How well the chosen expert tells the class: mean purity."""
    chosen = scores.argmax(1)
    return np.mean(
      [np.bincount(chosen[labels == c]).max() / 10 for c in range(8)]
    )

  assert agreement(own) > agreement(fit.scores) + 0.15


def test_images_without_a_label_do_not_count():
  z, labels = classes(4, 30)
  more = np.vstack([z, 1e3 * np.ones((5, z.shape[1]))])
  unlabelled = np.concatenate([labels, np.full(5, -1)])
  one = starts.linear_router(starts.discriminant(z, labels, 2, 0))
  other = starts.linear_router(starts.discriminant(more, unlabelled, 2, 0))
  np.testing.assert_array_equal(one.kernel, other.kernel)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, -1, -1]])
def test_one_class_is_refused(labels):
  with pytest.raises(ValueError, match="1 classes"):
    starts.discriminant(np.eye(3), np.array(labels), 2, 0)


def test_the_same_seed_gives_the_same_router():
  z, labels = classes(5, 20)
  routers = [
    starts.linear_router(starts.discriminant(z, labels, 3, seed))
    for seed in (4, 4)
  ]
  np.testing.assert_array_equal(routers[0].kernel, routers[1].kernel)


def test_a_hair_of_difference_changes_little():
  """Features of several devices differ in their last digits."""
  z, labels = classes(5, 40)
  noisy = z + 1e-6 * np.random.default_rng(0).normal(size=z.shape)
  for make in (
    lambda x: starts.discriminant(x, labels, 3, 0),
    lambda x: starts.kmeans(x, 3, 0),
  ):
    np.testing.assert_allclose(
      probabilities(z, make(z)), probabilities(z, make(noisy)), atol=1e-3
    )


def test_a_cosine_router_parts_alike():
  z, labels = classes(6, 60, apart=1.5)
  fit = starts.discriminant(z, labels, 3, seed=0, spherical=True)
  router = starts.cosine_router(fit)
  x = z @ router.projection + router.offset
  cosines = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (
    router.prototypes / np.linalg.norm(router.prototypes, axis=0)
  )
  probs = softmax(router.scale * cosines)
  assert probs.max(1).mean() == pytest.approx(0.85, abs=0.05)
  chosen = probs.argmax(1)
  purity = np.mean(
    [np.bincount(chosen[labels == c]).max() / 60 for c in range(6)]
  )
  assert purity > 0.85
