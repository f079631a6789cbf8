"""Reading a checkpoint back, to evaluate, to predict or to start from it.

A checkpoint holds four items: `model` (parameters, statistics, averages),
`optimizer` (the rest of the train state), `data` (the iterator's position,
JSON) and `meta` (config, class names, preprocessing, box format, versions,
JSON): enough to go on, or to evaluate and predict with nothing else. This file
and `training/checkpointing.py`, which writes them, are the only ones that
import Orbax.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import ml_collections
import orbax.checkpoint as ocp

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import calibration as calibration_lib
from mtlmoe_jax.devices import sharding
from mtlmoe_jax.utils import trees

FOLDER = "checkpoints"


@dataclasses.dataclass(frozen=True)
class Restored:
  """A model read back.

  Attributes:
    variables: {"params", "batch_stats"}, averaged parameters where kept.
    config: the config of its run.
    class_names: L names.
    step: the checkpoint's step.
    meta: everything else that was saved with it.
    workdir: the folder of its run.
    calibration: the temperature kept there, and what it belongs to.
  """

  variables: dict[str, Any]
  config: ml_collections.ConfigDict
  class_names: tuple[str, ...]
  step: int
  meta: dict[str, Any]
  workdir: pathlib.Path
  calibration: calibration_lib.Calibration | None = None

  @property
  def temperature(self) -> float | None:
    """Of this checkpoint in the views of its config; None without one."""
    kept = self.calibration
    if kept is None or not kept.fits(self.config, self.step):
      return None
    return kept.temperature


def handlers() -> dict[str, ocp.CheckpointHandler]:
  """How each item of a checkpoint is stored."""
  return {
    "model": ocp.StandardCheckpointHandler(),
    "optimizer": ocp.StandardCheckpointHandler(),
    "data": ocp.JsonCheckpointHandler(),
    "meta": ocp.JsonCheckpointHandler(),
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
    InputError: no such workdir, no checkpoint, no such step, or a
      calibration.json that is none.
  """
  run, folder = _folders(pathlib.Path(workdir))
  with ocp.CheckpointManager(
    folder,
    options=ocp.CheckpointManagerOptions(read_only=True),
    item_handlers=handlers(),
  ) as manager:
    steps = sorted(manager.all_steps())
    if not steps:
      raise errors.InputError(
        f"no checkpoint in {folder}: train first, with mtlmoe train "
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
  return Restored(
    variables={
      "params": trees.unflatten({**model["params"], **model["ema"]}),
      "batch_stats": model["batch_stats"],
    },
    config=config_lib.from_saved(meta["config"]),
    class_names=tuple(meta["class_names"]),
    step=chosen,
    meta=meta,
    workdir=run,
    calibration=calibration_lib.read(run),
  )


def _places(tree: Any, mesh: jax.sharding.Mesh | None) -> Any:
  """A sharding for each leaf."""
  if mesh is not None:
    return sharding.tree_shardings(tree, mesh)
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

    def rank(candidate: int) -> tuple[float, int]:
      # The later one among equals, as the preservation policy keeps.
      score = scores[candidate]
      return -1.0 if score is None else score, candidate

    return max(scores, key=rank)
  if not str(step).isdigit() or int(step) not in scores:
    raise errors.InputError(
      f"no checkpoint at step {step!r}: there are best, latest, "
      f"{', '.join(map(str, sorted(scores)))}"
    )
  return int(step)


def _folders(workdir: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """The run's folder, and that of its checkpoints, absolute."""
  if not workdir.is_dir():
    raise errors.InputError(f"no such workdir: {workdir}")
  if (workdir / FOLDER).is_dir():
    return workdir, (workdir / FOLDER).absolute()
  if workdir.absolute().name == FOLDER:
    return workdir.absolute().parent, workdir.absolute()
  raise errors.InputError(
    f"{workdir} holds no checkpoints/ folder: is it the --workdir of a run?"
  )


def _read_meta(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
  return dict(
    manager.restore(
      step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
    ).meta
  )
