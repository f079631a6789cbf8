"""One HTML file that shows what a run does well and badly.

The file needs nothing else: no script, no other file, no network. Letters: n
images of the split, L classes, N experts.
"""

import base64
import html
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mtlmoe_jax import data as data_lib
from mtlmoe_jax.data.drawn import scenery, synthetic
from mtlmoe_jax.metrics import split as metrics
from mtlmoe_jax.metrics.predictions import (
  Evaluation,
  Gate,
  Predictions,
  softmax,
)
from mtlmoe_jax.reports import metric_table, plots, style
from mtlmoe_jax.reports.evaluation import gallery
from mtlmoe_jax.utils import files

# Attributes are known only by drawing an image, so not all of a large split.
ATTRIBUTE_IMAGES = 500
# Attributes shown, where a source has them, and the names of their values.
ATTRIBUTES = {
  "pose": synthetic.POSES,
  "background": scenery.BACKGROUNDS,
  "scale": None,
}
# What the header tells of the config.
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
}


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
  p = evaluation.predictions
  name = f"{meta.get('split', 'evaluation')} split, n={len(p)}"
  body = [
    _header(evaluation, meta, class_names),
    _metric_table(evaluation.metrics),
    _curves(metrics_jsonl),
    _classes(evaluation, source, class_names),
    _boxes(p),
    _experts(evaluation, source, class_names),
  ]
  if source is not None:
    body.append(gallery.galleries(p, source, class_names))
  files.write_text(
    path,
    "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
    '<meta name=viewport content="width=device-width,initial-scale=1">'
    f"<title>mtlmoe_jax: {_text(name)}</title><style>{style.CSS}</style>"
    f"</head><body><main>\n{''.join(body)}\n</main></body></html>\n",
  )


def _text(value: Any) -> str:
  return html.escape(str(value))


def _figure(svg: bytes | None, alt: str) -> str:
  if svg is None:
    return ""
  data = base64.b64encode(svg).decode()
  return (
    f'<div class=panel><img alt="{_text(alt)}" '
    f'src="data:image/svg+xml;base64,{data}"></div>\n'
  )


def _header(
  evaluation: Evaluation, meta: Mapping[str, Any], names: Sequence[str]
) -> str:
  n = len(evaluation.predictions)
  heads = "".join(
    f"<div class=head><span class=mute>{_text(row.label)}</span>"
    f"<b>{row.value:.3f}</b><span class=mute>{_interval(row)}</span></div>"
    for row in metric_table.rows(evaluation.metrics)
    if row.name in ("top1", "miou", "acc_iou_50", "top1_loc")
  )
  facts = {"images": n, "classes": len(names)}
  for key, label in FACTS.items():
    if meta.get(key) not in (None, ""):
      facts.setdefault(label, _fact(key, meta[key]))
  facts["evaluation time"] = _fact("seconds", evaluation.seconds)
  config = meta.get("config") or {}
  for key in HIGHLIGHTS:
    value = _look_up(config, key)
    if value not in (None, ""):
      facts[key] = value
  listed = "".join(
    f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>"
    for k, v in facts.items()
  )
  title = f"{meta.get('split', 'evaluation')} split"
  whole = {"config": config, "versions": meta.get("versions")}
  whole = json.dumps(files.plain(whole), indent=2)
  return (
    f"<h1>Evaluation of the {_text(title)}</h1>"
    f"<p class=mute>{n} images, {len(names)} classes. Intervals are Wilson's "
    "at 95 %: they tell what another sample of images would change, not "
    "another seed.</p>"
    f"<div class=panel><div class=heads>{heads}</div><dl>{listed}</dl>"
    "<details><summary>Whole config and versions</summary>"
    f"<pre>{_text(whole)}</pre></details></div>"
  )


def _interval(row: metric_table.Row) -> str:
  if row.interval is None:
    return "mean"
  return f"{row.interval[0]:.3f} to {row.interval[1]:.3f}"


def _look_up(config: Mapping[str, Any], path: str) -> Any:
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
  return str(value)


def _metric_table(metrics_: Mapping[str, Any]) -> str:
  gates = "".join(
    f"<h2>Gate of the {task} task</h2><div class=panel>"
    f"{_rows(metric_table.gate_rows(metrics_, task))}</div>"
    for task in metric_table.gate_tasks(metrics_)
  )
  return (
    "<h2>Metrics</h2><div class=panel>"
    f"{_rows(metric_table.rows(metrics_))}</div>"
    f"<details><summary>Figures of the gates</summary>{gates}</details>\n"
  )


def _rows(rows: Sequence[metric_table.Row]) -> str:
  shares = any(row.interval for row in rows)
  lines = []
  for row in rows:
    low_high = (
      f"<td class=num>{_interval(row) if row.interval else ''}</td>"
      f"<td class=num>{row.count or ''}</td>"
    )
    lines.append(
      f"<tr><td><b>{_text(row.label)}</b><br><span class=mute>"
      f"{_text(row.name)}</span></td><td class=num>{row.value:.4f}</td>"
      f"{low_high if shares else ''}<td>{_text(row.formula)}</td></tr>"
    )
  head = "<th class=num>95 % interval<th class=num>n" if shares else ""
  return (
    f"<table><tr><th>metric<th class=num>value{head}<th>formula</tr>"
    f"{''.join(lines)}</table>"
  )


