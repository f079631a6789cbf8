"""Training: state, step, optimizer, loop, checkpoints.

Stable names: `train`; `assemble` and what it gives, `Assembly`; `TrainState`,
`make_train_step` and `make_optimizer`.
"""

from typing import TYPE_CHECKING

from mtlmoe_jax.utils import lazy

if TYPE_CHECKING:
  from mtlmoe_jax.training.assembly import Assembly, assemble
  from mtlmoe_jax.training.loop import train
  from mtlmoe_jax.training.optimizer import make_optimizer
  from mtlmoe_jax.training.state import TrainState
  from mtlmoe_jax.training.step import make_train_step

_MODULES = {
  "Assembly": "assembly",
  "TrainState": "state",
  "assemble": "assembly",
  "make_optimizer": "optimizer",
  "make_train_step": "step",
  "train": "loop",
}
__all__ = [
  "Assembly",
  "TrainState",
  "assemble",
  "make_optimizer",
  "make_train_step",
  "train",
]

# On first use: who needs a file of metrics should not wait for all of it.
__getattr__, __dir__ = lazy.members(__name__, names=_MODULES)
