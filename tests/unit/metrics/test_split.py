import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from mtlmoe_jax.config import words
from mtlmoe_jax.metrics import split as metrics
from mtlmoe_jax.ops import boxes

TRUE = np.array(
  [
    [0.0, 0.0, 0.5, 0.5],
    [0.2, 0.2, 0.6, 0.6],
    [0.1, 0.1, 0.9, 0.9],
    [0.0, 0.0, 0.0, 0.0],  # no box
  ]
)
PRED = np.array(
  [
    [0.0, 0.0, 0.5, 0.5],  # IoU 1
    [0.2, 0.2, 0.6, 0.5],  # IoU 0.75
    [0.1, 0.1, 0.9, 0.3],  # IoU 0.25
    [0.3, 0.3, 0.4, 0.4],
  ]
)
HAS_BOX = np.array([True, True, True, False])
LOGITS = np.log(
  [
    [0.7, 0.1, 0.1, 0.05, 0.03, 0.02],
    [0.1, 0.6, 0.1, 0.1, 0.05, 0.05],
    [0.05, 0.1, 0.1, 0.15, 0.2, 0.4],
    [0.5, 0.1, 0.1, 0.1, 0.1, 0.1],
  ]
).astype("f4")
LABELS = np.array([0, 1, 0, -1], "i4")
HAS_LABEL = np.array([True, True, True, False])


def split(**changed):
  arguments = {
    "logits": LOGITS,
    "labels": LABELS,
    "has_label": HAS_LABEL,
    "boxes": PRED,
    "true_boxes": TRUE,
    "has_box": HAS_BOX,
  }
  return metrics.split_metrics(**{**arguments, **changed})


def test_split_metrics_by_hand():
  found = split()
  ciou = np.array([boxes.ciou_loss(p, t) for p, t in zip(PRED, TRUE)])[:3]
  expected = {
    "n": 4,
    "top1": 2 / 3,
    "top5": 2 / 3,  # the third label is the least probable of six
    "loss_class": -np.mean(np.log([0.7, 0.6, 0.05])),
    # bins of one image each: |1 - .7| + |1 - .6| + |0 - .4|
    "ece": (0.3 + 0.4 + 0.4) / 3,
    "brier": (
      (0.3**2 + 2 * 0.1**2 + 0.05**2 + 0.03**2 + 0.02**2)
      + (3 * 0.1**2 + 0.4**2 + 2 * 0.05**2)
      + (0.95**2 + 2 * 0.1**2 + 0.15**2 + 0.2**2 + 0.4**2)
    )
    / 3,
    "miou": 2 / 3,
    "mciou": np.mean(1 - ciou),
    "ciou_score": 1 - np.mean(ciou) / 2,
    "acc_iou_50": 2 / 3,
    "acc_iou_70": 2 / 3,
    "acc_iou_75": 2 / 3,
    "acc_iou_90": 1 / 3,
    "top1_loc": 2 / 3,
    "score": 2 / 3,
  }
  assert found == pytest.approx(expected, rel=1e-5)
  json.dumps(found)


def test_a_temperature_adds_figures_and_changes_none():
  found, plain = split(temperature=2.0), split()
  assert found.pop("temperature") == 2
  again = split(logits=LOGITS / 2)
  for name in ("loss_class", "ece", "brier"):
    assert found.pop(f"{name}_calibrated") == pytest.approx(again[name])
  assert found == plain


def test_absent_tasks_are_left_out():
  only_boxes, only_classes = split(logits=None), split(boxes=None)
  assert set(only_boxes) | set(only_classes) == set(split()) - {"top1_loc"}
  assert only_boxes["score"] == only_boxes["miou"]
  assert only_classes["score"] == only_classes["top1"]
  assert set(only_boxes) & set(only_classes) == {"n", "score"}


def test_what_may_choose_a_checkpoint_is_all_of_which_more_is_better():
  needs = {
    (): set(split(logits=None)) & set(split(boxes=None)),
    ("class",): set(split(boxes=None)),
    ("box",): set(split(logits=None)),
    ("class", "box"): set(split()),
  }
  assert set(words.SCORES) == set(split()) - {"n", "loss_class", "ece", "brier"}
  for name, tasks in words.SCORES.items():
    assert name in needs[tasks]
  # The box of the third image is bad, its label too.
  better = split(boxes=TRUE, labels=LOGITS.argmax(-1))
  assert all(better[name] > split()[name] for name in words.SCORES)


