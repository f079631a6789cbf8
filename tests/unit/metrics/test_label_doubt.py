import numpy as np

from mtlmoe_jax.metrics import label_doubt

# Rows sum to one; thresholds by hand: 0: (.8 + .6 + .1) / 3 = .5,
# 1: (.7 + .3) / 2 = .5, 2: (.8 + .4) / 2 = .6.
PROBABILITIES = np.array(
  [
    [0.8, 0.1, 0.1],
    [0.6, 0.3, 0.1],
    [0.1, 0.9, 0.0],  # labelled 0, surely 1: margin -0.8
    [0.2, 0.7, 0.1],
    [0.55, 0.3, 0.15],  # labelled 1, seen as 0: margin -0.25
    [0.1, 0.1, 0.8],
    [0.45, 0.15, 0.4],  # labelled 2, most probable 0, below its threshold
  ]
)
LABELS = np.array([0, 0, 0, 1, 1, 2, 2])


def test_thresholds_are_mean_self_confidence():
  found = label_doubt.thresholds(PROBABILITIES, LABELS)
  np.testing.assert_allclose(found, [0.5, 0.5, 0.6])


def test_worst_first_with_the_suggested_class():
  doubts = label_doubt.find(PROBABILITIES, LABELS)
  assert doubts.index.tolist() == [2, 4, 6]
  assert doubts.suggested.tolist() == [1, 0, 0]
  np.testing.assert_allclose(doubts.given, [0.1, 0.3, 0.4])
  np.testing.assert_allclose(doubts.other, [0.9, 0.55, 0.45])
  assert doubts.confident.tolist() == [True, True, False]


def test_reaching_a_threshold_is_enough_and_the_largest_counts():
  # Thresholds 0.4, 0.45, 0.45: the last image reaches the first two, all
  # others that of their own.
  p = np.array([[0.4, 0.35, 0.25], [0.3, 0.45, 0.25], [0.2, 0.1, 0.7]])
  p = np.concatenate([p, [[0.3, 0.2, 0.5], [0.4, 0.45, 0.15]]])
  doubts = label_doubt.find(p, np.array([0, 1, 2, 2, 2]))
  assert doubts.index.tolist() == [4]
  assert doubts.suggested.tolist() == [1]
  assert doubts.confident.tolist() == [True]


def test_an_image_may_be_confident_of_its_own_class_and_still_be_doubted():
  # Thresholds 0.9 and 0.4: only its own class is as sure as usual.
  p = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
  doubts = label_doubt.find(p, np.array([0, 0, 1, 1]))
  assert doubts.index.tolist() == [2, 3]
  assert not doubts.confident.any()


def test_what_is_not_known_is_left_out():
  labels = LABELS.copy()
  labels[4] = -1
  p = PROBABILITIES.copy()
  p[2] = np.nan
  assert label_doubt.find(p, labels).index.tolist() == [6]
  # No threshold of a class without an image is reached, however probable.
  p = np.array([[0.1, 0.0, 0.9], [0.1, 0.2, 0.7]])
  assert not label_doubt.find(p, np.array([0, 1])).confident.any()
  assert len(label_doubt.find(np.empty((0, 3)), np.empty(0, int))) == 0
