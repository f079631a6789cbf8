"""One training run: opened, or taken up where its last checkpoint is."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.data import check, feature_store, membership, pipeline
from mtlmoe_jax.data.readers.problems import Problems
from mtlmoe_jax.devices import compilation, processes, sharding
from mtlmoe_jax.evaluation import calibrate, evaluate
from mtlmoe_jax.training import (
  console,
  features,
  gate_start,
  initialization,
  metric_log,
)
from mtlmoe_jax.training import workdir as workdir_lib
from mtlmoe_jax.training.assembly import Assembly, assemble
from mtlmoe_jax.training.checkpointing import Checkpointer, abstract_state
from mtlmoe_jax.training.clock import Clock, Window
from mtlmoe_jax.training.optimizer import frozen_names
from mtlmoe_jax.training.schedule import Length, length
from mtlmoe_jax.utils import trees


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


# Fingerprints of sources that this process has decoded: the runs of a suite
# share theirs.
_DECODED: set[str] = set()


@dataclasses.dataclass
class Run:
  """Everything that one training run holds in memory.

  Attributes:
    config: the whole config, checked.
    workdir: its folder.
    data: its splits.
    length: its steps, and those of an epoch.
    assembly: model, step and state; the state moves on.
    checkpointer: of the folder.
    log: metrics.jsonl; of the first process alone.
    clock: all the time it took.
    window: metrics since the last line, and the time of steps alone.
    iterator: batches of images, or of features if they are computed once.
    start_note: what the parameters are before the first step.
  """

  config: ml_collections.ConfigDict
  workdir: pathlib.Path
  data: data_lib.Data
  length: Length
  assembly: Assembly
  checkpointer: Checkpointer
  log: metric_log.MetricLog | metric_log.NoLog
  clock: Clock
  window: Window
  iterator: pipeline.TrainBatches
  start_note: str

  @contextlib.contextmanager
  def open(self) -> Iterator[None]:
    """Closes checkpoints and log behind a loop that came to an end.

    Behind one that failed nothing is closed: as after a kill, the next start
    goes on from the last whole checkpoint. Waiting for a save could last for
    ever where another process is gone.
    """
    yield
    self.checkpointer.close()
    self.log.close()

  @functools.cached_property
  def watched(self) -> dict[str, Watched]:
    """The splits that are evaluated while training, by name."""
    folder = features.folder_of(self.config, self.workdir)
    sources = {"validation": self.data.validation}
    if self.config.eval.watch_test:
      sources["test"] = self.data.test
    return {
      name: Watched(
        source,
        features.of_split(
          source,
          self.assembly.variables,
          self.config,
          self.assembly.mesh,
          folder,
        ),
      )
      for name, source in sources.items()
      if source
    }

  @functools.cached_property
  def predict(self) -> evaluate.PredictStep:
    """The forward pass, its images split over the devices.

    Every process has all images of a batch and gets all results: to read them
    is little work beside the network's.
    """
    mesh = self.assembly.mesh
    step = evaluate.make_predict_step(
      self.assembly.model,
      functools.partial(
        compilation.jit_forward, out_shardings=sharding.replicated(mesh)
      ),
    )
    return lambda variables, batch: step(
      variables, sharding.put_whole(batch, mesh)
    )

  def meta(self) -> dict[str, Any]:
    """What a checkpoint says of itself."""
    return {
      "config": config_lib.to_saved(self.config),
      "class_names": list(self.data.class_names),
      "tasks": list(config_lib.resolve(self.config).tasks),
      "preprocessing": models.preprocessing(self.config),
      "box_format": "xyxy, normalised to [0, 1] of the whole image, float32",
      "dataset_fingerprint": self.data.fingerprint,
      "seconds": self.clock.last,
      "train_seconds": self.window.seconds,
      "train_images": self.window.images,
      **workdir_lib.environment(),
    }


def set_up(config: ml_collections.ConfigDict, path: str) -> Run:
  """Opens the data, builds model and state, restores a checkpoint if any.

  Args:
    config: the whole config, checked and settled.
    path: the workdir.

  Raises:
    InputError: anything wrong with config, data, weights or workdir.
  """
  config_lib.check_best(config)
  is_new = not workdir_lib.has_checkpoint(pathlib.Path(path))
  if is_new and config.data.name == "synthetic" and config.data.path:
    raise errors.InputError(
      f"config.data.path={config.data.path!r}: data.name='synthetic' draws its "
      "own birds; --config.data.name=auto reads the folder"
    )
  mesh = _mesh(config)
  data = data_lib.open_data(config)
  processes.say(console.data_text(config, data))
  lines = data_lib.unlearnable(config, data)
  if lines:
    raise errors.InputError(next(iter(lines.values())))
  if config.eval.calibrate:
    calibrate.check(config, data.validation)
  run_length = length(config, data)
  workdir = workdir_lib.prepare(path, config, write=processes.is_first())
  processes.wait_for_all("workdir")
  checkpointer = Checkpointer(workdir, config.checkpoint.keep)
  latest = checkpointer.latest_step()
  if latest is None:
    if not config_lib.is_drawn(config):
      _check_images(config, data)
    if processes.is_first():
      data.write_membership(workdir / membership.FILE)
  else:
    # Other classes are other shapes, which Orbax would refuse in its words.
    saved = checkpointer.meta(latest)["dataset_fingerprint"]
    _check_fingerprint(workdir, saved, data.fingerprint)
  assembly, note, store = _assembled(
    config, data, mesh, run_length, workdir, latest is None
  )
  log = _log(workdir, config, -1 if latest is None else latest)
  clock, window = Clock(), Window(config.batch_size)
  position = None
  if latest is not None:
    _check_length(workdir, latest, run_length)
    assembly.state, position, meta = checkpointer.restore(
      latest, abstract_state(assembly.state, mesh)
    )
    clock = Clock(meta["seconds"])
    window.seconds = meta["train_seconds"]
    window.images = meta["train_images"]
    note = f"resumed at step {latest}"
    if latest == run_length.steps:
      note += ", the last: judged again; to train again, use a new workdir"
    store = _store(config, data, workdir, assembly.variables, mesh)
  iterator = _iterator(config, data, store)
  if position is not None:
    iterator.set_state(position)
  run = Run(
    config=config,
    workdir=workdir,
    data=data,
    length=run_length,
    assembly=assembly,
    checkpointer=checkpointer,
    log=log,
    clock=clock,
    window=window,
    iterator=iterator,
    start_note=note,
  )
  if latest is None:
    _log_start(run, store)
  return run


def _check_images(
  config: ml_collections.ConfigDict, data: data_lib.Data
) -> None:
  """Decodes what is evaluated: a bad file should not end a finished training.

  Past the cache, which is for what is read again and again.

  Raises:
    InputError: an image that cannot be read.
  """
  for part in (data.validation, data.test):
    if part is not None and part.fingerprint not in _DECODED:
      source = getattr(part, "uncached", part)
      check.decode_all(source, config.data.threads, Problems())
      _DECODED.add(part.fingerprint)


def _log_start(run: Run, store: feature_store.Views | None) -> None:
  """How gates that know something use the experts before the first step.

  Without images held out that is told of training images, which gates know.
  """
  source = run.data.train
  batches: Iterable[data_lib.Batch] | None = None
  if "validation" in run.watched:
    held_out = run.watched["validation"]
    source, batches = held_out.source, held_out.batches
  elif store is not None:
    batches = features.batches_of(
      store, gate_start.shown(len(source)), run.config.eval.batch_size
    )
  found = gate_start.routing(
    run.assembly.variables,
    run.assembly.model,
    run.config,
    source,
    run.assembly.mesh,
    batches,
  )
  if found:
    run.log.write(step=0, epoch=0.0, split="start", seconds=0.0, **found)


def _mesh(config: ml_collections.ConfigDict) -> jax.sharding.Mesh:
  """The devices; batches and experts divide over them."""
  mesh = sharding.make_mesh(**config.mesh)
  sharding.check_batch(
    config.batch_size, mesh, "batch_size", config.micro_batches
  )
  sharding.check_experts(config_lib.resolve(config).expert_counts, mesh)
  sharding.check_batch(config.eval.batch_size, mesh, "eval.batch_size")
  return mesh


def _assembled(
  config: ml_collections.ConfigDict,
  data: data_lib.Data,
  mesh: jax.sharding.Mesh,
  run_length: Length,
  workdir: pathlib.Path,
  new: bool,
) -> tuple[Assembly, str, feature_store.Views | None]:
  """What trains, what its parameters are, features that do not change.

  Of a resumed run only shapes: the checkpoint has the values.
  """
  classes, note, store = len(data.class_names), "new parameters", None
  if new:
    model = models.build_model(config, classes)
    drawn = initialization.init_variables(model, config, mesh)
    variables, note = initialization.start_from(drawn, config, data.class_names)
    untouched = trees.shared(variables, drawn)
    del drawn
    store = _store(config, data, workdir, variables, mesh)
    variables, gates = gate_start.start(
      variables, untouched, model, config, data.train, mesh, store
    )
    note = "\n".join(filter(None, [note, gates]))
    assembly = assemble(config, classes, mesh, *run_length, variables=variables)
  else:
    assembly = assemble(config, classes, mesh, *run_length, abstract=True)
  return assembly, note, store


def _store(
  config: ml_collections.ConfigDict,
  data: data_lib.Data,
  workdir: pathlib.Path,
  variables: dict[str, Any],
  mesh: jax.sharding.Mesh,
) -> feature_store.Views | None:
  """Features of the training images, if they are computed once."""
  if not config.features.views:
    return None
  params = trees.flatten(variables["params"])
  features.check(config, params, frozen_names(params, config))
  folder = features.folder_of(config, workdir)
  return features.prepare(data.train, variables, config, mesh, folder)


def _log(
  workdir: pathlib.Path, config: ml_collections.ConfigDict, step: int
) -> metric_log.MetricLog | metric_log.NoLog:
  if processes.is_first():
    return metric_log.MetricLog(workdir, config, step)
  return metric_log.NoLog()


def _iterator(
  config: ml_collections.ConfigDict,
  data: data_lib.Data,
  store: feature_store.Views | None,
) -> pipeline.TrainBatches:
  """Batches of images, or of features if they are computed once.

  Of each batch this process makes its own rows.
  """
  if store is None:
    return data_lib.train_iterator(
      data.train,
      config,
      config.batch_size,
      data.extra,
      data_lib.ProcessSlice(processes.index(), processes.count()),
    )
  return data_lib.views_iterator(store, config, config.batch_size)


def _check_length(workdir: pathlib.Path, step: int, run_length: Length) -> None:
  if step > run_length.steps:
    raise errors.InputError(
      f"--workdir={workdir} is at step {step}, beyond this config's "
      f"{run_length.steps}: use a new workdir"
    )


def _check_fingerprint(workdir: pathlib.Path, saved: str, now: str) -> None:
  if saved != now:
    raise errors.InputError(
      f"--workdir={workdir} was trained on other data (fingerprint "
      f"{saved[:12]}, now {now[:12]}): use the old data or a new workdir"
    )