def _curves(rows: Sequence[Mapping[str, Any]]) -> str:
  svg = plots.training_curves(rows)
  if svg is None:
    return ""
  return (
    "<h2>Training</h2><p class=mute>Figures of the training split are means "
    "over the last steps, on augmented crops and with dropout; those of the "
    "validation split are of whole images. Thin lines are raw, thick ones "
    "running means.</p>"
    + _figure(svg, "losses, accuracy, IoU and learning rate over steps")
  )


def _classes(
  evaluation: Evaluation,
  source: data_lib.Source | None,
  names: Sequence[str],
) -> str:
  p = evaluation.predictions
  if p.logits is None or not p.has_label.any():
    return ""
  known = p.has_label
  labels, predicted = p.labels[known], p.predicted[known]
  counts = metrics.confusion_matrix(labels, predicted, len(names))
  return "".join(
    [
      "<h2>Classes</h2>",
      _figure(
        plots.confusion_matrix(counts, names),
        "confusion matrix, true classes down, predicted across",
      ),
      gallery.pairs(p, counts, source, names),
      _per_class(counts, names),
      *_reliability(evaluation),
    ]
  )


def _reliability(evaluation: Evaluation) -> Iterable[str]:
  """Accuracy against confidence: as the model says and, if fitted, at T."""
  p, found = evaluation.predictions, evaluation.metrics

  def figure(probabilities: np.ndarray, ece: str, title: str, alt: str) -> str:
    confidence = probabilities.max(-1)[p.has_label]
    correct = p.correct[p.has_label]
    svg = plots.reliability(confidence, correct, found.get(ece, 0.0), title)
    return _figure(svg, alt)

  alt = "accuracy against confidence"
  yield figure(softmax(p.logits), "ece", "Reliability", alt)
  if p.temperature is not None:
    yield figure(
      p.probabilities,
      "ece_calibrated",
      f"At temperature {p.temperature:.2f}",
      f"{alt}, calibrated",
    )


def _per_class(counts: np.ndarray, names: Sequence[str]) -> str:
  """Accuracy of every class, the worst first."""
  n, right = counts.sum(1), np.diag(counts)
  seen = np.flatnonzero(n)
  order = seen[np.argsort(right[seen] / n[seen], kind="stable")]
  lines = "".join(
    f"<tr><td>{_text(plots.display_name(names[c], 60))}</td>"
    f"<td class=num>{right[c] / n[c]:.3f}</td><td class=num>"
    "{:.3f} to {:.3f}</td>".format(*metrics.wilson(right[c], n[c]))
    + f"<td class=num>{right[c]} of {n[c]}</td></tr>"
    for c in order
  )
  return (
    f"<details><summary>Accuracy of each of the {len(order)} classes, worst "
    "first</summary><div class=panel><table><tr><th>class<th class=num>"
    "accuracy<th class=num>95 % interval<th class=num>images</tr>"
    f"{lines}</table></div></details>\n"
  )


def _boxes(p: Predictions) -> str:
  if p.iou is None or not p.has_box.any():
    return ""
  svg = plots.iou_distribution(p.iou[p.has_box])
  return "<h2>Boxes</h2>" + _figure(svg, "histogram of IoU and hit rates")


def _experts(
  evaluation: Evaluation,
  source: data_lib.Source | None,
  names: Sequence[str],
) -> str:
  p = evaluation.predictions
  gates = {t: g for t, g in p.routing.items() if g.probs.shape[1] > 1}
  if not gates:
    return ""
  parts = [
    "<h2>Experts</h2><p class=mute>Load is an expert's share of all choices, "
    "importance its share of all weight.</p>",
    _figure(plots.expert_use(gates), "load and importance of each expert"),
  ]
  if p.has_label.any():
    groups = np.where(p.has_label, p.labels, -1)
    svg = plots.expert_by_group(gates, groups, names, "true class")
    parts.append(_figure(svg, "mean weight of each expert for each class"))
  if source is not None:
    parts += _by_attribute(p, gates, source)
  return "".join(parts)


def _by_attribute(
  p: Predictions, gates: dict[str, Gate], source: data_lib.Source
) -> Iterable[str]:
  """Expert weights against what a source knows beside class and box."""
  if "attributes" not in source[0]:
    return
  index = gallery.spread(len(p), ATTRIBUTE_IMAGES)
  known = [source[int(i)]["attributes"] for i in index]
  some = {
    task: Gate(g.experts[index], g.weights[index], g.probs[index])
    for task, g in gates.items()
  }
  for name, values_of in ATTRIBUTES.items():
    if name not in known[0]:
      continue
    values = np.asarray([a[name] for a in known], float)
    if values_of is None:
      groups, labels = plots.group_values(values)
    else:
      groups, labels = values.astype(int), values_of
    yield _figure(
      plots.expert_by_group(some, groups, labels, name),
      f"mean weight of each expert by {name}",
    )
