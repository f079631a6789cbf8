"""One HTML file that shows what a run does well and badly.

The file needs nothing else: no script, no other file, no network. What stands
where is in `templates/evaluation.html.j2`; here are the values. Letters: n
images of the split, L classes, N experts.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtlmoe_jax import data as data_lib
from mtlmoe_jax.data.drawn import scenery, synthetic
from mtlmoe_jax.metrics import permutation, split
from mtlmoe_jax.metrics.predictions import (
  Choices,
  Evaluation,
  Predictions,
  softmax,
)
from mtlmoe_jax.reports import html, metric_table, plots
from mtlmoe_jax.reports.evaluation import gallery
from mtlmoe_jax.utils import files

# Attributes are known only by drawing an image, so not all of a large split.
ATTRIBUTE_IMAGES = 500
# Attributes drawn, where a source has them, and the names of their values;
# those that are text are drawn, too.
ATTRIBUTES: dict[str, Sequence[str] | None] = {
  "pose": synthetic.POSES,
  "background": scenery.BACKGROUNDS,
  "scale": None,
}
# More values of an attribute than this are told in bits alone.
MOST_DRAWN = 40
# Options that stand in the header.
HIGHLIGHTS = (
  "data.name",
  "data.split_scheme",
  "data.classes",
  "data.image_size",
  "model.tasks",
  "model.backbone",
  "model.pretrained",
  "model.experts",
  "model.k",
  "model.gate",
  "model.gate_input",
  "model.gate_start",
  "model.compute",
  "model.condense",
  "model.norm",
  "batch_size",
  "epochs",
  "optimizer.lr",
)
FACTS = {
  "split": "split",
  "models": "models together",
  "step": "checkpoint step",
  "checkpoint": "chosen as",
  "views": "views of each image",
  "seed": "seed",
  "wall_seconds": "training time",
  "seconds": "training time",
  "parameters": "parameters",
  "parameters_active": "active per image",
  "images_per_second": "training images per second",
  "device": "device",
  "commit": "commit",
  "dataset_fingerprint": "data fingerprint",
  "data_notes": "data",
}
_HEADS = ("top1", "miou", "acc_iou_50", "top1_loc")
# Of a page: SVG, a name that stands there once, title.
Plot = tuple[bytes, str, str]
# Positions of some images, and the value of each attribute for each of these.
Known = tuple[np.ndarray, dict[str, list[float | str]]]


class ToldLine(NamedTuple):
  """What one gate tells of one group, bits, beside chance."""

  group: str
  task: str
  bits: float
  null: float
  p: float


class ClassLine(NamedTuple):
  """Right answers among the images of a class, with Wilson's interval."""

  name: str
  right: int
  images: int
  interval: tuple[float, float]


def write_report(
  path: str | pathlib.Path,
  evaluation: Evaluation,
  source: data_lib.Source | None,
  class_names: Sequence[str],
  meta: Mapping[str, Any],
  metrics_jsonl: Sequence[Mapping[str, Any]] = (),
) -> None:
  """Writes the report, whole or not at all.

  Args:
    path: the .html file.
    evaluation: metrics and predictions of n images.
    source: the same n images in the same order; None shows none.
    class_names: L names.
    meta: facts of the run. The header shows `config` (nested dict) and the
      keys of FACTS that are there; `versions` (dict) stands in the details.
    metrics_jsonl: rows of the run's log; none leaves the curves out.
  """
  p, metrics = evaluation.predictions, evaluation.metrics
  whole = {"config": meta.get("config") or {}, "versions": meta.get("versions")}
  lines = metric_table.lines(metrics)
  # Of a single expert there is nothing to tell or draw.
  gates = {t: g for t, g in p.routing.items() if g.probs.shape[1] > 1}
  known = _known(len(p), source) if gates else None
  text = html.render(
    "evaluation.html.j2",
    split=meta.get("split", "evaluation"),
    images=len(p),
    classes=len(class_names),
    heads=[line for line in lines if line.name in _HEADS],
    facts=_facts(evaluation, meta, len(class_names)),
    whole=json.dumps(files.plain(whole), indent=2),
    metrics=lines,
    gates=[
      (task, metric_table.gate_lines(metrics, task))
      for task in metric_table.gate_tasks(metrics)
    ],
    before=_before(metrics_jsonl),
    told=list(_told(p, gates, known)),
    curves=list(_curves(metrics_jsonl)),
    **_classes(evaluation, source, class_names),
    ious=list(_ious(p)),
    experts=list(_experts(p, gates, known, class_names)),
    galleries=[]
    if source is None
    else gallery.galleries(p, source, class_names),
  )
  files.write_text(path, text)


