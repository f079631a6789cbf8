"""Training from a config to a finished workdir; resumes what it finds there."""

import dataclasses
import functools
import pathlib
import signal
import sys
import threading
import time
from typing import Any

import jax
import ml_collections
import numpy as np

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors, models, pretrained
from mtlmoe_jax.devices import compilation, processes, sharding
from mtlmoe_jax.evaluation import calibrate, evaluate, results
from mtlmoe_jax.training import (
  checkpoint,
  features,
  metric_log,
  start,
  transfer,
)
from mtlmoe_jax.training import optimizer as optim
from mtlmoe_jax.training import state as state_lib
from mtlmoe_jax.training import step as step_lib
from mtlmoe_jax.training import workdir as workdir_lib
from mtlmoe_jax.utils import files, progress

STOPPED = 143  # exit code after a checkpointed stop by SIGTERM


def train(config: ml_collections.ConfigDict, workdir: str) -> int:
  """Trains, evaluates on the test split once, and writes result.json.

  Args:
    config: the whole config, checked here.
    workdir: a new folder, or that of the same run: then it goes on from the
      latest checkpoint, exactly as if it had never stopped.

  Returns:
    0 when the run is finished, 143 after a SIGTERM (a checkpoint is saved).

  Raises:
    InputError: anything wrong with config, data, weights or workdir.
  """
  config = pretrained.settle(config)
  run = _set_up(config, workdir)
  say(_banner(run))
  with _SigtermFlag() as stop:
    finished = _fit(run, stop)
  if not finished:
    say(f"stopped at step {int(run.state.step)}; start again to go on")
    return STOPPED
  write_result(run)
  return 0


