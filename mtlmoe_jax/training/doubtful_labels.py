"""The labels of a data set that are most likely wrong.

Every image is answered by a linear head on features of a frozen backbone that
was fitted to other folds (frozen_folds.py); what it takes for another class is
doubted (metrics/label_doubt.py). A processor core does 20 to 40 images a
second.

Of 27 labels of CUB's first ten classes (5 % of 543) that were flipped by
chance, 22 are among the first 30 doubted, mean of five draws:

    pytest -m slow -s tests/runs/test_doubtful_labels.py
"""

import dataclasses
from collections.abc import Sequence

import ml_collections
import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.data import similar
from mtlmoe_jax.data.check import Report
from mtlmoe_jax.data.source import Source, Subset
from mtlmoe_jax.metrics import label_doubt
from mtlmoe_jax.training import frozen_folds

FOLDS = 5
# More images than this are looked at when that is asked for: some minutes.
UNASKED = 3000
# Of more images it takes too long to compare every two.
SIMILAR = 50_000


def of_report(
  config: ml_collections.ConfigDict, report: Report, asked: bool | None
) -> tuple[label_doubt.Doubts | None, str]:
  """Doubted labels of a data set that was checked.

  Args:
    config: the whole config.
    report: of `check`, with `looks.look`.
    asked: whether they are wanted; None: where it takes a few minutes at most
      and the weights are installed.

  Returns:
    (positions in `report.source`; None: nobody looked, why not).

  Raises:
    InputError: they are asked for and weights are missing.
  """
  if asked is False:
    return None, "Not looked for: --labels looks for them."
  if report.source is None:
    return None, "Not looked for: the data set cannot be opened."
  places = one_class(report.source, report.readable)
  if len(np.unique(report.source.labels[places])) < 2 or len(places) <= FOLDS:
    return None, "Not looked for: that takes images of at least two classes."
  if asked is None and len(places) > UNASKED:
    return None, (
      f"Not looked for: of {len(places)} images that takes a while (a "
      "processor core does 20 to 40 a second); --labels looks for them."
    )
  looks = dict(zip(report.readable, report.looks, strict=True))
  hashes = np.asarray([looks[i].phash for i in places], np.uint64)
  source = Subset(report.source, places)
  try:
    doubts = judge(frozen_folds.features(config, source), source.labels, hashes)
  except errors.InputError as error:
    if asked:
      raise
    return None, f"Not looked for: {error}"
  return dataclasses.replace(doubts, index=places[doubts.index]), ""


def one_class(source: Source, readable: Sequence[int]) -> np.ndarray:
  """Positions of images of one class, each image once.

  A picture of two classes is no mistake, and a head names one alone.
  """
  ids = getattr(source, "image_ids", source.ids)
  labels: dict[str, set[int]] = {}
  first: dict[str, int] = {}
  for i in readable:
    labels.setdefault(ids[i], set()).add(int(source.labels[i]))
    first.setdefault(ids[i], i)
  return np.asarray(
    [i for name, i in first.items() if len(labels[name] - {-1}) == 1], np.int64
  )


def judge(
  features: np.ndarray, labels: np.ndarray, hashes: np.ndarray | None = None
) -> label_doubt.Doubts:
  """Doubted labels of images.

  Args:
    features: f32 [n, D].
    labels: i32 [n], -1: none.
    hashes: u64 [n], of `similar.phash`: what is nearly the same is in one
      fold, or a wrong label that a burst shares would be learned from it.
  """
  parts = folds(labels)
  if hashes is not None and len(hashes) <= SIMILAR:
    groups = similar.clusters(hashes)
    _, first = np.unique(groups, return_index=True)
    if len(first) > FOLDS:
      parts = folds(labels[first])[groups]
  return label_doubt.find(
    frozen_folds.out_of_fold(features, labels, parts), labels
  )


def folds(labels: np.ndarray, count: int = FOLDS, seed: int = 0) -> np.ndarray:
  """Folds in which each class is spread evenly.

  Args:
    labels: i [n].
    count: of folds.
    seed: of the order within a class.

  Returns:
    i64 [n], 0 to count - 1.
  """
  order = np.random.default_rng(seed).permutation(len(labels))
  order = order[np.argsort(labels[order], kind="stable")]
  out = np.empty(len(labels), np.int64)
  out[order] = np.arange(len(labels)) % count
  return out
