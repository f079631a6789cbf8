"""Which labels are probably wrong: confident learning, on arrays.

Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset
Labels, JAIR 70, 2021. What is judged are probabilities of images that the
classifier was not fitted on.

Letters: n images, L classes.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Doubts:
  """m images whose label is doubted, the worst first.

  Attributes:
    index: i64 [m], their positions.
    suggested: i64 [m], the class that is confidently seen instead.
    given: f64 [m], probability of the given class.
    other: f64 [m], probability of the suggested one.
  """

  index: np.ndarray
  suggested: np.ndarray
  given: np.ndarray
  other: np.ndarray

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
  """The images that are confidently of another class than the given one.

  Among the classes whose threshold an image reaches, the most probable one is
  the class it is counted to (equation 1 of the paper). Where that is not the
  given class the label is doubted. Their order is by the margin, probability
  of the given class minus that of the other, so the surest mistake is first.

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
  confident = np.where(p >= thresholds(p, given), p, -np.inf)
  seen = confident.argmax(1)
  rows = np.arange(len(known))
  wrong = np.isfinite(confident[rows, seen]) & (seen != given)
  own, other = p[rows, given], p[rows, seen]
  order = np.argsort((own - other)[wrong], kind="stable")
  chosen = np.flatnonzero(wrong)[order]
  return Doubts(known[chosen], seen[chosen], own[chosen], other[chosen])
