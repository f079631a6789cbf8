"""A whole training of a model with experts in its layers."""

import json

import numpy as np

from mtlmoe_jax.training import loop, metric_log
from tests.support import tiny

SINGLE = {
  "model.backbone": "vit_nano",
  "model.shared_stages": 5,
  "model.experts": 1,
  "model.k": "1",
  "model.gate": "dense",
  "model.token_moe.blocks": "last:2",
  "model.token_moe.experts": 4,
}


def test_a_tiny_v_moe_trains_end_to_end(tmp_path):
  config = tiny.config(
    **{
      **SINGLE,
      "steps": 2,
      "data.validation_fraction": 0.0,
      "model.tasks": "class",
      "model.condense": "pool",
      "model.token_moe.blocks": "3",
      "optimizer.ema": 0.0,
      "eval.report": False,
    }
  )
  assert loop.train(config, str(tmp_path)) == 0
  (row,) = [r for r in metric_log.read(tmp_path) if r["split"] == "train"]
  for name in ("loss_importance", "loss_load", "dropped", "entropy"):
    assert np.isfinite(row[f"tokens/block_03/{name}"])
  assert row["bad_steps"] == 0
  result = json.loads((tmp_path / "result.json").read_text())
  assert result["parameters_active"] < result["parameters"]
