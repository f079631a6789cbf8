"""A run with all controls: random experts, shuffled boxes, PCGrad."""

import json

import pytest

from mtlmoe_jax.training import loop
from tests.support import tiny


@pytest.mark.slow
def test_a_run_with_all_controls(tmp_path):
  config = tiny.config(
    **{
      "model.gate": "random",
      "model.compute": "sparse",
      "data.shuffle_boxes": True,
      "loss.weighting": "pcgrad",
      "steps": 4,
    }
  )
  loop.train(config, tmp_path)
  result = json.loads((tmp_path / "result.json").read_text())
  assert 0 <= result["top1"] <= 1 and 0 <= result["miou"] <= 1
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  found = [
    value
    for line in map(json.loads, lines)
    for name, value in line.items()
    if name.endswith("gradient_cosine")
  ]
  assert found and all(-1 <= value <= 1 for value in found)
