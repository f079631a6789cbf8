"""The (image, expert) pairs that `pairs` loops over, and the sums back.

Letters: B images, N experts, K experts per image and task, P pairs at most,
t rows of a tile.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mtlmoe_jax import errors
from mtlmoe_jax.moe import strategies

Array = jax.Array

# Positions (rows times pixels or tokens in a row) that a tile may have.
_POSITIONS = 256
# Room of a tile over the mean load of an expert.
_ROOM = 9 / 8
# Larger tiles are whole multiples of what a matrix product computes at once.
_BLOCK = 16
# Load from which images go two by two: half an empty tile is then little.
_TWO_IMAGES = 8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PairPlan:
  """The pairs in the order of their experts, and where each choice is there.

  Attributes:
    images: i32 [P], the image of each pair, in the order of the batch within
      an expert; some valid index after the last pair.
    starts: i32 [N], the first pair of each expert.
    counts: i32 [N], its number of pairs.
    places: i32 [B, K] per task, the pair of each choice; in 0 ... P-1 even
      where the image is padding.
    kept: bool [B, K] per task, False where the image is padding.
    dropped: f32 scalar per task, always 0.
  """

  images: Array
  starts: Array
  counts: Array
  places: tuple[Array, ...]
  kept: tuple[Array, ...]
  dropped: tuple[Array, ...]

  def combine(self, outputs: Array, task: int, weights: Array) -> Array:
    """See `interface.Plan`; outputs are [P, ...] or longer, a row per pair."""
    chosen = outputs[self.places[task]]  # [B, K, ...]
    wide = (*weights.shape, *(1,) * (chosen.ndim - 2))
    # Selected, not multiplied by 0: what is not a pair's row may hold anything.
    chosen = jnp.where(self.kept[task].reshape(wide), chosen, 0)
    return jnp.sum(chosen * weights.astype(outputs.dtype).reshape(wide), axis=1)


def make_pair_plan(
  experts_per_task: Sequence[Array],
  num_experts: int,
  valid: Array | None = None,
) -> PairPlan:
  """Lists every chosen (image, expert) pair once for all tasks.

  Args:
    experts_per_task: i32 [B, K] per task, distinct within a row. K may differ
      between tasks.
    num_experts: N.
    valid: bool [B], False for padding, which makes no pair; None: all valid.

  Returns:
    The plan, P = B min(N, sum of K).

  Raises:
    InputError: no task.
  """
  if not experts_per_task:
    raise errors.InputError("experts_per_task is empty: give at least one task")
  batch = experts_per_task[0].shape[0]
  ks = [experts.shape[1] for experts in experts_per_task]
  size = batch * min(num_experts, sum(ks))
  valid = jnp.ones(batch, bool) if valid is None else valid
  index = jnp.arange(num_experts)
  chosen = functools.reduce(
    jnp.logical_or,
    [jnp.any(e[..., None] == index, axis=1) for e in experts_per_task],
  )
  chosen = (chosen & valid[:, None]).T  # [N, B]
  counts = jnp.sum(chosen, axis=1, dtype=jnp.int32)
  starts = jnp.cumsum(counts) - counts
  place = jnp.cumsum(chosen.reshape(-1), dtype=jnp.int32) - 1
  place = place.reshape(chosen.shape)
  images = jnp.broadcast_to(jnp.arange(batch, dtype=jnp.int32), chosen.shape)
  images = (
    jnp.zeros(size, jnp.int32)
    .at[jnp.where(chosen, place, size)]
    .set(images, mode="drop")
  )
  return PairPlan(
    images=images,
    starts=starts,
    counts=counts,
    places=tuple(
      jnp.clip(jnp.take_along_axis(place.T, e, axis=1), 0, size - 1)
      for e in experts_per_task
    ),
    kept=tuple(
      jnp.broadcast_to(valid[:, None], e.shape) for e in experts_per_task
    ),
    dropped=tuple(jnp.zeros((), jnp.float32) for _ in ks),
  )


def default_tile(shape: Sequence[int], pairs: int, num_experts: int) -> int:
  """Rows of a tile where the caller does not say.

  A tile costs the reading of an expert's parameters, and in training adding to
  their gradients; the last tile of an expert is partly empty. So: an eighth
  more than the mean load, that most experts need a single tile, but not many
  more positions than fill a matrix product, 256. Images have thousands of
  positions each and go one by one, or two by two where experts get many.

  Args:
    shape: of x, [B, ..., C]: the axes between are positions of a row.
    pairs: P.
    num_experts: N.

  Returns:
    t.
  """
  positions = math.prod(shape[1:-1])
  load = pairs / num_experts
  least = 2 if load >= _TWO_IMAGES else 1
  wanted = math.ceil(_ROOM * load)
  if wanted > _BLOCK:
    wanted = -(-wanted // _BLOCK) * _BLOCK
  return max(min(wanted, _POSITIONS // positions), least)


def forward_tile(shape: Sequence[int], share: float) -> int:
  """Rows of a tile without gradients, on a CPU.

  Nothing is stored, so that maps are read again while they are in the cache: a
  tile has as many rows as fit (two images of 224 pixels, eleven of 96), and
  not more than an expert gets: all where these are many, else half of them,
  for the last tile is then partly empty.

  Args:
    shape: of x, [B, ...]; B of an exported program may be symbolic.
    share: of the rows that an expert gets on average.

  Returns:
    t.
  """
  if not isinstance(shape[0], int):
    return 1
  load = share * shape[0]
  fits = strategies.CACHED_NUMBERS // max(math.prod(shape[1:]), 1)
  full = load >= _TWO_IMAGES
  wanted = math.ceil(_ROOM * load) if full else int(load / 2)
  return max(1, min(wanted, fits, shape[0]))
