"""Checkpoints: the only file that imports Orbax.

A checkpoint holds four items: `model` (parameters, statistics, averages),
`optimizer` (the rest of the train state), `data` (the iterator's position,
JSON) and `meta` (config, class names, preprocessing, box format, versions,
JSON): enough to go on, or to evaluate and predict with nothing else.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import ml_collections
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.devices import sharding as sharding_lib
from mtlmoe_jax.training import optimizer as optim
from mtlmoe_jax.training import state as state_lib

FOLDER = "checkpoints"


@dataclasses.dataclass(frozen=True)
class Restored:
  """A model read back for evaluation.

  Attributes:
    variables: {"params", "batch_stats"}, averaged parameters where kept.
    config: the config of its run.
    class_names: L names.
    step: the checkpoint's step.
    meta: everything else that was saved with it.
  """

  variables: dict[str, Any]
  config: ml_collections.ConfigDict
  class_names: tuple[str, ...]
  step: int
  meta: dict[str, Any]


class Checkpointer:
  """Saves and restores the train state of one workdir."""

  def __init__(self, workdir: pathlib.Path, keep: int = 2):
    self._folder = pathlib.Path(workdir).absolute() / FOLDER
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
      item_handlers=_handlers(),
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

  def restore(
    self, step: int, like: state_lib.TrainState
  ) -> tuple[state_lib.TrainState, Any, dict[str, Any]]:
    """(state, data iterator state, meta) of a step.

    Args:
      step: which checkpoint.
      like: an abstract state whose leaves carry their target shardings.
    """
    got = self._manager.restore(
      step,
      args=ocp.args.Composite(
        model=ocp.args.StandardRestore(_model_item(like)),
        optimizer=ocp.args.StandardRestore(_optimizer_item(like)),
        data=ocp.args.JsonRestore(),
        meta=ocp.args.JsonRestore(),
      ),
    )
    state = state_lib.TrainState(
      params=got.model["params"],
      batch_stats=got.model["batch_stats"],
      ema=got.model["ema"],
      opt_state=got.optimizer["opt_state"],
      step=got.optimizer["step"],
      bad_steps=got.optimizer["bad_steps"],
    )
    return state, got.data, got.meta

  def close(self) -> None:
    """Waits, then frees the manager. Never swallows a failed save."""
    self._manager.wait_until_finished()
    self._manager.close()


def _handlers() -> dict[str, ocp.CheckpointHandler]:
  return {
    "model": ocp.StandardCheckpointHandler(),
    "optimizer": ocp.StandardCheckpointHandler(),
    "data": ocp.JsonCheckpointHandler(),
    "meta": ocp.JsonCheckpointHandler(),
  }


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


def restore_for_eval(
  workdir: str | pathlib.Path,
  step: str | int = "best",
  mesh: jax.sharding.Mesh | None = None,
) -> Restored:
  """Reads a run's parameters and statistics, and what they mean.

  Args:
    workdir: the folder of a run (or its `checkpoints` folder).
    step: "best" (on validation; the latest where none was scored), "latest",
      or a step number.
    mesh: over which the arrays are split as in training; None puts them on
      the first device.

  Raises:
    InputError: no such workdir, no checkpoint, or no such step.
  """
  folder = _checkpoint_folder(pathlib.Path(workdir))
  with ocp.CheckpointManager(
    folder,
    options=ocp.CheckpointManagerOptions(read_only=True),
    item_handlers=_handlers(),
  ) as manager:
    steps = sorted(manager.all_steps())
    if not steps:
      raise errors.InputError(
        f"no checkpoint in {folder}: train first, with launch/train.py "
        f"--workdir={workdir}"
      )
    metas = {s: _read_meta(manager, s) for s in steps}
    chosen = choose_step(step, {s: m.get("score") for s, m in metas.items()})
    saved = dict(manager.item_metadata(chosen)["model"])
    abstract = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      saved,
      _places(saved, mesh),
    )
    model = manager.restore(
      chosen,
      args=ocp.args.Composite(model=ocp.args.StandardRestore(abstract)),
    ).model
  meta = metas[chosen]
  config = config_lib.from_saved(meta["config"])
  return Restored(
    variables={
      "params": optim.unflatten({**model["params"], **model["ema"]}),
      "batch_stats": model["batch_stats"],
    },
    config=config,
    class_names=tuple(meta["class_names"]),
    step=chosen,
    meta=meta,
  )


def _places(tree: Any, mesh: jax.sharding.Mesh | None) -> Any:
  """A sharding for each leaf."""
  if mesh is not None:
    return sharding_lib.tree_shardings(tree, mesh)
  first = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(lambda _: first, tree)


def choose_step(step: str | int, scores: dict[int, float | None]) -> int:
  """The step meant by "best", "latest" or a number.

  Args:
    step: what the user wrote.
    scores: {step: validation score or None} of the checkpoints there are.

  Raises:
    InputError: not one of them.
  """
  if step == "latest":
    return max(scores)
  if step == "best":
    # The later one among equals, as the preservation policy keeps.
    return max(
      scores,
      key=lambda s: (-1.0 if scores[s] is None else scores[s], s),
    )
  if not str(step).isdigit() or int(step) not in scores:
    raise errors.InputError(
      f"no checkpoint at step {step!r}: there are best, latest, "
      f"{', '.join(map(str, sorted(scores)))}"
    )
  return int(step)


def _checkpoint_folder(workdir: pathlib.Path) -> pathlib.Path:
  if not workdir.is_dir():
    raise errors.InputError(f"no such workdir: {workdir}")
  folder = workdir / FOLDER
  if not folder.is_dir():
    folder = workdir if workdir.name == FOLDER else folder
  if not folder.is_dir():
    raise errors.InputError(
      f"{workdir} holds no checkpoints/ folder: is it the --workdir of a run?"
    )
  return folder.absolute()


def _read_meta(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
  return dict(
    manager.restore(
      step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
    ).meta
  )


def abstract_state(
  state: state_lib.TrainState, mesh: jax.sharding.Mesh
) -> state_lib.TrainState:
  """Shapes, dtypes and target shardings of a state, for `restore`."""
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    state,
    sharding_lib.tree_shardings(state, mesh),
  )
