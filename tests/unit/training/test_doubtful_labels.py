import numpy as np
import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.data import check, looks
from mtlmoe_jax.training import doubtful_labels


class Some:
  """Records without pixels."""

  def __init__(self, labels, image_ids=None):
    self.name, self.class_names = "some", ("a", "b", "c")
    self.ids = [str(i) for i in range(len(labels))]
    self.labels = np.asarray(labels, np.int32)
    self.fingerprint = ""
    if image_ids:
      self.image_ids = image_ids

  def __len__(self):
    return len(self.ids)


def report(source, readable, hashes=None):
  """Of images none of which is like another, unless it is told."""
  rng = np.random.default_rng(0)
  hashes = hashes or rng.integers(0, 2**64, len(readable), np.uint64).tolist()
  seen = [looks.Look(1, 1, 1.0, 1.0, value) for value in hashes]
  return check.Report([], "", source, readable, looks=seen)


def test_each_class_is_spread_over_the_folds():
  labels = np.repeat([0, 1, 2, -1], [50, 7, 5, 3])
  found = doubtful_labels.folds(labels)
  for label, least, most in ((0, 10, 10), (1, 1, 2), (2, 1, 1)):
    counts = np.bincount(found[labels == label], minlength=5)
    assert (counts.min(), counts.max()) == (least, most)
  assert found.tolist() != sorted(found.tolist())


def test_images_of_one_class_count_once():
  source = Some([0, 0, 1, 2, 0, -1], ["x", "x", "y", "y", "z", "w"])
  found = doubtful_labels.one_class(source, [0, 1, 2, 3, 4, 5])
  assert found.tolist() == [0, 4]
  assert doubtful_labels.one_class(Some([0, 1]), [1]).tolist() == [1]


def test_a_flipped_label_is_told_by_its_place_in_the_source(monkeypatch):
  rng = np.random.default_rng(0)
  labels = np.arange(61) % 3
  seen = np.eye(3)[labels] + 0.1 * rng.standard_normal((61, 3))
  labels[30] = 1  # it is a 0
  readable = list(range(1, 61))
  monkeypatch.setattr(
    doubtful_labels.frozen_folds,
    "features",
    lambda config, source: seen[[int(i) for i in source.ids]].astype("f"),
  )
  doubts, why_not = doubtful_labels.of_report(
    None, report(Some(labels), readable), None
  )
  assert why_not == ""
  assert doubts.index.tolist() == [30]
  assert doubts.suggested.tolist() == [0]


def test_why_nobody_looked(monkeypatch):
  def missing(config, source):
    raise errors.InputError("no weights")

  monkeypatch.setattr(doubtful_labels.frozen_folds, "features", missing)
  two = report(Some([0, 1] * 5), range(10))
  many = report(Some([0, 1] * 2000), range(4000))
  for given, asked, words in (
    (two, False, "--labels looks for them"),
    (check.Report([], ""), None, "cannot be opened"),
    (report(Some([0] * 9), range(9)), True, "at least two classes"),
    (many, None, "of 4000 images that takes a while"),
    (two, None, "Not looked for: no weights"),
  ):
    doubts, why_not = doubtful_labels.of_report(None, given, asked)
    assert doubts is None
    assert words in why_not
  with pytest.raises(errors.InputError, match="no weights"):
    doubtful_labels.of_report(None, two, True)


def test_what_is_nearly_the_same_is_in_one_fold(monkeypatch):
  # A burst of six, images 30 to 35, is labelled wrong as a whole; features
  # tell it from all others.
  labels = np.arange(60) % 2
  labels[30:36] = 1
  rng = np.random.default_rng(1)
  seen = np.zeros((60, 8))
  seen[np.arange(60), labels] = 1
  seen[30:36] = [0.8, 0, 1, 1, 0, 0, 0, 0]
  seen = (seen + 0.05 * rng.standard_normal(seen.shape)).astype("f")
  hashes = rng.integers(0, 2**64, 60, np.uint64)
  assert not len(doubtful_labels.judge(seen, labels, hashes))
  hashes[30:36] = hashes[30]
  doubts = doubtful_labels.judge(seen, labels, hashes)
  assert sorted(doubts.index.tolist()) == list(range(30, 36))
  # Where all are alike there are folds nevertheless.
  assert len(doubtful_labels.judge(seen, labels, hashes * 0)) == 0
