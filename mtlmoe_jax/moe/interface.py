"""What the engine and its strategies agree on.

A strategy is a module with a function

  run(experts, batch) -> Results

that brings the images of a `Batch` to the experts, runs them, and gives their
outputs with a `Plan` that knows the way back. `strategies.STRATEGIES` lists the
modules.

Letters: B images, N experts, K experts per image and task, S slots per expert.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax

from mtlmoe_jax import errors
from mtlmoe_jax.moe import strategies

Array = jax.Array
# One expert: (its parameters, x [S, ...], mask bool [S]) -> [S, ...].
Expert = Callable[[Any, Any, Array], Array]
# All experts at once: (rows, mask) -> outputs, as `RowPlan` has them.
Mapped = Callable[[Any, Array], Array]


class Plan(Protocol):
  """Where each choice is in the experts' outputs.

  Attributes:
    kept: bool [B, K] per task, False where the choice was dropped or the image
      is padding.
    dropped: f32 scalar per task, the share of valid images' choices that were
      dropped.
  """

  @property
  def kept(self) -> tuple[Array, ...]:
    """See above."""

  @property
  def dropped(self) -> tuple[Array, ...]:
    """See above."""

  def combine(self, outputs: Any, task: int, weights: Array) -> Array:
    """The weighted sum of one task over the experts it chose.

    Args:
      outputs: what the experts made of their images.
      task: index of the task.
      weights: [B, K] of that task.

    Returns:
      [B, ...] of the type of the outputs; dropped choices add nothing, so that
      an image without any kept choice (padding, too) is 0.
    """


class RowPlan(Plan, Protocol):
  """A plan that also lays the images out for experts mapped over N.

  Attributes:
    mask: bool, which of an expert's rows hold an image that chose it: [N, S],
      of "dense" [N, B], of groups [G, N, S].
  """

  @property
  def mask(self) -> Array:
    """See above."""

  def dispatch(self, x: Array) -> Array:
    """The rows of all experts, from images [B, ...]."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Results:
  """What the experts made of their images, and the way back.

  Attributes:
    outputs: in the order of the strategy, such as [N, S, ...].
    plan: where each choice is in `outputs`.
  """

  outputs: Array
  plan: Plan

  def combine(self, task: int, weights: Array) -> Array:
    """The weighted sum of one task over the experts it chose.

    Args:
      task: index of the task in `experts_per_task`.
      weights: [B, K] of that task.

    Returns:
      [B, ...] of the type of the experts' outputs; dropped choices add nothing
      and padding is 0.

    Raises:
      InputError: weights of another shape than the task's choices.
    """
    expected = self.plan.kept[task].shape
    if weights.shape != expected:
      raise errors.InputError(
        f"weights of shape {weights.shape} for task {task}: must be {expected},"
        " one for each of its choices"
      )
    return self.plan.combine(self.outputs, task, weights)

  @property
  def dropped(self) -> tuple[Array, ...]:
    """Per task, the share of valid images' choices that were dropped."""
    return self.plan.dropped


@dataclasses.dataclass(frozen=True)
class Batch:
  """The images, and which experts each task chose for them.

  Attributes:
    x: [B, ...], or a tree of such.
    experts_per_task: i32 [B, K] per task, distinct within a row, best first.
    num_experts: N.
    capacity: S; None drops nothing.
    valid: bool [B], False for padding; None: all valid.
  """

  x: Any
  experts_per_task: Sequence[Array]
  num_experts: int
  capacity: int | None = None
  valid: Array | None = None

  def __post_init__(self) -> None:
    """Refuses a batch without a task."""
    if not self.experts_per_task:
      raise errors.InputError(
        "experts_per_task is empty: give at least one task"
      )

  @property
  def size(self) -> int:
    """B."""
    return self.experts_per_task[0].shape[0]

  @property
  def ks(self) -> list[int]:
    """K of each task."""
    return [experts.shape[1] for experts in self.experts_per_task]

  @property
  def limited(self) -> bool:
    """Whether choices may be dropped: S < B."""
    return strategies.limited(self.capacity, self.size)


class Experts(Protocol):
  """Experts that can be mapped over N."""

  def mapped(self, *, shared: bool) -> Mapped:
    """All at once.

    Args:
      shared: all experts see the same rows [B, ...]; else each has its own,
        [N, S, ...].
    """


@dataclasses.dataclass(frozen=True)
class MappedExperts:
  """Experts that whoever calls has mapped over N already.

  Attributes:
    stacked: all of them.
  """

  stacked: Mapped

  def mapped(self, *, shared: bool) -> Mapped:
    """Themselves: the caller knows the strategy."""
    del shared
    return self.stacked


@dataclasses.dataclass(frozen=True)
class OneByOne:
  """Experts as the function of one and the parameters of all.

  Attributes:
    fn: one expert.
    params: of all experts, leaves [N, ...].
    remat: the backward pass runs the experts again in place of storing what it
      needs (`jax.checkpoint`).
    rows_interact: the output of a row depends on the other rows that the mask
      marks.
    tile: images in a tile of "pairs"; None is `pair_plan.default_tile`.
  """

  fn: Expert
  params: Any
  remat: bool = False
  rows_interact: bool = False
  tile: int | None = None

  def mapped(self, *, shared: bool) -> Mapped:
    """All experts side by side; see `Experts`."""
    run = jax.vmap(self.once, (0, None if shared else 0, 0))
    return lambda x, mask: run(self.params, x, mask)

  @property
  def once(self) -> Expert:
    """One expert; stores nothing for the backward pass where `remat` is."""
    return jax.checkpoint(self.fn) if self.remat else self.fn


def apply_plan(stacked: Mapped, plan: RowPlan, x: Any) -> Results:
  """Runs experts that are mapped over N on the rows of a plan.

  Args:
    stacked: all experts at once, (the plan's rows, its mask) -> outputs.
    plan: who goes where.
    x: [B, ...], or a tree of such.

  Returns:
    The results.
  """
  return Results(stacked(jax.tree.map(plan.dispatch, x), plan.mask), plan)
