"""Checkpoints of finished and running trainings, read back for use.

Stable names: `restore_for_eval` and what it gives, `Restored`.
"""

from mtlmoe_jax.checkpoints.restore import Restored, restore_for_eval

__all__ = ["Restored", "restore_for_eval"]
