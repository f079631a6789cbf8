"""What a run tells the one who started it, on stderr."""

from typing import TYPE_CHECKING, Any

import ml_collections

from mtlmoe_jax import data as data_lib
from mtlmoe_jax import models
from mtlmoe_jax.devices import processes

if TYPE_CHECKING:
  from mtlmoe_jax.training.run import Run


def data_text(config: ml_collections.ConfigDict, data: data_lib.Data) -> str:
  """What is learned from, told before anything is computed."""
  validation = len(data.validation) if data.validation is not None else 0
  return "\n".join(
    [
      f"data: {data.train.name}, {len(data.class_names)} classes, "
      f"{len(data.train)} train / {validation} validation / {len(data.test)} "
      "test images",
      *(f"data: {line}" for line in (*data.recognised, *data.notes)),
      *(f"warning: {line}" for line in data_lib.untrained(data)),
      *_extra_line(data, config),
    ]
  )


def banner(run: "Run") -> str:
  """What is about to run."""
  config = run.config
  return "\n".join(
    [
      f"model: {config.model.experts} x {config.model.backbone}, k "
      f"{config.model.k}, gate {config.model.gate}, tasks "
      f"{config.model.tasks}, {config.model.compute} compute",
      models.parameter_table(_params(run), config),
      f"start: {run.start_note}",
      *_copies_line(run),
      f"run: {run.length.steps} steps of {config.batch_size} images on "
      f"{run.assembly.mesh.size} device(s){_of_processes()}, into "
      f"{run.workdir}",
    ]
  )


def _copies_line(run: "Run") -> list[str]:
  """When experts become copies of one, and a warning if they stay it."""
  epochs = run.config.model.upcycle_epochs
  if not epochs or run.config.model.experts == 1:
    return []
  steps = round(epochs * run.length.steps_per_epoch)
  if steps < run.length.steps:
    return [f"experts: one until step {steps}, then copies of it"]
  return [
    f"warning: the experts never part: config.model.upcycle_epochs={epochs:g} "
    f"is not below this run's {run.length.steps} steps of "
    f"{run.length.steps_per_epoch} an epoch"
  ]


def _params(run: "Run") -> dict[str, Any]:
  return {"params": run.assembly.variables["params"]}


def _of_processes() -> str:
  count = processes.count()
  return f" of {count} processes" if count > 1 else ""


def _extra_line(
  data: data_lib.Data, config: ml_collections.ConfigDict
) -> list[str]:
  """The line on extra data, where there is some."""
  if data.extra is None:
    return []
  epoch = data_lib.epoch_images(data.train, config, data.extra)
  return [
    f"extra: {len(data.extra)} images of {config.data.extra.path}, "
    f"{epoch - len(data.train)} of the {epoch} images of an epoch"
  ]
