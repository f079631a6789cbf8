"""Suites without trainings."""

import csv
import itertools

from mtlmoe_jax.utils import files


def write(cell, correct, iou, seconds=60.0, ids=None):
  """What a finished run leaves."""
  rows = [
    {"id": name, "correct": c, "iou": i}
    for name, c, i in zip(ids or map(str, itertools.count()), correct, iou)
  ]
  cell.evaluation.mkdir(parents=True)
  with open(
    cell.evaluation / "predictions.csv", "w", encoding="utf-8", newline=""
  ) as file:
    writer = csv.DictWriter(file, ["id", "correct", "iou"])
    writer.writeheader()
    writer.writerows(rows)
  meta = {
    "wall_seconds": seconds,
    "class_names": ["a", "b"],
    "device": "1 x cpu",
    "commit": "",
  }
  files.write_json(
    cell.evaluation / "metrics.json", {"n": len(rows), "meta": meta}
  )
  if cell.trains:
    facts = {k: meta[k] for k in ("wall_seconds", "device", "commit")}
    files.write_json(cell.folder / "result.json", facts)