def test_figures_without_a_single_image_are_left_out():
  none = np.zeros(4, bool)
  assert split(has_label=none, has_box=none) == {"n": 4}
  assert "top1_loc" not in split(has_label=~HAS_BOX, labels=abs(LABELS))


def test_top1_loc_needs_both():
  wrong_class = split(labels=np.array([0, 2, 0, -1]))
  assert wrong_class["top1_loc"] == pytest.approx(1 / 3)
  assert wrong_class["acc_iou_50"] == pytest.approx(2 / 3)
  wrong_box = split(boxes=PRED[[3, 1, 2, 0]])
  assert wrong_box["top1_loc"] == pytest.approx(1 / 3)
  assert wrong_box["top1"] == pytest.approx(2 / 3)


def test_ranks_of_ties_follow_argmax_and_nan_is_never_right():
  logits = np.array([[1.0, 1, 1], [1, 1, 0], [np.nan, 0, 1], [np.nan] * 3])
  ranks = metrics.label_ranks(logits, np.array([0, 1, 2, 0]))
  np.testing.assert_array_equal(ranks, [0, 1, 1, 3])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8))
def test_class_metrics_agree_with_sklearn(seed, classes):
  rng = np.random.default_rng(seed)
  labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 20)])
  logits = rng.normal(size=(len(labels), classes)).round(1)
  every = np.ones(len(labels), bool)
  found = metrics.split_metrics(
    logits=logits,
    labels=labels,
    has_label=every,
    boxes=None,
    true_boxes=np.zeros((len(labels), 4)),
    has_box=~every,
  )
  predicted = logits.argmax(1)
  probs = np.exp(metrics.log_softmax(logits))
  assert found["top1"] == pytest.approx(sk.accuracy_score(labels, predicted))
  assert found["loss_class"] == pytest.approx(sk.log_loss(labels, probs))
  np.testing.assert_array_equal(
    metrics.confusion_matrix(labels, predicted, classes),
    sk.confusion_matrix(labels, predicted),
  )
  assert 0 <= found["ece"] <= 1
  assert found["top1"] <= found["top5"] <= 1


def test_calibration_error():
  # One bin: 0.6 right at confidence 0.62; the upper edge belongs to a bin.
  right = np.array([1, 1, 1, 0, 0], bool)
  assert metrics.calibration_error(np.full(5, 0.62), right) == pytest.approx(
    0.02
  )
  assert metrics.calibration_error(np.ones(4), np.ones(4, bool)) == 0
  assert metrics.calibration_error(np.zeros(0), np.zeros(0, bool)) == 0
  # 1/15 is the upper edge of the first bin, so both are in it.
  assert metrics.calibration_error(
    np.array([1 / 15, 0.0]), np.array([False, False])
  ) == pytest.approx(1 / 30)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_brier_score_is_a_loop_over_images_and_classes(seed, classes):
  rng = np.random.default_rng(seed)
  probs = rng.dirichlet(np.ones(classes), 7)
  labels = rng.integers(0, classes, 7)
  total = 0.0
  for row, label in zip(probs, labels):
    for c in range(classes):
      total += (row[c] - (c == label)) ** 2
  assert metrics.brier_score(probs, labels) == pytest.approx(total / 7)


def test_brier_score_of_sure_answers():
  assert metrics.brier_score(np.eye(3), np.arange(3)) == 0
  assert metrics.brier_score(np.eye(3), np.array([1, 2, 0])) == 2


def test_wilson_interval():
  # Newcombe 1998, table I: 81 of 263 and 0 of 20.
  assert metrics.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
  assert metrics.wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
  assert metrics.wilson(20, 20)[1] == 1.0
  assert metrics.wilson(0, 0) == (0, 1)
  for successes, n in ((0, 20), (7, 20), (20, 20), (81, 263), (1, 1)):
    known = stats.binomtest(successes, n).proportion_ci(0.9, "wilson")
    assert metrics.wilson(successes, n, 0.9) == pytest.approx(known, abs=1e-12)


