"""What a prediction writes, read back."""

import json

from mtlmoe_jax.predicting import run


def rows(restored, paths, out, **options):
  """Predicts, and the rows of predictions.jsonl."""
  run.predict_files(
    restored, paths, out, run.Options(**options), progress=False
  )
  lines = (out / "predictions.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]
