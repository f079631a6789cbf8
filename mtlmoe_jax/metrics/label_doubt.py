"""Which labels are probably wrong: confident learning, on arrays.

Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset
Labels, JAIR 70, 2021. What is judged are probabilities of images that the
classifier was not fitted on. Its confident joint tells how many labels are
wrong; which ones they are is told by self-confidence, as in its pruning by
class: of labels of CUB that were flipped, that order has more among the first
than the joint's own cells (docs/decisions.md).

Letters: n images, L classes.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Doubts:
  """m images whose label is doubted, the worst first.

  Attributes:
    index: i64 [m], their positions.
    suggested: i64 [m], the most probable class.
    given: f64 [m], probability of the given class: self-confidence.
    other: f64 [m], probability of the suggested one.
    confident: bool [m], whether another class is seen confidently: as surely as
      in the mean of the images that are labelled so.
  """

  index: np.ndarray
  suggested: np.ndarray
  given: np.ndarray
  other: np.ndarray
  confident: np.ndarray

  def __len__(self) -> int:
    return len(self.index)


def thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """How sure the classifier is, on average, of the images of a class.

  Equation 2 of the paper: t_j is the mean probability of class j over the
  images that are labelled j.

  Args:
    probabilities: f [n, L].
    labels: i [n], all at least 0.

  Returns:
    f64 [L]; infinity for a class without an image, which is never suggested.
  """
  size = probabilities.shape[1]
  own = probabilities[np.arange(len(labels)), labels]
  count = np.bincount(labels, minlength=size)
  total = np.bincount(labels, own, minlength=size)
  return np.where(count > 0, total / np.maximum(count, 1), np.inf)


def find(probabilities: np.ndarray, labels: np.ndarray) -> Doubts:
  """The images that look like another class than the given one.

  Where another class is more probable the label is doubted. The order is by
  self-confidence, the least first. `confident` are the images off the diagonal
  of the confident joint (equation 1 of the paper): among the classes whose
  threshold they reach, the most probable one is not the given class.

  Args:
    probabilities: f [n, L] of a classifier that did not see the image; rows
      that are not finite are left out.
    labels: i [n], the given classes; -1: none, left out.
  """
  probabilities = np.asarray(probabilities, np.float64)
  known = np.flatnonzero(
    (np.asarray(labels) >= 0) & np.isfinite(probabilities).all(1)
  )
  p, given = probabilities[known], np.asarray(labels)[known]
  reached = np.where(p >= thresholds(p, given), p, -np.inf)
  off = np.isfinite(reached.max(1)) & (reached.argmax(1) != given)
  rows, seen = np.arange(len(known)), p.argmax(1)
  own = p[rows, given]
  wrong = np.flatnonzero(own < p[rows, seen])
  chosen = wrong[np.argsort(own[wrong], kind="stable")]
  return Doubts(
    known[chosen],
    seen[chosen],
    own[chosen],
    p[chosen, seen[chosen]],
    off[chosen],
  )
