"""Reading a checkpoint back, to evaluate, to predict or to start from it.

A checkpoint holds four items: `model` (parameters, statistics, averages),
`optimizer` (the rest of the train state), `data` (the iterator's position,
JSON) and `meta` (config, class names, preprocessing, box format, versions,
JSON): enough to go on, or to evaluate and predict with nothing else. This file
and `training/checkpointing.py`, which writes them, are the only ones that
import Orbax.
"""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from mtlmoe_jax.checkpoints.restored import (
  FOLDER,
  Restored,
  choose_step,
  folders,
  none_in,
  of_meta,
)
from mtlmoe_jax.devices import sharding
from mtlmoe_jax.utils import trees

__all__ = [
  "FOLDER",
  "Restored",
  "choose_step",
  "handlers",
  "restore_for_eval",
]


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
  run, folder = folders(pathlib.Path(workdir))
  with ocp.CheckpointManager(
    folder,
    options=ocp.CheckpointManagerOptions(read_only=True),
    item_handlers=handlers(),
  ) as manager:
    steps = sorted(manager.all_steps())
    if not steps:
      raise none_in(folder, workdir)
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
  variables = {
    "params": trees.unflatten({**model["params"], **model["ema"]}),
    "batch_stats": model["batch_stats"],
  }
  return of_meta(run, chosen, metas[chosen], variables)


def _places(tree: Any, mesh: jax.sharding.Mesh | None) -> Any:
  """A sharding for each leaf."""
  if mesh is not None:
    return sharding.tree_shardings(tree, mesh)
  first = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(lambda _: first, tree)


def _read_meta(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
  return dict(
    manager.restore(
      step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
    ).meta
  )
