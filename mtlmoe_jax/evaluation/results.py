"""The files that the evaluation of one split becomes.

Letters: n images of the split, L classes, N experts, K selected per image.
"""

import csv
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtlmoe_jax import data as data_lib
from mtlmoe_jax.metrics.predictions import Evaluation, Predictions, top
from mtlmoe_jax.reports import metric_table as table_lib
from mtlmoe_jax.utils import files


def save(
  evaluation: Evaluation,
  folder: str | pathlib.Path,
  meta: Mapping[str, Any],
  *,
  class_names: Sequence[str],
  source: data_lib.Source | None = None,
  metrics_jsonl: Sequence[Mapping[str, Any]] = (),
  with_report: bool = True,
) -> None:
  """Writes metrics.json, predictions.csv and report.html, each one whole.

  metrics.json holds every metric at its top level, beside `n`, `seconds` and
  `meta`.

  Args:
    evaluation: what to write.
    folder: `workdir/eval/<split>`; made where missing.
    meta: facts of the run, see `page.write_report`.
    class_names: L names.
    source: the images evaluated; None leaves the galleries out.
    metrics_jsonl: rows of the run's log; none leaves the curves out.
    with_report: whether to write report.html.
  """
  folder = pathlib.Path(folder)
  metrics = {
    **evaluation.metrics,
    "n": len(evaluation.predictions),
    "seconds": round(evaluation.seconds, 3),
    "meta": {k: v for k, v in meta.items() if k not in evaluation.metrics},
  }
  files.write_json(folder / "metrics.json", metrics)
  files.write_text(
    folder / "predictions.csv",
    predictions_csv(evaluation.predictions, class_names),
  )
  if not with_report:
    return
  # Here, not above: who writes a table alone should not wait for plots.
  from mtlmoe_jax.reports.evaluation import page

  page.write_report(
    folder / "report.html",
    evaluation,
    source,
    class_names,
    meta,
    metrics_jsonl,
  )


def table(metrics: Mapping[str, Any]) -> str:
  """The metrics as a text table with 95 % intervals and formulas."""
  return table_lib.text(metrics)


def to_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
  """CSV text with a header; None and NaN are empty cells."""
  text = io.StringIO()
  writer = csv.DictWriter(text, columns, lineterminator="\n")
  writer.writeheader()
  for row in rows:
    writer.writerow({k: _cell(row.get(k)) for k in columns})
  return text.getvalue()


def _cell(value: Any) -> Any:
  if isinstance(value, (float, np.floating)):
    return f"{value:.6f}" if np.isfinite(value) else ""
  if isinstance(value, (bool, np.bool_)):
    return int(value)
  return "" if value is None else value


def top_text(probabilities: np.ndarray, class_names: Sequence[str]) -> str:
  """`name=0.9123;name=0.0456;...`, the five most probable of one row [L]."""
  return ";".join(
    f"{class_names[c]}={probabilities[c]:.4f}" for c in top(probabilities)
  )


def experts_text(experts: np.ndarray, weights: np.ndarray) -> str:
  """`2=0.6100;0=0.3900`, the experts of one image [K], heaviest first."""
  order = np.argsort(-weights, kind="stable")
  return ";".join(f"{experts[i]}={weights[i]:.4f}" for i in order)


def box_cells(prefix: str, box: np.ndarray | None) -> dict[str, Any]:
  """Columns `<prefix>_x1` ... `<prefix>_y2` of one box [4] (None: empty)."""
  names = box_columns(prefix)
  return dict(zip(names, [None] * 4 if box is None else map(float, box)))


def box_columns(prefix: str) -> list[str]:
  """Names of the four columns of a box."""
  return [f"{prefix}_{side}" for side in ("x1", "y1", "x2", "y2")]


def predictions_csv(
  predictions: Predictions, class_names: Sequence[str]
) -> str:
  """predictions.csv: one row an image, boxes normalised xyxy.

  Columns: id, label, predicted, probability, correct, top5 (`name=p;...`),
  true_x1 ... true_y2, box_x1 ... box_y2, iou, experts_<task>
  (`expert=weight;...`). A cell is empty where its value does not exist.
  """
  p = predictions
  columns = [
    *("id", "label", "predicted", "probability", "correct", "top5"),
    *box_columns("true"),
    *box_columns("box"),
    "iou",
    *(f"experts_{task}" for task in p.routing),
  ]
  rows = []
  for i in range(len(p)):
    row: dict[str, Any] = {"id": p.ids[i]}
    if p.has_label[i]:
      row["label"] = class_names[p.labels[i]]
    if p.probabilities is not None and p.predicted is not None:
      row["predicted"] = class_names[p.predicted[i]]
      row["probability"] = p.probabilities[i, p.predicted[i]]
      row["top5"] = top_text(p.probabilities[i], class_names)
    if p.correct is not None and p.has_label[i]:
      row["correct"] = p.correct[i]
    row |= box_cells("true", p.true_boxes[i] if p.has_box[i] else None)
    if p.boxes is not None and p.iou is not None:
      row |= box_cells("box", p.boxes[i])
      row["iou"] = p.iou[i]
    for task, choices in p.routing.items():
      row[f"experts_{task}"] = experts_text(
        choices.experts[i], choices.weights[i]
      )
    rows.append(row)
  return to_csv(rows, columns)
