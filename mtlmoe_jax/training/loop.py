"""Training from a config to a finished workdir; resumes a run that is there."""

from typing import Any

import jax
import ml_collections
import numpy as np

from mtlmoe_jax import errors, pretrained
from mtlmoe_jax.devices import processes, sharding
from mtlmoe_jax.devices.processes import say
from mtlmoe_jax.evaluation import evaluate
from mtlmoe_jax.training import fit
from mtlmoe_jax.training.console import banner
from mtlmoe_jax.training.finish import write_result
from mtlmoe_jax.training.run import Run, set_up
from mtlmoe_jax.training.schedule import make_schedule
from mtlmoe_jax.training.sigterm import SigtermFlag
from mtlmoe_jax.training.state import eval_variables
from mtlmoe_jax.utils import progress

STOPPED = 143  # exit code after a checkpointed stop by SIGTERM


def train(config: ml_collections.ConfigDict, workdir: str) -> int:
  """Trains, evaluates on the test split once, and writes result.json.

  Args:
    config: the whole config, checked here; with `fit.budget`, what it leaves
      open is chosen.
    workdir: a new folder, or that of the same run: then it goes on from the
      latest checkpoint, exactly as if it had never stopped.

  Returns:
    0 when the run is finished, 143 after a SIGTERM (a checkpoint is saved).

  Raises:
    InputError: anything wrong with config, data, weights or workdir.
  """
  run = set_up(pretrained.settle(fit.fitted(config, workdir)), workdir)
  say(banner(run))
  with SigtermFlag() as stop:
    finished = _fit(run, stop)
  if not finished:
    step = int(run.assembly.state.step)
    say(f"stopped at step {step}; start again to go on")
    return STOPPED
  write_result(run)
  return 0


def _fit(run: Run, stop: SigtermFlag) -> bool:
  """Steps until the end (True) or a SIGTERM (False)."""
  assembly, mesh = run.assembly, run.assembly.mesh
  first = round(run.config.model.upcycle_epochs * run.length.steps_per_epoch)
  step_of = {
    is_first: assembly.compiled(run.config.seed, is_first)
    for is_first in (True, False)
  }
  schedule = make_schedule(run.config, run.length, set(run.watched))
  step = int(assembly.state.step)
  note: dict[str, float] = {}
  guard = "allow"
  run.clock.resume(run.clock.last)
  with run.open(), jax.set_mesh(mesh), _bar(run, step) as bar:
    while step < schedule.steps:
      batch = sharding.put_batch(next(run.iterator), mesh)
      if step == first:
        guard = "allow"
      with jax.transfer_guard(guard):
        assembly.state, metrics = step_of[step < first](assembly.state, batch)
      # Nothing but the batch goes to the devices, nothing comes back; only
      # compiling may send constants.
      guard = "disallow"
      step += 1
      run.window.add(metrics)
      # Once: a signal between the checks below must not stop without a save.
      is_asked = processes.should_stop(step, bool(stop))
      stopping = is_asked and step < schedule.steps
      due = schedule.due(step, stopping)
      if due.log:
        note = _log(run, step)
      bar.update(1, **note)
      score = _watch(run, step) if due.evaluate else None
      if due.save:
        run.clock.now()
        run.checkpointer.save(
          assembly.state, run.iterator.get_state(), run.meta(), score
        )
      run.window.restart()
      if stopping:
        return False
  return True


def _bar(run: Run, step: int) -> progress.Progress:
  return progress.Progress(
    run.length.steps,
    initial=step,
    items_per_step=run.config.batch_size,
    label="train",
    enabled=processes.is_first(),
  )


def _log(run: Run, step: int) -> dict[str, float]:
  """Means of the window into the log; returns those for the progress bar."""
  values = run.window.mean()  # waits for the device
  seconds = run.clock.now()
  _check_finite(values, run.config)
  run.log.write(
    step=step,
    epoch=step / run.length.steps_per_epoch,
    split="train",
    seconds=seconds,
    **values,
  )
  return {k: values[k] for k in ("loss", "top1", "miou") if k in values}


def _watch(run: Run, step: int) -> float | None:
  """Metrics on each split into the log; returns validation's score, if any."""
  variables = eval_variables(run.assembly.state)
  score = None
  for split, watched in run.watched.items():
    metrics = evaluate.evaluate_source(
      run.predict,
      variables,
      watched.source,
      run.config,
      progress=False,
      batches=watched.batches,
    ).metrics
    seconds = run.clock.now()
    epoch = step / run.length.steps_per_epoch
    run.log.write(
      step=step,
      epoch=epoch,
      split=split,
      seconds=seconds,
      train_seconds=run.window.seconds,
      **metrics,
    )
    if split == "validation":
      score = _score(metrics, run.config.checkpoint.best)
    shown = ", ".join(
      f"{k} {metrics[k]:.3f}" for k in ("top1", "miou", "score") if k in metrics
    )
    say(
      f"epoch {epoch:.4g} (step {step}, {progress.duration(seconds)}): "
      f"{split} {shown}"
    )
  return score


def _score(metrics: dict[str, Any], key: str) -> float:
  if key not in metrics:
    raise errors.InputError(
      f"config.checkpoint.best={key!r} is no validation metric: there are "
      f"{', '.join(k for k, v in metrics.items() if np.isscalar(v))}"
    )
  return float(metrics[key])


def _check_finite(
  values: dict[str, float], config: ml_collections.ConfigDict
) -> None:
  limit = config.optimizer.max_bad_steps
  if values["bad_steps"] >= limit:
    raise errors.InputError(
      f"{int(values['bad_steps'])} steps in a row had a loss or gradient "
      f"that is not finite (config.optimizer.max_bad_steps={limit}): lower "
      f"config.optimizer.lr={config.optimizer.lr}"
    )