def test_routing_metrics_by_hand():
  experts = np.array([[0, 1], [0, 2], [0, 1], [1, 0]], "i4")
  weights = np.array([[0.6, 0.4], [0.5, 0.5], [0.9, 0.1], [0.7, 0.3]], "f4")
  probs = np.array(
    [[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [1.0, 0.0, 0.0], [0.25, 0.75, 0.0]]
  )
  labels = np.array([0, 1, 0, -1])
  found = metrics.routing_metrics(experts, weights, probs, labels, 0.125)
  load, received = np.array([4, 3, 1]), np.array([2.3, 1.2, 0.5])
  entropy = lambda p: -sum(q * np.log(q) for q in p if q)  # noqa: E731
  assert found["load"] == pytest.approx(load / 8)
  assert found["importance"] == pytest.approx(received / 4)
  assert found["cv_load"] == pytest.approx(load.std() / load.mean())
  assert found["cv_importance"] == pytest.approx(
    received.std() / received.mean()
  )
  assert found["max_load"] == pytest.approx(1.5)
  assert found["entropy"] == pytest.approx(np.mean([entropy(p) for p in probs]))
  of_mean = entropy(probs.mean(0))
  assert found["entropy_mean_gate"] == pytest.approx(of_mean)
  assert found["effective_experts"] == pytest.approx(np.exp(of_mean))
  assert found["dropped"] == 0.125
  # Of the labelled: class 0 has (1.5, .5, 0), class 1 has (.5, 0, .5).
  joint = np.array([[1.5, 0.5, 0], [0.5, 0, 0.5]]) / 3
  information = (
    entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint.ravel())
  )
  assert found["mutual_information"] == pytest.approx(information)
  assert found["specialisation"] == pytest.approx(
    (information - found["mutual_information_null"]) / np.log(3)
  )
  json.dumps(found)


def test_one_expert_and_no_label():
  ones = np.ones((3, 1))
  found = metrics.routing_metrics(
    np.zeros((3, 1), int), ones, ones, np.full(3, -1)
  )
  assert found["specialisation"] == 0 and found["effective_experts"] == 1
  assert found["load"] == [1.0] and found["cv_load"] == 0
  assert "dropped" not in found


def test_mutual_information_is_that_of_sklearn_for_hard_choices():
  rng = np.random.default_rng(0)
  labels, experts = rng.integers(0, 5, 60), rng.integers(0, 4, 60)
  found, null = metrics.mutual_information(np.eye(4)[experts], labels)
  assert found == pytest.approx(sk.mutual_info_score(labels, experts))
  assert 0 < null < 0.3


def test_information_minus_null_tells_specialists_from_chance():
  rng = np.random.default_rng(0)
  labels = np.repeat(np.arange(20), 6)
  perfect = np.eye(4)[labels % 4]
  found, null = metrics.mutual_information(perfect, labels)
  assert found == pytest.approx(np.log(4))
  assert (found - null) / np.log(4) > 0.6
  found, null = metrics.mutual_information(
    np.eye(4)[rng.integers(0, 4, 120)], labels
  )
  assert found > 0.15  # few images per class: biased upwards
  assert abs(found - null) < 0.1
  assert metrics.mutual_information(perfect, labels) == (
    metrics.mutual_information(perfect, labels)
  )


def test_even_gates_tell_nothing_of_the_class():
  found, null = metrics.mutual_information(np.ones((12, 4)), np.arange(12) % 3)
  assert found == pytest.approx(0, abs=1e-9)
  assert null == pytest.approx(0, abs=1e-9)


def test_jensen_shannon():
  p = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
  q = np.array([[0.0, 1, 0], [0.5, 0.5, 0], [0.5, 0.3, 0.2]])
  found = metrics.jensen_shannon(p, q)
  np.testing.assert_allclose(found[:2], [1, 0], atol=1e-12)
  mean = (p[2] + q[2]) / 2
  expected = np.mean(
    [np.sum(p[2] * np.log2(p[2] / mean)), np.sum(q[2] * np.log2(q[2] / mean))]
  )
  assert found[2] == pytest.approx(expected)
  np.testing.assert_allclose(metrics.jensen_shannon(q, p), found)


def test_the_room_names_its_modules():
  from mtlmoe_jax import metrics as room

  assert room.intervals.RESAMPLES == 4000
  assert all(hasattr(room, name) for name in room.__all__)
  with pytest.raises(AttributeError, match="no attribute 'median'"):
    _ = room.median
