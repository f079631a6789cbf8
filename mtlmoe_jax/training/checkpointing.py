"""Saving a run's checkpoints, and restoring its whole train state.

What a checkpoint holds is told in `checkpoints/restore.py`; that file and this
one are the only ones that import Orbax.
"""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from mtlmoe_jax.checkpoints import restore
from mtlmoe_jax.devices import sharding
from mtlmoe_jax.training import state as state_lib


class Checkpointer:
  """Saves and restores the train state of one workdir."""

  def __init__(self, workdir: pathlib.Path, keep: int = 2):
    self._folder = pathlib.Path(workdir).absolute() / restore.FOLDER
    policy = policies.AnyPreservationPolicy(
      [
        policies.LatestN(keep),
        policies.BestN(
          get_metric_fn=lambda m: m["best"],
          n=1,
          keep_checkpoints_without_metrics=False,
        ),
      ]
    )
    self._manager = ocp.CheckpointManager(
      self._folder,
      item_handlers=restore.handlers(),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policy, cleanup_tmp_directories=True
      ),
    )

  def latest_step(self) -> int | None:
    """The newest complete checkpoint, or None."""
    return self._manager.latest_step()

  def save(
    self,
    state: state_lib.TrainState,
    data_state: Any,
    meta: dict[str, Any],
    score: float | None,
  ) -> None:
    """Starts an asynchronous, atomic save; a step already there is kept."""
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    self._manager.save(
      step,
      args=ocp.args.Composite(
        model=ocp.args.StandardSave(_model_item(state)),
        optimizer=ocp.args.StandardSave(_optimizer_item(state)),
        data=ocp.args.JsonSave(data_state),
        meta=ocp.args.JsonSave({**meta, "step": step, "score": score}),
      ),
      metrics=None if score is None else {"best": score},
    )

  def meta(self, step: int) -> dict[str, Any]:
    """What a step says of itself, without its arrays."""
    args = ocp.args.Composite(meta=ocp.args.JsonRestore())
    return self._manager.restore(step, args=args).meta

  def restore(
    self, step: int, abstract: state_lib.TrainState
  ) -> tuple[state_lib.TrainState, Any, dict[str, Any]]:
    """(state, data iterator state, meta) of a step.

    Args:
      step: which checkpoint.
      abstract: an abstract state whose leaves carry their target shardings.
    """
    saved = self._manager.restore(
      step,
      args=ocp.args.Composite(
        model=ocp.args.StandardRestore(_model_item(abstract)),
        optimizer=ocp.args.StandardRestore(_optimizer_item(abstract)),
        data=ocp.args.JsonRestore(),
        meta=ocp.args.JsonRestore(),
      ),
    )
    state = state_lib.TrainState(
      params=saved.model["params"],
      batch_stats=saved.model["batch_stats"],
      ema=saved.model["ema"],
      opt_state=saved.optimizer["opt_state"],
      step=saved.optimizer["step"],
      bad_steps=saved.optimizer["bad_steps"],
    )
    return state, saved.data, saved.meta

  def close(self) -> None:
    """Waits, then frees the manager. Never swallows a failed save."""
    self._manager.wait_until_finished()
    self._manager.close()


def _model_item(state: state_lib.TrainState) -> dict[str, Any]:
  return {
    "params": state.params,
    "batch_stats": state.batch_stats,
    "ema": state.ema,
  }


def _optimizer_item(state: state_lib.TrainState) -> dict[str, Any]:
  return {
    "opt_state": state.opt_state,
    "step": state.step,
    "bad_steps": state.bad_steps,
  }


def abstract_state(
  state: state_lib.TrainState, mesh: jax.sharding.Mesh
) -> state_lib.TrainState:
  """Shapes, dtypes and target shardings of a state, for `restore`."""
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    state,
    sharding.tree_shardings(state, mesh),
  )