def say(text: str) -> None:
  """One message on stderr, beside the progress bar; of the first process."""
  if processes.is_first():
    print(text, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Watched:
  """A split that is evaluated while training.

  Attributes:
    source: its images.
    batches: with features, where the stem is frozen and its features are kept:
      what stays the same is computed once. Else None: images are read anew.
  """

  source: data_lib.Source
  batches: list[data_lib.Batch] | None


@dataclasses.dataclass
class Run:
  """Everything that one training run holds in memory."""

  config: ml_collections.ConfigDict
  workdir: pathlib.Path
  data: Any
  model: Any
  mesh: jax.sharding.Mesh
  state: state_lib.TrainState
  shardings: Any
  frozen: frozenset[str]
  optimizer: Any
  schedule: Any
  iterator: Any
  steps: int
  steps_per_epoch: int
  checkpointer: checkpoint.Checkpointer
  log: metric_log.MetricLog | metric_log.NoLog
  start_note: str
  seconds: float = 0.0  # spent on earlier parts of this run
  train_seconds: float = 0.0  # in training steps only, compilation left out
  train_images: int = 0

  @functools.cached_property
  def watched(self) -> dict[str, Watched]:
    """The splits that are evaluated while training, by name."""
    config, folder = self.config, features.folder_of(self.config, self.workdir)
    found = {"validation": self.data.validation}
    if config.eval.watch_test:
      found["test"] = self.data.test
    return {
      name: Watched(
        source,
        features.of_split(source, _variables(self), config, self.mesh, folder),
      )
      for name, source in found.items()
      if source
    }

  def meta(self) -> dict[str, Any]:
    """What a checkpoint says of itself."""
    return {
      "config": config_lib.to_saved(self.config),
      "class_names": list(self.data.class_names),
      "tasks": list(config_lib.resolve(self.config).tasks),
      "preprocessing": models.preprocessing(self.config),
      "box_format": "xyxy, normalised to [0, 1] of the whole image, float32",
      "dataset_fingerprint": self.data.fingerprint,
      "seconds": self.seconds,
      "train_seconds": self.train_seconds,
      "train_images": self.train_images,
      **workdir_lib.environment(),
    }


def _set_up(config: ml_collections.ConfigDict, path: str) -> Run:
  """Opens the data, builds model and state, restores a checkpoint if any."""
  mesh = sharding.make_mesh(**config.mesh)
  sharding.check_batch(
    config.batch_size, mesh, "batch_size", config.micro_batches
  )
  sharding.check_experts(config_lib.resolve(config).expert_counts, mesh)
  sharding.check_batch(config.eval.batch_size, mesh, "eval.batch_size")
  data = data_lib.open_data(config)
  if config.eval.calibrate:
    calibrate.check(config, data.validation)
  steps, steps_per_epoch = length(config, data)
  workdir = workdir_lib.prepare(path, config, write=processes.is_first())
  processes.wait_for_all("workdir")
  checkpointer = checkpoint.Checkpointer(workdir, config.checkpoint.keep)
  latest = checkpointer.latest_step()

  model = models.build_model(config, len(data.class_names))
  variables = init_variables(model, config, mesh)
  note = "new parameters"
  if latest is None:
    variables, note = _start_from(variables, config)
  frozen = optim.frozen_names(optim.flatten(variables["params"]), config)
  trainable, _ = optim.split(optim.flatten(variables["params"]), frozen)
  optimizer, schedule = optim.make_optimizer(
    config, trainable, steps, steps_per_epoch
  )
  make = lambda v: state_lib.create_state(  # noqa: E731
    v, optimizer, frozen, config.optimizer.ema > 0
  )
  shardings = sharding.tree_shardings(jax.eval_shape(make, variables), mesh)
  state = jax.jit(make, out_shardings=shardings)(variables)
  if config.features.views:
    features.check(config, optim.flatten(variables["params"]), frozen)
  run = Run(
    config=config,
    workdir=workdir,
    data=data,
    model=model,
    mesh=mesh,
    state=state,
    shardings=shardings,
    frozen=frozen,
    optimizer=optimizer,
    schedule=schedule,
    iterator=None,
    steps=steps,
    steps_per_epoch=steps_per_epoch,
    checkpointer=checkpointer,
    log=_log(workdir, config, latest or 0),
    start_note=note,
  )
  position = _resume(run, latest) if latest is not None else None
  run.iterator = _iterator(run)
  if position is not None:
    run.iterator.set_state(position)
  return run


def length(
  config: ml_collections.ConfigDict, data: data_lib.Data
) -> tuple[int, int]:
  """How long a run is: (steps, steps of an epoch).

  Args:
    config: the whole config.
    data: its data.

  Raises:
    InputError: fewer training images than a batch has.
  """
  epoch = data_lib.epoch_images(data.train, config, data.extra)
  steps_per_epoch = epoch // config.batch_size
  if not steps_per_epoch:
    raise errors.InputError(
      f"config.batch_size={config.batch_size} is more than the {epoch} "
      "training images: use a smaller batch"
    )
  steps = config.steps or max(1, round(config.epochs * steps_per_epoch))
  return steps, steps_per_epoch


def _log(
  workdir: pathlib.Path, config: ml_collections.ConfigDict, step: int
) -> metric_log.MetricLog | metric_log.NoLog:
  if processes.is_first():
    return metric_log.MetricLog(workdir, config, step)
  return metric_log.NoLog()


def _iterator(run: Run) -> Any:
  """Batches of images, or of features if they are computed once.

  Of each batch this process makes its own rows.
  """
  config = run.config
  if not config.features.views:
    return data_lib.train_iterator(
      run.data.train,
      config,
      config.batch_size,
      run.data.extra,
      data_lib.ProcessSlice(processes.index(), processes.count()),
    )
  views = features.prepare(
    run.data.train,
    _variables(run),
    config,
    run.mesh,
    features.folder_of(config, run.workdir),
  )
  return data_lib.views_iterator(views, config, config.batch_size)


def _variables(run: Run) -> dict[str, Any]:
  return {
    "params": optim.unflatten(run.state.params),
    "batch_stats": run.state.batch_stats,
  }


def init_variables(
  model: Any, config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> dict[str, Any]:
  """Fresh variables, created where they will live."""
  size = config.data.image_size
  images = np.zeros((1, size, size, 3), np.uint8)

  def init(key: jax.Array) -> dict[str, Any]:
    return dict(model.init({"params": key}, images, train=False))

  key = jax.random.key(config.seed)
  shardings = sharding.tree_shardings(jax.eval_shape(init, key), mesh)
  # Compiling the draws takes far longer than making them, unless XLA:CPU is
  # told not to optimise what runs once.
  quick = {"xla_backend_optimization_level": 0}
  return jax.jit(
    init,
    out_shardings=shardings,
    compiler_options=quick if jax.default_backend() == "cpu" else None,
  )(key)


def _start_from(
  variables: dict[str, Any], config: ml_collections.ConfigDict
) -> tuple[dict[str, Any], str]:
  """Pretrained weights, or another run's parameters, where asked for."""
  if config.transfer.source:
    restored = checkpoint.restore_for_eval(
      config.transfer.source, config.transfer.step
    )
    start.check_preprocessing(
      f"config.transfer.source={config.transfer.source!r}",
      restored.meta["preprocessing"],
      config,
    )
    return transfer.transfer(variables, restored)
  if config.model.pretrained:
    return pretrained.insert(
      variables, start.weights(config), config.model.break_symmetry, config.seed
    )
  normed = models.get_backbone(config.model.backbone).sizes.epsilon is not None
  if config.model.norm == "frozen" and normed:
    raise errors.InputError(
      "config.model.norm='frozen' with new parameters normalises nothing: "
      "use group or batch, or load weights (config.model.pretrained, "
      "config.transfer.source)"
    )
  return variables, "new parameters"


def _resume(run: Run, step: int) -> Any:
  """Puts state and clocks back to a checkpoint's; returns the data's."""
  if step > run.steps:
    raise errors.InputError(
      f"--workdir={run.workdir} is at step {step}, beyond this config's "
      f"{run.steps}: use a new workdir"
    )
  like = checkpoint.abstract_state(run.state, run.mesh)
  run.state, data_state, meta = run.checkpointer.restore(step, like)
  if meta["dataset_fingerprint"] != run.data.fingerprint:
    raise errors.InputError(
      f"--workdir={run.workdir} was trained on other data (fingerprint "
      f"{meta['dataset_fingerprint'][:12]}, now "
      f"{run.data.fingerprint[:12]}): use the old data or a new workdir"
    )
  run.seconds = meta["seconds"]
  run.train_seconds = meta["train_seconds"]
  run.train_images = meta["train_images"]
  run.start_note = f"resumed at step {step}"
  return data_state


def _fit(run: Run, stop: "_SigtermFlag") -> bool:
  """Steps until the end (True) or a SIGTERM (False)."""
  config, batch_size = run.config, run.config.batch_size
  train_step = sharding.jit_step(
    step_lib.make_train_step(
      run.model, run.optimizer, run.schedule, run.frozen, config, run.steps
    ),
    run.shardings,
    run.mesh,
    config.seed,
  )
  predict = _predict_step(run)
  save_every = config.checkpoint.every_steps or run.steps_per_epoch
  eval_every = config.eval.every_epochs * run.steps_per_epoch
  # Where the last checkpoint is the one that counts, others are not worth the
  # time of writing them.
  may_be_best = "validation" in run.watched and config.eval.step == "best"
  step = int(run.state.step)
  began, earlier = time.monotonic(), run.seconds
  window: list[dict[str, jax.Array]] = []
  window_start: float | None = None
  note: dict[str, float] = {}
  score: float | None = None
  guard = "allow"
  bar = progress.Progress(
    run.steps,
    initial=step,
    items_per_step=batch_size,
    label="train",
    enabled=processes.is_first(),
  )
  with jax.set_mesh(run.mesh), bar:
    while step < run.steps:
      batch = sharding.put_batch(next(run.iterator), run.mesh)
      with jax.transfer_guard(guard):
        run.state, metrics = train_step(run.state, batch)
      # Nothing but the batch goes to the devices, nothing comes back; only
      # compiling may send constants.
      guard = "disallow"
      step += 1
      window.append(metrics)
      last = step == run.steps
      # Once: a signal between the checks below must not stop without a save.
      stopping = processes.should_stop(step, bool(stop)) and not last
      due_eval = bool(run.watched) and (step % eval_every == 0 or last)
      due_save = (due_eval and may_be_best) or (
        step % save_every == 0 or last or stopping
      )
      if step % config.log.every_steps == 0 or due_eval or due_save:
        values = _mean(window)  # waits for the device
        now = time.monotonic()
        if window_start is not None:  # the first window holds compilation
          run.train_seconds += now - window_start
          run.train_images += len(window) * batch_size
        run.seconds = earlier + now - began
        _check_finite(values, run)
        note = {k: values[k] for k in ("loss", "top1", "miou") if k in values}
        run.log.write(
          step=step,
          epoch=step / run.steps_per_epoch,
          split="train",
          seconds=run.seconds,
          **values,
        )
        window = []
      bar.update(1, **note)
      if due_eval and not stopping:
        score = _watch(run, predict, step, earlier, began)
      if due_save:
        run.seconds = earlier + time.monotonic() - began
        run.checkpointer.save(
          run.state,
          run.iterator.get_state(),
          run.meta(),
          score if due_eval and not stopping else None,
        )
      if not window:
        window_start = time.monotonic()
      if stopping:
        run.checkpointer.close()
        run.log.close()
        return False
  run.checkpointer.close()
  run.log.close()
  return True


def _predict_step(run: Run) -> evaluate.PredictStep:
  """The forward pass, its images split over the devices.

  Every process has all images of a batch and gets all that is found: to read
  them is little work beside the network's.
  """
  everywhere = sharding.replicated(run.mesh)
  step = evaluate.make_predict_step(
    run.model,
    functools.partial(compilation.jit_forward, out_shardings=everywhere),
  )
  return lambda variables, batch: step(
    variables, sharding.put_whole(batch, run.mesh)
  )


def _watch(
  run: Run,
  predict: Any,
  step: int,
  earlier: float,
  began: float,
) -> float | None:
  """Metrics on each split into the log; returns validation's score, if any."""
  variables = state_lib.eval_variables(run.state)
  score = None
  for split, of in run.watched.items():
    found = evaluate.evaluate_source(
      predict,
      variables,
      of.source,
      run.config,
      progress=False,
      batches=of.batches,
    )
    run.seconds = earlier + time.monotonic() - began
    epoch = step / run.steps_per_epoch
    run.log.write(
      step=step,
      epoch=epoch,
      split=split,
      seconds=run.seconds,
      train_seconds=run.train_seconds,
      **found.metrics,
    )
    if split == "validation":
      score = _score(found.metrics, run.config.checkpoint.best)
    shown = ", ".join(
      f"{k} {found.metrics[k]:.3f}"
      for k in ("top1", "miou", "score")
      if k in found.metrics
    )
    say(
      f"epoch {epoch:.4g} (step {step}, {progress.duration(run.seconds)}): "
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


def write_result(run: Run) -> dict[str, Any]:
  """Evaluates the chosen checkpoint on the test split; writes result.json."""
  config = run.config
  restored = dataclasses.replace(
    checkpoint.restore_for_eval(run.workdir, config.eval.step, run.mesh),
    # Options of `eval` may differ from those the checkpoint was saved with.
    config=config,
    # Of an earlier end of this run, if any.
    calibration=None,
  )
  test = run.watched.get("test", Watched(run.data.test, None))
  with jax.set_mesh(run.mesh):
    evaluation = evaluate.evaluate_split(
      restored,
      run.data,
      "test",
      calibrate=config.eval.calibrate,
      step=_predict_step(run),
      # What was watched is what is reported, to the last bit.
      batches=test.batches,
      progress=processes.is_first(),
    )
  total, active = models.count_parameters(run.config, len(run.data.class_names))
  result = {
    "split": "test",
    **evaluation.metrics,
    "seed": run.config.seed,
    "step": restored.step,
    "checkpoint": run.config.eval.step,
    "views": run.config.eval.views,
    "wall_seconds": round(run.seconds, 3),
    "images_per_second": run.train_images / max(run.train_seconds, 1e-9),
    "parameters": total,
    "parameters_active": active,
    **workdir_lib.environment(),
    "dataset_fingerprint": run.data.fingerprint,
  }
  if not processes.is_first():
    return result
  results.save(
    evaluation,
    run.workdir / "eval" / "test",
    {**run.meta(), **result},
    class_names=run.data.class_names,
    source=run.data.test,
    metrics_jsonl=metric_log.read(run.workdir),
    with_report=run.config.eval.report,
  )
  files.write_json(run.workdir / "result.json", result)
  say(results.table(evaluation.metrics))
  say(f"written: {run.workdir / 'result.json'}")
  return result


def _mean(window: list[dict[str, jax.Array]]) -> dict[str, float]:
  """Mean over the window, but the latest of what is a level or a count."""
  host = jax.device_get(window)
  out = {k: float(np.mean([m[k] for m in host])) for k in host[-1]}
  return {**out, **{k: float(host[-1][k]) for k in ("lr", "bad_steps")}}


def _check_finite(values: dict[str, float], run: Run) -> None:
  limit = run.config.optimizer.max_bad_steps
  if values["bad_steps"] >= limit:
    raise errors.InputError(
      f"{int(values['bad_steps'])} steps in a row had a loss or gradient "
      f"that is not finite (config.optimizer.max_bad_steps={limit}): lower "
      f"config.optimizer.lr={run.config.optimizer.lr}"
    )


def _banner(run: Run) -> str:
  """What is about to run, for the eye."""
  data, config = run.data, run.config
  validation = len(data.validation) if data.validation is not None else 0
  params = {"params": optim.unflatten(run.state.params)}
  return "\n".join(
    [
      f"data: {config.data.name}, {len(data.class_names)} classes, "
      f"{len(data.train)} train / {validation} validation / {len(data.test)} "
      "test images",
      *_extra_line(run),
      f"model: {config.model.experts} x {config.model.backbone}, k "
      f"{config.model.k}, gate {config.model.gate}, tasks "
      f"{config.model.tasks}, {config.model.compute} compute",
      models.parameter_table(params, config),
      f"start: {run.start_note}",
      f"run: {run.steps} steps of {config.batch_size} images on "
      f"{run.mesh.size} device(s){_of_processes()}, into {run.workdir}",
    ]
  )


def _of_processes() -> str:
  count = processes.count()
  return f" of {count} processes" if count > 1 else ""


def _extra_line(run: Run) -> list[str]:
  """The line on extra data, where there is some."""
  data, config = run.data, run.config
  if data.extra is None:
    return []
  epoch = data_lib.epoch_images(data.train, config, data.extra)
  return [
    f"extra: {len(data.extra)} images of {config.data.extra.path}, "
    f"{epoch - len(data.train)} of the {epoch} images of an epoch"
  ]


class _SigtermFlag:
  """True once SIGTERM has arrived, so that the loop stops after its step."""

  def __init__(self) -> None:
    self._arrived = False
    self._before: Any = None

  def __bool__(self) -> bool:
    return self._arrived

  def __enter__(self) -> "_SigtermFlag":
    # Several processes have JAX take the signal (`processes.should_stop`).
    alone = processes.count() == 1
    if alone and threading.current_thread() is threading.main_thread():
      self._before = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *_: object) -> None:
    if self._before is not None:
      signal.signal(signal.SIGTERM, self._before)

  def _note(self, *_: object) -> None:
    self._arrived = True
