"""Metrics over a whole split, in NumPy and float64.

Letters: n images, L classes, N experts, K experts selected per image. Values
are Python floats, ints and lists, ready for JSON.
"""

import math
import statistics
from typing import Any

import numpy as np

from mtlmoe_jax.ops import boxes as boxes_lib

IOU_THRESHOLDS = (0.5, 0.7, 0.75, 0.9)
ECE_BINS = 15


def split_metrics(
  *,
  logits: np.ndarray | None,
  labels: np.ndarray,
  has_label: np.ndarray,
  boxes: np.ndarray | None,
  true_boxes: np.ndarray,
  has_box: np.ndarray,
  temperature: float | None = None,
) -> dict[str, Any]:
  """Every metric of a split.

  `n` images; over those with a label: `top1`, `top5` (of equal logits the
  lower class comes first; NaN is never right), `loss_class` (cross-entropy in
  nats, no smoothing: the negative log-likelihood), `ece` (see
  `calibration_error`), `brier` (see `brier_score`); with a temperature also
  `temperature` and `loss_class_calibrated`, `ece_calibrated`,
  `brier_calibrated`, of the logits divided by it; over those with a box:
  `miou` (mean IoU), `mciou` (mean of 1 - CIoU loss), `ciou_score` (1 - mean
  CIoU loss / 2), `acc_iou_50` ... (share with IoU >= 0.50 ...); over those with
  both: `top1_loc` (class right and IoU >= 0.5); `score`, the mean of those of
  top1 and miou that exist, chooses the best checkpoint.

  Args:
    logits: [n, L], or None without the class task.
    labels: i32 [n]; anything where has_label is False.
    has_label: bool [n].
    boxes: [n, 4] predicted xyxy, or None without the box task.
    true_boxes: [n, 4] xyxy; anything where has_box is False.
    has_box: bool [n].
    temperature: see `calibration.fit_temperature`; None without one.

  Returns:
    The metrics; those without a task or without a single image are left out.
  """
  out: dict[str, Any] = {"n": len(labels)}
  right = hit = None
  if logits is not None and has_label.any():
    right = np.zeros(len(labels), bool)
    metrics, right[has_label] = class_metrics(
      logits[has_label], labels[has_label], temperature
    )
    out |= metrics
  if boxes is not None and has_box.any():
    hit = np.zeros(len(labels), bool)
    metrics, hit[has_box] = _box_metrics(boxes[has_box], true_boxes[has_box])
    out |= metrics
  both = has_label & has_box
  if right is not None and hit is not None and both.any():
    out["top1_loc"] = float(np.mean((right & hit)[both]))
  scores = [out[name] for name in ("top1", "miou") if name in out]
  if scores:
    out["score"] = float(np.mean(scores))
  return out


def class_metrics(
  logits: np.ndarray, labels: np.ndarray, temperature: float | None = None
) -> tuple[dict[str, float], np.ndarray]:
  """The metrics of the class task, and who was right.

  Args:
    logits: [n, L].
    labels: i [n].
    temperature: as in `split_metrics`.

  Returns:
    (metrics, bool [n]).
  """
  logits = np.asarray(logits, np.float64)
  rank = label_ranks(logits, labels)
  right = rank < 1
  metrics = {
    "top1": float(np.mean(right)),
    "top5": float(np.mean(rank < 5)),
  }
  metrics |= _probability_metrics(logits, labels, right)
  if temperature is not None:
    metrics["temperature"] = temperature
    after = _probability_metrics(logits / temperature, labels, right)
    metrics |= {f"{name}_calibrated": value for name, value in after.items()}
  return metrics, right


def _probability_metrics(
  logits: np.ndarray, labels: np.ndarray, right: np.ndarray
) -> dict[str, float]:
  """The metrics that depend on probabilities, not only on their order."""
  log_probs = log_softmax(logits)
  return {
    "loss_class": float(-np.mean(log_probs[np.arange(len(labels)), labels])),
    "ece": calibration_error(np.exp(log_probs.max(-1)), right),
    "brier": brier_score(np.exp(log_probs), labels),
  }


