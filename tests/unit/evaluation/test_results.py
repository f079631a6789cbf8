"""Files and tables of an evaluation."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax.evaluation import results
from mtlmoe_jax.metrics.predictions import (
  Choices,
  Evaluation,
  Predictions,
  softmax,
  top,
)
from mtlmoe_jax.reports import metric_table


def predictions():
  return Predictions(
    ids=["a,1.jpg", "b.jpg"],
    labels=np.asarray([1, -1]),
    has_label=np.asarray([True, False]),
    logits=np.log(np.asarray([[0.2, 0.7, 0.1], [0.5, 0.2, 0.3]], np.float32)),
    boxes=np.asarray([[0, 0, 0.5, 1], [0.25, 0, 1, 1]], np.float32),
    true_boxes=np.asarray([[0, 0, 1, 1], [0, 0, 0, 0]], np.float32),
    has_box=np.asarray([True, False]),
    routing={
      "class": Choices(
        experts=np.asarray([[2, 0], [1, 2]]),
        weights=np.asarray([[0.25, 0.75], [0.5, 0.5]], np.float32),
        probs=np.full((2, 3), 1 / 3, np.float32),
      )
    },
  )


def test_csv_has_exactly_these_cells():
  rows = list(
    csv.reader(
      results.predictions_csv(predictions(), ["x", "y", "z;"]).splitlines()
    )
  )
  assert rows[0] == [
    "id",
    "label",
    "predicted",
    "probability",
    "correct",
    "top5",
    "true_x1",
    "true_y1",
    "true_x2",
    "true_y2",
    "box_x1",
    "box_y1",
    "box_x2",
    "box_y2",
    "iou",
    "experts_class",
  ]
  assert rows[1] == [
    "a,1.jpg",
    "y",
    "y",
    "0.700000",
    "1",
    "y=0.7000;x=0.2000;z;=0.1000",
    "0.000000",
    "0.000000",
    "1.000000",
    "1.000000",
    "0.000000",
    "0.000000",
    "0.500000",
    "1.000000",
    "0.500000",
    "0=0.7500;2=0.2500",
  ]
  assert rows[2] == [
    "b.jpg",
    "",
    "x",
    "0.500000",
    "",
    "x=0.5000;z;=0.3000;y=0.2000",
    "",
    "",
    "",
    "",
    "0.250000",
    "0.000000",
    "1.000000",
    "1.000000",
    "",
    "1=0.5000;2=0.5000",
  ]


def test_metrics_json_is_flat_and_has_no_nan(tmp_path):
  metrics = {"top1": np.float64(0.5), "bad": float("nan"), "class/load": [1, 0]}
  results.save(
    Evaluation(metrics, predictions(), 1.23456),
    tmp_path,
    {"seed": 3, "top1": "twice"},
    class_names="xyz",
  )
  found = json.loads((tmp_path / "metrics.json").read_text())
  assert found == {
    "top1": 0.5,
    "bad": None,
    "class/load": [1, 0],
    "n": 2,
    "seconds": 1.235,
    "meta": {"seed": 3},
  }
  assert sorted(f.name for f in tmp_path.iterdir()) == [
    "metrics.json",
    "predictions.csv",
    "report.html",
  ]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_dense_weights_are_the_sparse_ones_spread(n, experts, data):
  k = data.draw(st.integers(1, experts))
  rng = np.random.default_rng(data.draw(st.integers(0, 99)))
  chosen = np.stack([rng.permutation(experts)[:k] for _ in range(n)])
  weights = rng.random((n, k)).astype(np.float32)
  weights[0] = 0  # a selected expert of weight 0 still counts as load
  gate = Choices(chosen, weights, np.zeros((n, experts)))
  expected = np.zeros((n, experts))
  for i in range(n):
    for j in range(k):
      expected[i, chosen[i, j]] = weights[i, j]
  np.testing.assert_array_equal(gate.dense, expected)
  assert gate.load.sum() == n * k
  assert len(gate.load) == experts


def test_a_temperature_moves_probabilities_alone():
  plain = predictions()
  warm = dataclasses.replace(plain, temperature=0.5)
  np.testing.assert_allclose(
    warm.probabilities[0], np.array([0.04, 0.49, 0.01]) / 0.54, rtol=1e-6
  )
  np.testing.assert_array_equal(warm.predicted, plain.predicted)
  (_, row, _) = results.predictions_csv(warm, ["x", "y", "z"]).splitlines()
  assert row.startswith('"a,1.jpg",y,y,0.907407,1,')


def test_softmax_and_top():
  np.testing.assert_allclose(
    softmax(np.asarray([[1000.0, 1000.0], [0.0, np.log(3)]])),
    [[0.5, 0.5], [0.25, 0.75]],
  )
  assert top(np.asarray([0.1, 0.4, 0.4, 0.1])).tolist() == [1, 2, 0, 3]
  assert top(np.arange(9)).tolist() == [8, 7, 6, 5, 4]


def test_table_gives_shares_wilsons_interval():
  metrics = {
    "top1": 0.9,
    "n_label": 100,
    "miou": 0.7,
    "n_box": 0,
    "class/load": [0.5, 0.5],
    "class/importance": [0.25, 0.75],
    "class/max_load": 1.0,
  }
  top1, miou = metric_table.lines(metrics)
  # Wilson 1927, for 90 of 100.
  assert top1.interval == pytest.approx((0.82563, 0.94478), abs=1e-5)
  assert miou.interval is None
  text = results.table(metrics)
  assert "top1            0.9000  [0.826, 0.945]" in text
  assert "class/importance  0.250  0.750" in text
  assert metric_table.gate_tasks(metrics) == ["class"]


def test_table_of_nothing_is_a_header():
  assert results.table({}).splitlines() == [
    "metric   value   95 % interval     n  formula"
  ]
