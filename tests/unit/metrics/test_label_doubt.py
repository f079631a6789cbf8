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
  assert doubts.index.tolist() == [2, 4]
  assert doubts.suggested.tolist() == [1, 0]
  np.testing.assert_allclose(doubts.given, [0.1, 0.3])
  np.testing.assert_allclose(doubts.other, [0.9, 0.55])


def test_reaching_a_threshold_is_enough_and_the_largest_counts():
  # Thresholds 0.4, 0.45, 0.45: the last image reaches the first two.
  p = np.array([[0.4, 0.3, 0.3], [0.3, 0.45, 0.25], [0.2, 0.1, 0.7]])
  p = np.concatenate([p, [[0.3, 0.2, 0.5], [0.4, 0.45, 0.15]]])
  doubts = label_doubt.find(p, np.array([0, 1, 2, 2, 2]))
  assert doubts.index.tolist() == [4]
  assert doubts.suggested.tolist() == [1]


def test_what_is_not_known_is_left_out():
  labels = LABELS.copy()
  labels[4] = -1
  p = PROBABILITIES.copy()
  p[2] = np.nan
  doubts = label_doubt.find(p, labels)
  assert len(doubts) == 0
  # A class of no image is never suggested, however probable it is.
  p = np.array([[0.1, 0.0, 0.9], [0.1, 0.2, 0.7]])
  assert len(label_doubt.find(p, np.array([0, 1]))) == 0
  assert len(label_doubt.find(np.empty((0, 3)), np.empty(0, int))) == 0
