"""Evaluation and prediction with a trained model.

Stable modules: `evaluate` (a model over a split), `prediction` (a model on
images in memory), `predict` (on files, with pictures), `ensemble` (several
models), `results` (what is written).
"""

from mtlmoe_jax.utils import lazy

__all__ = [
  "calibrate",
  "ensemble",
  "evaluate",
  "predict",
  "prediction",
  "results",
  "test_time",
]

__getattr__, __dir__ = lazy.members(__name__, __all__)
