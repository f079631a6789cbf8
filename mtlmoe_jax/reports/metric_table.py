"""Metrics as lines for the eye: name, value, 95 % interval, formula."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mtlmoe_jax.metrics import split as metrics_lib

# What depends on probabilities, not only on their order: name -> (label,
# formula).
_PROBABILITY = {
  "loss_class": (
    "class loss",
    "mean of -log(probability of the true class), nats",
  ),
  "ece": (
    "calibration error",
    "sum over 15 bins of (share of images) |accuracy - mean confidence|",
  ),
  "brier": (
    "Brier score",
    "mean over images of the sum over classes of (probability - truth)^2",
  ),
}
# Name -> (label, formula, the count it is a share of or "" for a mean).
KNOWN = {
  "top1": (
    "top-1 accuracy",
    "share of images whose most probable class is the true one",
    "n_label",
  ),
  "top5": (
    "top-5 accuracy",
    "share of images whose true class is among the five most probable",
    "n_label",
  ),
  "top1_loc": (
    "top-1 localisation",
    "share of images with the right class and IoU >= 0.5",
    "n_both",
  ),
  "miou": ("mean IoU", "mean of intersection / union of the two boxes", ""),
  "mciou": ("mean CIoU", "mean of 1 - CIoU loss", ""),
  "ciou_score": ("CIoU score", "1 - mean CIoU loss / 2", ""),
  **{
    f"acc_iou_{round(100 * t)}": (
      f"IoU ≥ {t:.2f}",
      f"share of images with IoU >= {t:.2f}",
      "n_box",
    )
    for t in metrics_lib.IOU_THRESHOLDS
  },
  **{name: (*words, "") for name, words in _PROBABILITY.items()},
  "temperature": (
    "temperature",
    "divides the logits; fitted on the validation split",
    "",
  ),
  **{
    f"{name}_calibrated": (
      f"{label}, calibrated",
      f"{formula}; at the temperature",
      "",
    )
    for name, (label, formula) in _PROBABILITY.items()
  },
  "gate_divergence": (
    "divergence of the gates",
    "mean Jensen-Shannon divergence of the two gates' probs, bits; 0 equal",
    "",
  ),
  "experts_per_image": (
    "experts per image",
    "mean number of distinct experts that an image's gates chose together",
    "",
  ),
  "score": ("score", "mean of those of top1 and miou that exist", ""),
}
# Name below a task -> (label, formula).
GATE = {
  "effective_experts": (
    "effective experts",
    "exp(entropy of the mean gate); N when all are used alike",
  ),
  "entropy": ("entropy per image", "mean entropy of the gate, nats"),
  "cv_load": ("CV of load", "deviation / mean of images per expert"),
  "cv_importance": (
    "CV of importance",
    "deviation / mean of summed weights per expert",
  ),
  "max_load": ("largest / mean load", "1 when all are used alike"),
  "mutual_information": (
    "I(class; expert)",
    "mutual information of class and expert, nats",
  ),
  "mutual_information_null": (
    "I by chance",
    "the same with shuffled labels: what few images per class fake",
  ),
  "specialisation": (
    "specialisation",
    "(I(class; expert) - I by chance) / log N; about 0 without any",
  ),
  "variation": (
    "variation",
    "mean share of an image's weight that other images' experts would not "
    "have; 0: all images have the same",
  ),
  "gate_value": (
    "gate value",
    "top1 (of the box: mean IoU) lost when images exchange their gates",
  ),
  "dropped": ("dropped", "share of choices dropped over capacity"),
}


@dataclasses.dataclass(frozen=True)
class MetricLine:
  """One line of the table; `interval` is None for what is no share."""

  name: str
  label: str
  value: float
  interval: tuple[float, float] | None
  count: int | None
  formula: str


def lines(metrics: Mapping[str, Any]) -> list[MetricLine]:
  """The lines of those metrics that exist, in a fixed order.

  Args:
    metrics: from `evaluate.evaluate_source`.

  Returns:
    Lines; shares carry Wilson's 95 % interval and their n.
  """
  out = []
  for name, (label, formula, total) in KNOWN.items():
    value = metrics.get(name)
    if value is None:
      continue
    n = metrics.get(total)
    interval = metrics_lib.wilson(value * n, n) if n else None
    out.append(MetricLine(name, label, value, interval, n, formula))
  return out


def gate_lines(metrics: Mapping[str, Any], task: str) -> list[MetricLine]:
  """The lines of one task's gate; [] where there is none."""
  return [
    MetricLine(
      f"{task}/{name}", label, metrics[f"{task}/{name}"], None, None, formula
    )
    for name, (label, formula) in GATE.items()
    if metrics.get(f"{task}/{name}") is not None
  ]


def gate_tasks(metrics: Mapping[str, Any]) -> list[str]:
  """Tasks whose gates have metrics."""
  return [
    name.removesuffix("/load") for name in metrics if name.endswith("/load")
  ]


def text(metrics: Mapping[str, Any]) -> str:
  """The table for a terminal."""
  shown = lines(metrics)
  for task in gate_tasks(metrics):
    shown += gate_lines(metrics, task)
  width = max((len(r.name) for r in shown), default=0)
  out = [f"{'metric':{width}}   value   95 % interval     n  formula"]
  for row in shown:
    low_high = "[{:.3f}, {:.3f}]".format(*row.interval) if row.interval else ""
    count = "" if row.count is None else row.count
    out.append(
      f"{row.name:{width}}  {row.value:6.4f}  {low_high:14}  {count:>5}  "
      f"{row.formula}"
    )
  for task in gate_tasks(metrics):
    shares = "  ".join(f"{v:.3f}" for v in metrics[f"{task}/importance"])
    out.append(f"{f'{task}/importance':{width}}  {shares}")
  return "\n".join(out)
