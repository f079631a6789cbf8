"""How long a run is, and what is due behind each of its steps."""

import dataclasses
from typing import NamedTuple

import ml_collections

from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors


class Length(NamedTuple):
  """How long a run is.

  Attributes:
    steps: of the whole run.
    steps_per_epoch: of one pass over the training images.
  """

  steps: int
  steps_per_epoch: int


def length(config: ml_collections.ConfigDict, data: data_lib.Data) -> Length:
  """The length of a run.

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
  return Length(steps, steps_per_epoch)


class Due(NamedTuple):
  """What is to be done behind a step."""

  log: bool
  evaluate: bool
  save: bool


@dataclasses.dataclass(frozen=True)
class Schedule:
  """When a run logs, evaluates and saves, in steps.

  Attributes:
    steps: of the whole run; the last one has all of it.
    log_every: steps between lines.
    eval_every: steps between evaluations; 0: never.
    save_every: steps between checkpoints.
    save_evaluated: whether each evaluated state is saved, for it may be the
      best one. Where the last one counts, it is not worth the time.
  """

  steps: int
  log_every: int
  eval_every: int
  save_every: int
  save_evaluated: bool

  def due(self, step: int, stopping: bool = False) -> Due:
    """What is due behind a step.

    Args:
      step: how many have been taken.
      stopping: whether the run is about to stop: it saves, and leaves the
        evaluation to the run that goes on.
    """
    last = step == self.steps
    evaluate = bool(self.eval_every) and (last or step % self.eval_every == 0)
    save = (
      last
      or stopping
      or step % self.save_every == 0
      or (evaluate and self.save_evaluated)
    )
    return Due(
      log=evaluate or save or step % self.log_every == 0,
      evaluate=evaluate and not stopping,
      save=save,
    )


def make_schedule(
  config: ml_collections.ConfigDict, length: Length, watched: set[str]
) -> Schedule:
  """The schedule of a run.

  Args:
    config: the whole config.
    length: of the run.
    watched: splits that are evaluated while training.
  """
  epoch = length.steps_per_epoch
  return Schedule(
    steps=length.steps,
    log_every=config.log.every_steps,
    eval_every=config.eval.every_epochs * epoch if watched else 0,
    save_every=config.checkpoint.every_steps or epoch,
    save_evaluated="validation" in watched and config.eval.step == "best",
  )
