"""Names of `checkpointing` and of `checkpoints.restore` under their old one."""

from mtlmoe_jax.checkpoints.restore import (
  FOLDER,
  Restored,
  choose_step,
  restore_for_eval,
)
from mtlmoe_jax.training.checkpointing import Checkpointer, abstract_state

__all__ = [
  "FOLDER",
  "Checkpointer",
  "Restored",
  "abstract_state",
  "choose_step",
  "restore_for_eval",
]
