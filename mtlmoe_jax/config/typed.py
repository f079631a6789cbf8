"""A config's values as they are used: parsed once, typed, frozen."""

import dataclasses
from collections.abc import Mapping

import ml_collections

from mtlmoe_jax import errors
from mtlmoe_jax.config.defaults import BY_PATH
from mtlmoe_jax.config.words import GATE_STARTS, TASKS


@dataclasses.dataclass(frozen=True)
class Resolved:
  """What the texts and pairs of options in a config mean.

  Attributes:
    tasks: in the program's fixed order (class, box).
    ks: experts per image for each of `tasks`, in its order.
    task_weights: of the losses of `tasks` (not of the uncertainty weighting).
    gate_starts: of the gate of each of `tasks`: "zeros", "kmeans" or
      "discriminant".
    expert_counts: experts of whole images, and of V-MoE layers where there are
      any.
  """

  tasks: tuple[str, ...]
  ks: tuple[int, ...]
  task_weights: Mapping[str, float]
  gate_starts: tuple[str, ...]
  expert_counts: tuple[int, ...]

  @property
  def has_class(self) -> bool:
    """Whether the model tells the class."""
    return "class" in self.tasks

  @property
  def has_box(self) -> bool:
    """Whether the model tells the box."""
    return "box" in self.tasks


def resolve(config: ml_collections.ConfigDict) -> Resolved:
  """The typed values of a config.

  Args:
    config: the whole config, checked (`check_config`).

  Raises:
    InputError: `model.k` is no number and no list of numbers.
  """
  tasks = tasks_of(config)
  return Resolved(
    tasks=tasks,
    ks=k_of(config),
    task_weights={task: config.loss[f"{task}_weight"] for task in tasks},
    gate_starts=gate_starts_of(config),
    expert_counts=expert_counts(config),
  )


def named_tasks(config: ml_collections.ConfigDict) -> list[str]:
  """The tasks as a config names them, in its order."""
  text = BY_PATH["model.tasks"].convert(config.model.tasks)
  return [task.strip() for task in text.split(",")]


def tasks_of(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """The tasks of a config, in the program's fixed order (class, box)."""
  named = named_tasks(config)
  return tuple(task for task in TASKS if task in named)


def k_of(config: ml_collections.ConfigDict) -> tuple[int, ...]:
  """Experts per image for each task of `tasks_of`, in its order.

  Raises:
    InputError: no numbers.
  """
  try:
    text = BY_PATH["model.k"].convert(config.model.k)
    parts = [int(part) for part in text.split(",")]
  except ValueError:
    raise errors.InputError(
      f"config.model.k={config.model.k!r}: must be "
      f"{BY_PATH['model.k'].allowed.text}"
    ) from None
  tasks = tasks_of(config)
  return tuple(parts) * len(tasks) if len(parts) == 1 else tuple(parts)


def gate_starts_of(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """The start of each task's gate, in the order of `tasks_of`.

  Raises:
    InputError: unknown words, or neither one nor as many as tasks.
  """
  option, model = BY_PATH["model.gate_start"], config.model
  tasks = tasks_of(config)
  words = [w.strip() for w in option.convert(model.gate_start).split(",")]
  known = all(word in GATE_STARTS for word in words)
  if not known or len(words) not in (1, len(tasks)):
    raise errors.InputError(
      f"config.model.gate_start={model.gate_start!r}: must be "
      f"{option.allowed.text}"
    )
  words = words * len(tasks) if len(words) == 1 else words
  if model.gate_input == "pixels":
    automatic = dict.fromkeys(TASKS, "zeros")
  else:
    automatic = {"class": "discriminant", "box": "kmeans"}
  starts = [
    automatic[task] if word == "auto" else word
    for task, word in zip(tasks, words)
  ]
  # One gate starts as that of its first task.
  return tuple(starts[:1] * len(tasks) if model.share_gate else starts)


def expert_counts(config: ml_collections.ConfigDict) -> tuple[int, ...]:
  """Experts of whole images, and of V-MoE layers where there are any."""
  token = config.model.token_moe
  extra = (token.experts,) if token.blocks else ()
  return (config.model.experts, *extra)
