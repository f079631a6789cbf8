"""Checkpoints of finished and running trainings, read back for use.

Stable names: `restore_for_eval`, `restore_for_prediction` (the same, in a
fraction of the time) and what both give, `Restored`.
"""

from typing import TYPE_CHECKING

from mtlmoe_jax.utils import lazy

if TYPE_CHECKING:
  from mtlmoe_jax.checkpoints.prediction import restore_for_prediction
  from mtlmoe_jax.checkpoints.restore import restore_for_eval
  from mtlmoe_jax.checkpoints.restored import Restored

_NAMES = {
  "Restored": "restored",
  "restore_for_eval": "restore",
  "restore_for_prediction": "prediction",
}
__all__ = ["Restored", "restore_for_eval", "restore_for_prediction"]

# On first use: who predicts should not wait for Orbax.
__getattr__, __dir__ = lazy.members(__name__, names=_NAMES)