def _before(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
  """Metrics of the gates before the first step, where they were taken."""
  return next((row for row in rows if row["split"] == "start"), {})


def _known(n: int, source: data_lib.Source | None) -> Known | None:
  """What a source knows of its images beside class and box."""
  if source is None or "attributes" not in source[0]:
    return None
  index = gallery.spread(n, ATTRIBUTE_IMAGES)
  rows = [source[int(i)]["attributes"] for i in index]
  return index, {name: [row[name] for row in rows] for name in rows[0]}


def _told(
  p: Predictions, gates: dict[str, Choices], known: Known | None
) -> Iterator[ToldLine]:
  """What the experts of an image tell of its class and its attributes."""
  if not gates:
    return
  groups = {"class": (np.arange(len(p)), np.where(p.has_label, p.labels, -1))}
  index, attributes = known or (np.arange(0), {})
  for name, values in attributes.items():
    group = _numbered(values)[0]
    # What is another for each image parts nothing.
    if 1 < len(np.unique(group[group >= 0])) <= len(index) / 4:
      groups[name] = (index, group)
  for name, (index, group) in groups.items():
    for task, gate in gates.items():
      found = permutation.information(gate.dense[index], group)
      yield ToldLine(name, task, found["bits"], found["null_mean"], found["p"])


def _numbered(values: Sequence[float | str]) -> tuple[np.ndarray, list[str]]:
  """Group of each value, -1 where it is "", and the groups' names."""
  names = sorted(set(values) - {""})
  place = {name: number for number, name in enumerate(names)} | {"": -1}
  return np.asarray([place[value] for value in values]), list(map(str, names))


def _curves(rows: Sequence[Mapping[str, Any]]) -> Iterator[Plot]:
  svg = plots.training_curves(rows)
  if svg is not None:
    yield svg, "curves", "losses, accuracy, IoU and learning rate over steps"


def _facts(
  evaluation: Evaluation, meta: Mapping[str, Any], classes: int
) -> dict[str, Any]:
  facts: dict[str, Any] = {
    "images": len(evaluation.predictions),
    "classes": classes,
  }
  for key, label in FACTS.items():
    if meta.get(key) not in (None, ""):
      facts.setdefault(label, _fact(key, meta[key]))
  facts["evaluation time"] = _fact("seconds", evaluation.seconds)
  for key in HIGHLIGHTS:
    value = _look_up(meta.get("config"), key)
    if value not in (None, ""):
      facts[key] = value
  return facts


def _look_up(config: Any, path: str) -> Any:
  for part in path.split("."):
    if not isinstance(config, Mapping) or part not in config:
      return None
    config = config[part]
  return config


def _fact(key: str, value: Any) -> str:
  if key in ("seconds", "wall_seconds"):
    minutes, seconds = divmod(float(value), 60)
    if not minutes:
      return f"{seconds:.1f} s"
    return f"{minutes:.0f} min {seconds:.0f} s"
  if key == "images_per_second":
    return f"{value:.1f}"
  if isinstance(value, int) and value >= 10_000:
    return f"{value:,}"
  if key in ("commit", "dataset_fingerprint"):
    return str(value)[:12]
  if key == "data_notes":
    return "; ".join(value)
  return str(value)


def _classes(
  evaluation: Evaluation,
  source: data_lib.Source | None,
  names: Sequence[str],
) -> dict[str, Any]:
  """What the section on classes shows; `confusion` is empty without it."""
  p = evaluation.predictions
  if p.predicted is None or not p.has_label.any():
    return {"confusion": []}
  labels, predicted = p.labels[p.has_label], p.predicted[p.has_label]
  counts = split.confusion_matrix(labels, predicted, len(names))
  return {
    "confusion": [
      (
        plots.confusion_matrix(counts, names),
        "confusion",
        "confusion matrix, true classes down, predicted across",
      )
    ],
    "pairs": gallery.confused_pairs(p, counts, source, names),
    "per_class": _per_class(counts, names),
    "reliability": list(_reliability(evaluation)),
  }


def _reliability(evaluation: Evaluation) -> Iterator[Plot]:
  """Accuracy against confidence: as the model says and, if fitted, at T."""
  p, metrics = evaluation.predictions, evaluation.metrics
  if p.logits is None or p.correct is None:
    return
  kinds = [("ece", 1.0, "Reliability", "")]
  if p.temperature is not None:
    title = f"At temperature {p.temperature:.2f}"
    kinds.append(("ece_calibrated", p.temperature, title, ", calibrated"))
  for name, temperature, title, ending in kinds:
    svg = plots.reliability(
      softmax(p.logits, temperature).max(-1)[p.has_label],
      p.correct[p.has_label],
      metrics.get(name, 0.0),
      title,
    )
    yield svg, name, f"accuracy against confidence{ending}"


def _per_class(counts: np.ndarray, names: Sequence[str]) -> list[ClassLine]:
  """Accuracy of every class, the worst first."""
  images, right = counts.sum(1), np.diag(counts)
  seen = np.flatnonzero(images)
  order = seen[np.argsort(right[seen] / images[seen], kind="stable")]
  return [
    ClassLine(
      names[c],
      int(right[c]),
      int(images[c]),
      split.wilson(right[c], images[c]),
    )
    for c in order
  ]


def _ious(p: Predictions) -> Iterator[Plot]:
  if p.iou is not None and p.has_box.any():
    svg = plots.iou_distribution(p.iou[p.has_box])
    yield svg, "iou", "histogram of IoU and hit rates"


def _experts(
  p: Predictions,
  gates: dict[str, Choices],
  known: Known | None,
  names: Sequence[str],
) -> Iterator[Plot]:
  if not gates:
    return
  svg = plots.expert_use(gates)
  yield svg, "use", "load and importance of each expert"
  if p.has_label.any():
    groups = np.where(p.has_label, p.labels, -1)
    svg = plots.expert_by_group(gates, groups, names, "true class")
    yield svg, "true_class", "mean weight of each expert for each class"
  if known is not None:
    yield from _by_attribute(gates, *known)


def _by_attribute(
  gates: dict[str, Choices],
  index: np.ndarray,
  attributes: Mapping[str, Sequence[float | str]],
) -> Iterator[Plot]:
  """Expert weights of some images against what is known of them."""
  some = {
    task: Choices(g.experts[index], g.weights[index], g.probs[index])
    for task, g in gates.items()
  }
  for number, (name, values) in enumerate(attributes.items()):
    plot = name
    if isinstance(values[0], str):
      # A user's own word: it may be any text.
      plot = f"attribute_{number}"
      groups, labels = _numbered(values)
      if not 1 < len(labels) <= MOST_DRAWN:
        continue
    elif name not in ATTRIBUTES:
      continue
    elif (names := ATTRIBUTES[name]) is None:
      groups, labels = plots.group_values(np.asarray(values, float))
    else:
      groups, labels = np.asarray(values, int), list(names)
    svg = plots.expert_by_group(some, groups, labels, name)
    yield svg, plot, f"mean weight of each expert by {name}"
