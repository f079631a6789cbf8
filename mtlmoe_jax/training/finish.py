"""The end of a run: its test split, once, and result.json."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import models
from mtlmoe_jax.checkpoints import prediction, restore
from mtlmoe_jax.devices import processes
from mtlmoe_jax.devices.processes import say
from mtlmoe_jax.evaluation import evaluate, results
from mtlmoe_jax.training import metric_log, workdir
from mtlmoe_jax.training.run import Run, Watched
from mtlmoe_jax.utils import files

# Below it, weights hardly depend on the image.
CONSTANT = 0.05


def write_result(run: Run) -> dict[str, Any]:
  """Evaluates the chosen checkpoint on the test split; writes result.json.

  Returns:
    What result.json holds.
  """
  config, mesh = run.config, run.assembly.mesh
  restored = dataclasses.replace(
    restore.restore_for_eval(run.workdir, config.eval.step, mesh),
    # Options of `eval` may differ from those the checkpoint was saved with.
    config=config,
    # Of an earlier end of this run, if any.
    calibration=None,
  )
  test = run.watched.get("test", Watched(run.data.test, None))
  with jax.set_mesh(mesh):
    evaluation = evaluate.evaluate_split(
      restored,
      run.data,
      "test",
      calibrate=config.eval.calibrate,
      step=run.predict,
      # What was watched is what is reported, to the last bit.
      batches=test.batches,
      progress=processes.is_first(),
    )
  result = _result(run, restored.step, evaluation.metrics)
  if not processes.is_first():
    return result
  results.save(
    evaluation,
    run.workdir / "eval" / "test",
    {**run.meta(), **result},
    class_names=run.data.class_names,
    source=run.data.test,
    metrics_jsonl=metric_log.read(run.workdir),
    with_report=config.eval.report,
  )
  if processes.count() == 1:
    prediction.keep(restored)
  files.write_json(run.workdir / "result.json", result)
  say(results.table(evaluation.metrics))
  for line in constant_gates(evaluation.metrics, config.model.gate):
    say(line)
  say(f"written: {run.workdir / 'result.json'}")
  return result


def constant_gates(metrics: Mapping[str, Any], kind: str) -> list[str]:
  """A warning for each gate that gives every image nearly the same weights.

  Args:
    metrics: of the test split.
    kind: `model.gate`; controls choose nothing on purpose.

  Returns:
    Lines for the log.
  """
  lines: list[str] = []
  for task in config_lib.TASKS:
    shares = metrics.get(f"{task}/importance", [])
    varies = metrics.get(f"{task}/variation", 1.0)
    if kind in config_lib.CONTROLS or len(shares) < 2 or varies >= CONSTANT:
      continue
    used = [
      f"{i} ({share:.2f})"
      for i, share in enumerate(shares)
      if share >= CONSTANT
    ]
    lines.append(
      f"warning: the {task} gate gives every image nearly the same weights "
      f"({task}/variation {varies:.3f}): this mixture is a fixed average of "
      f"experts {', '.join(used)}. Gates that see features start with "
      "knowledge: --config.model.gate_input=stem (or all)"
    )
  return lines


def _result(run: Run, step: int, metrics: dict[str, Any]) -> dict[str, Any]:
  """What result.json holds: metrics, and what they depend on."""
  total, active = models.count_parameters(
    run.config,
    len(run.data.class_names),
    run.assembly.variables["params"],
  )
  return {
    "split": "test",
    **metrics,
    "seed": run.config.seed,
    "step": step,
    "checkpoint": run.config.eval.step,
    "views": run.config.eval.views,
    "wall_seconds": round(run.clock.last, 3),
    "images_per_second": run.window.images / max(run.window.seconds, 1e-9),
    "parameters": total,
    "parameters_active": active,
    **workdir.environment(),
    "dataset_fingerprint": run.data.fingerprint,
  }