def _box_metrics(
  boxes: np.ndarray, true_boxes: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
  """The metrics of the box task, and who was found (IoU >= .5), bool [n]."""
  boxes = np.asarray(boxes, np.float64)
  true_boxes = np.asarray(true_boxes, np.float64)
  iou = boxes_lib.iou(boxes, true_boxes)
  loss = float(np.mean(boxes_lib.ciou_loss(boxes, true_boxes)))
  metrics = {
    "miou": float(np.mean(iou)),
    "mciou": 1 - loss,
    "ciou_score": 1 - loss / 2,
  }
  for threshold in IOU_THRESHOLDS:
    name = f"acc_iou_{round(100 * threshold)}"
    metrics[name] = float(np.mean(iou >= threshold))
  return metrics, iou >= 0.5


def label_ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Place of the true class, 0 is best: [n, L], [n] -> i64 [n].

  Of equal logits the lower class comes first, as in argmax; whatever is not
  comparable (NaN) comes before the true class.
  """
  true = np.take_along_axis(logits, labels[:, None], axis=1)
  ahead = ~(logits <= true)
  ahead |= (logits == true) & (np.arange(logits.shape[1]) < labels[:, None])
  return np.sum(ahead, axis=1)


def log_softmax(logits: np.ndarray) -> np.ndarray:
  """Logarithm of the softmax over the last axis: [..., L] -> [..., L]."""
  from scipy import special  # Not all who import this module use it.

  return special.log_softmax(logits, axis=-1)


def calibration_error(
  confidence: np.ndarray, right: np.ndarray, bins: int = ECE_BINS
) -> float:
  """Expected calibration error (Guo et al. 2017, eq. 5).

  Args:
    confidence: [n] in [0, 1], the probability of the predicted class.
    right: bool [n].
    bins: number of bins of equal width; each includes its upper edge.

  Returns:
    sum over bins of share of images |accuracy - mean confidence|.
  """
  if not len(right):
    return 0.0
  index = np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1)
  index = np.where(np.isfinite(index), index, 0).astype(int)
  gap = np.bincount(index, right.astype(float) - confidence, bins)
  return float(np.abs(gap).sum() / len(right))


def brier_score(probs: np.ndarray, labels: np.ndarray) -> float:
  """Mean squared distance of probabilities and truth (Brier 1950).

  Args:
    probs: [n, L], each row sums to 1.
    labels: i [n].

  Returns:
    mean over images of sum_c (p_c - [c is the label])^2, in [0, 2].
  """
  true = np.take_along_axis(probs, labels[:, None], axis=1)[:, 0]
  return float(np.mean((probs**2).sum(-1) - 2 * true + 1))


def confusion_matrix(
  labels: np.ndarray, predicted: np.ndarray, num_classes: int
) -> np.ndarray:
  """Counts i64 [L, L]: row true class, column predicted class."""
  flat = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
  return flat.reshape(num_classes, num_classes)


def wilson(
  successes: float, n: int, confidence: float = 0.95
) -> tuple[float, float]:
  """Wilson's score interval of a proportion (Wilson 1927).

  The same as `scipy.stats.binomtest(...).proportion_ci(method="wilson")`, which
  every evaluation would wait for: importing `scipy.stats` takes longer.

  Args:
    successes: how many of n.
    n: trials; 0 gives (0, 1).
    confidence: coverage, two-sided.

  Returns:
    (low, high), in [0, 1].
  """
  if n == 0:
    return 0.0, 1.0
  z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
  share, scale = successes / n, 1 + z * z / n
  centre = (share + z * z / (2 * n)) / scale
  reach = math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) * z / scale
  return max(centre - reach, 0.0), min(centre + reach, 1.0)


def routing_metrics(
  experts: np.ndarray,
  weights: np.ndarray,
  probs: np.ndarray,
  labels: np.ndarray,
  dropped: float | None = None,
) -> dict[str, Any]:
  """How one gate uses the experts over a split.

  `load`: share of all n K choices per expert, sums to 1; `importance`: share
  of all weight per expert, sums to 1; `cv_load`, `cv_importance`: their
  coefficients of variation (population); `max_load`: largest / mean load;
  `entropy` (mean per image) and `entropy_mean_gate` of `probs`, nats;
  `effective_experts` = exp(entropy_mean_gate); `mutual_information` of expert
  and class, nats, `mutual_information_null`, and `specialisation` = (their
  difference) / log N, over images with a label; `variation`, see below;
  `dropped`, if given.

  Args:
    experts: i32 [n, K], distinct within a row.
    weights: [n, K].
    probs: [n, N], softmax over all experts.
    labels: i32 [n], negative where there is none.
    dropped: share of choices dropped over capacity.

  Returns:
    The metrics.
  """
  num_experts = probs.shape[1]
  load = np.bincount(experts.ravel(), minlength=num_experts)
  received = np.zeros(probs.shape)
  np.put_along_axis(received, np.asarray(experts, int), weights, axis=1)
  importance = received.sum(0)
  mean_gate = probs.mean(0, dtype=np.float64)
  known = labels >= 0
  information, null = mutual_information(received[known], labels[known])
  limit = math.log(num_experts)
  out = {
    "load": _shares(load),
    "importance": _shares(importance),
    "cv_load": _variation(load),
    "cv_importance": _variation(importance),
    "max_load": float(load.max() / max(load.mean(), 1e-12)),
    "entropy": float(np.mean(entropy(probs))),
    "entropy_mean_gate": float(entropy(mean_gate)),
    "effective_experts": float(np.exp(entropy(mean_gate))),
    "mutual_information": information,
    "mutual_information_null": null,
    "specialisation": (information - null) / limit if limit else 0.0,
    "variation": variation(received),
  }
  if dropped is not None:
    out["dropped"] = float(dropped)
  return out


def variation(weights: np.ndarray) -> float:
  """How much the weights of images differ from their mean.

  Args:
    weights: [n, N], of all experts, 0 where not selected.

  Returns:
    Mean over images of the total variation distance between an image's shares
    and the mean shares: 0 where every image has the same (the mixture then is
    a fixed average of its experts), 1 - 1 / N where each has one expert and
    all are used alike.
  """
  weights = np.asarray(weights, np.float64)
  shares = weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)
  return float(np.abs(shares - shares.mean(0)).sum(1).mean() / 2)


def _shares(values: np.ndarray) -> list[float]:
  return (values / max(values.sum(), 1e-12)).tolist()


def _variation(values: np.ndarray) -> float:
  return float(values.std() / max(values.mean(), 1e-12))


def entropy(probs: np.ndarray) -> np.ndarray:
  """Entropy over the last axis, nats: [..., N] -> [...]."""
  from scipy import special

  return special.entr(np.asarray(probs, np.float64)).sum(axis=-1)


def mutual_information(
  weights: np.ndarray,
  labels: np.ndarray,
  permutations: int = 50,
  seed: int = 0,
) -> tuple[float, float]:
  """Mutual information of expert and class, and what chance alone gives.

  With few images per class the estimate is far above 0 even for a random gate,
  so it means something only beside its null: the mean over permutations of the
  labels.

  Args:
    weights: [n, N], not negative, 0 where not selected.
    labels: i32 [n], from 0.
    permutations: how many for the null.
    seed: of the permutations.

  Returns:
    (information, null), nats.
  """
  observed, null = information_and_null(weights, labels, permutations, seed)
  return observed, float(np.mean(null))


def information_and_null(
  weights: np.ndarray, labels: np.ndarray, permutations: int, seed: int
) -> tuple[float, np.ndarray]:
  """Mutual information of expert and class, and of permuted labels.

  An image counts for its experts in proportion to their weights.

  Args:
    weights: [n, N], not negative, 0 where not selected; rows of zeros are left
      out.
    labels: i32 [n], from 0.
    permutations: how many.
    seed: of the permutations.

  Returns:
    (information, f64 [permutations] that of each permutation), nats.
  """
  total = weights.sum(-1, keepdims=True)
  keep = total[:, 0] > 0
  if not keep.any():
    return 0.0, np.zeros(permutations)
  shares = (weights / np.where(total > 0, total, 1))[keep]
  order = np.argsort(labels[keep], kind="stable")
  # Rows are sorted by class once; permuting them then permutes the labels.
  starts = np.flatnonzero(np.diff(labels[keep][order], prepend=-1))
  shares = shares[order]

  def information(rows: np.ndarray) -> float:
    joint = np.add.reduceat(rows, starts, axis=0) / len(rows)
    marginals = entropy(joint.sum(0)) + entropy(joint.sum(1))
    return float(max(marginals - entropy(joint.ravel()), 0))

  rng = np.random.default_rng(seed)
  null = [information(rng.permutation(shares)) for _ in range(permutations)]
  return information(shares), np.asarray(null)


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
  """Jensen-Shannon divergence of paired distributions, in bits.

  Args:
    p: [..., N], sums to 1; for example one gate's `probs` over a split.
    q: [..., N], another's.

  Returns:
    [...] in [0, 1]: 0 when equal, 1 when disjoint.
  """
  p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
  nats = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
  return np.clip(nats / math.log(2), 0, 1)
