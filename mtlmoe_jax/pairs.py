"""Dropless dispatch: a loop over tiles of (image, expert) pairs.

Letters: B images, N experts, K experts per image and task, P pairs at most,
t rows of a tile.

The pairs that any task chose, sorted by expert, are cut into tiles: up to t
images of one expert. `run_pairs` runs the expert on one tile after another, as
many as there are, so that the cost follows the pairs themselves: there is no
capacity, nothing is dropped and no [N, B] buffer of features exists. (The idea
of dropless experts is that of MegaBlocks, Gale et al. 2022.)

Automatic differentiation of such a loop would write a gradient of all N
experts in each of its steps. Here a second loop takes the gradient of a tile
and adds it in place to that of its expert.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from mtlmoe_jax import errors, meshes

Array = jax.Array
# One expert: (its parameters, x [t, ...], mask bool [t]) -> [t, ...].
Expert = Callable[[Any, Any, Array], Array]

# Positions (rows times pixels or tokens in a row) that fill a matrix product.
_POSITIONS = 128
_MAX_TILE = 128
_MIN_TILE = 2


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
  their gradients, and the last tile of an expert may be half empty. So:
  as many rows as fill a matrix product, 128 positions, but never many more
  than an expert gets on average. Images have thousands of positions each and
  get the smallest tile, 2; tokens up to 128.

  Args:
    shape: of x, [B, ..., C]: the axes between are positions of a row.
    pairs: P.
    num_experts: N.

  Returns:
    t, a power of 2.
  """
  positions = 1
  for size in shape[1:-1]:
    positions *= size
  load = max(pairs // num_experts, 1)
  wanted = min(_POSITIONS // positions, load, _MAX_TILE)
  return 1 << (max(wanted, _MIN_TILE) - 1).bit_length()


def run_pairs(
  fn: Expert,
  params: Any,
  x: Any,
  plan: PairPlan,
  *,
  tile: int,
) -> Array:
  """Runs each expert on its own images.

  `fn` must treat every row by itself: which rows share a tile is of no
  meaning. Gradients are taken only of what needs one: parameters (or closed-
  over values, or x) that are not differentiated cost no gradient work.

  Args:
    fn: one expert, (params of it, x [t, ...], mask bool [t]) -> [t, ...]. Rows
      that the mask excludes repeat another row and their output is not used.
      It may close over anything, random keys too.
    params: leaves [N, ...] of any type.
    x: leaves [B, ...] of any type, one array or a tree.
    plan: from `make_pair_plan`.
    tile: t.

  Returns:
    [P + t - 1, ...], the output of each pair; rows without a pair mean
    nothing.

  Raises:
    InputError: a tile below 1.
  """
  if tile < 1:
    raise errors.InputError(f"tile={tile}: must be at least 1 row")
  params, x = jax.tree.map(jnp.asarray, (params, x))
  flat_params, params_tree = jax.tree.flatten(params)
  flat_x, x_tree = jax.tree.flatten(x)

  def flat_fn(params: list[Array], x: list[Array], mask: Array) -> Array:
    return fn(params_tree.unflatten(params), x_tree.unflatten(x), mask)

  # All that `fn` closes over becomes an argument: the backward pass may run
  # where those values (tracers, perhaps) no longer exist.
  closed = jax.make_jaxpr(flat_fn)(
    [jax.ShapeDtypeStruct(p.shape[1:], p.dtype) for p in flat_params],
    [jax.ShapeDtypeStruct((tile, *v.shape[1:]), v.dtype) for v in flat_x],
    jax.ShapeDtypeStruct((tile,), bool),
  )

  jaxpr = closed.jaxpr

  def one(leaves: list[list[Array]], mask: Array) -> Array:
    params, x, consts = leaves
    again = core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, consts))
    (out,) = again(*params, *x, mask)
    return out

  loop = _Loop(one, closed.out_avals[0], tile)
  # Inside `shard_map` each device has a loop of its own.
  values, plan = _alike(((flat_params, flat_x, closed.consts), plan))
  return _run(loop, values, plan)


def combine_pairs(
  outputs: Array, plan: PairPlan, task: int, weights: Array
) -> Array:
  """The weighted sum of one task over the experts it chose.

  Args:
    outputs: [>= P, ...], one row per pair.
    plan: from `make_pair_plan`.
    task: index of the task in `experts_per_task`.
    weights: [B, K] of that task.

  Returns:
    [B, ...]; 0 for padding.
  """
  chosen = outputs[plan.places[task]]  # [B, K, ...]
  wide = (*weights.shape, *(1,) * (chosen.ndim - 2))
  # Selected, not multiplied by 0: what is not a pair's row may hold anything.
  chosen = jnp.where(plan.kept[task].reshape(wide), chosen, 0)
  return jnp.sum(chosen * weights.astype(outputs.dtype).reshape(wide), axis=1)


@dataclasses.dataclass(frozen=True)
class _Loop:
  """What is static: an expert, the type of its output, and t."""

  one: Callable[[list[list[Array]], Array], Array]
  out: Any
  tile: int


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Wanted:
  """Which leaves of (params, x, closed-over values) need a gradient."""

  flags: tuple[tuple[bool, ...], ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Share:
  """Of one expert (of all before the scan): its first pair, their number."""

  start: Array
  count: Array

  def tiles(self, size: int) -> Array:
    return -(-self.count // size)


@dataclasses.dataclass(frozen=True)
class _Tile:
  """One tile: its first pair, images [t] and mask [t]."""

  start: Array
  images: Array
  mask: Array

  @classmethod
  def at(
    cls, plan: PairPlan, share: _Share, size: int, index: Array
  ) -> "_Tile":
    row = index * size + jnp.arange(size)
    last = share.count - 1
    # Past the last pair its image again: whatever an expert does with zeros,
    # a division say, it must not spoil the gradient of its parameters.
    images = plan.images[share.start + jnp.minimum(row, last)]
    return cls(share.start + row[0], images, row <= last)

  def only(self, rows: Array) -> Array:
    """Zero in the rows of no pair."""
    mask = self.mask.reshape(-1, *(1,) * (rows.ndim - 1))
    return jnp.where(mask, rows, 0)


# Two loops, experts outside and their tiles inside: the parameters of an expert
# are taken out of the stack once, and as whole arrays. XLA:CPU would otherwise
# merge the taking with each use, which then takes four times as long.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(loop: _Loop, values: Any, plan: PairPlan) -> Array:
  params, x, consts = values

  def expert(outputs, of_expert):
    params, share = of_expert

    def body(i, outputs):
      tile = _Tile.at(plan, share, loop.tile, i)
      rows = [v[tile.images] for v in x]
      out = loop.one([params, rows, consts], tile.mask)
      # Rows of no pair are overwritten by the next expert's tile.
      return lax.dynamic_update_slice_in_dim(
        outputs, tile.only(out), tile.start, 0
      )

    return lax.fori_loop(0, share.tiles(loop.tile), body, outputs), None

  rows = plan.images.shape[0] + loop.tile - 1
  outputs = _zeros((rows, *loop.out.shape[1:]), loop.out.dtype, plan)
  shares = _Share(plan.starts, plan.counts)
  return lax.scan(expert, outputs, (params, shares))[0]


def _run_forward(loop: _Loop, values: Any, plan: PairPlan) -> Any:
  is_leaf = lambda v: hasattr(v, "perturbed")  # noqa: E731
  wanted = _Wanted(
    tuple(tuple(leaf.perturbed for leaf in leaves) for leaves in values)
  )
  values, plan = jax.tree.map(
    lambda leaf: leaf.value, (values, plan), is_leaf=is_leaf
  )
  # Nothing is stored but what was given: the maps that the gradients need
  # would be written to and read from memory tile by tile, which takes longer
  # than computing them again while they are in the cache.
  return _run(loop, values, plan), (wanted, values, plan)


def _pull_back(loop, wanted, arguments, mask):
  """From the gradient of a tile's output to those of the leaves wanted."""

  def of(differentiated):
    leaves = iter(differentiated)
    merged = [
      [next(leaves) if flag else fixed for fixed, flag in zip(group, flags)]
      for group, flags in zip(arguments, wanted.flags)
    ]
    return loop.one(merged, mask)

  groups = _select(arguments, wanted.flags)
  return jax.vjp(of, [leaf for group in groups for leaf in group])[1]


def _select(groups: Any, wanted: Any) -> list[list[Any]]:
  return [
    [leaf for leaf, flag in zip(group, flags) if flag]
    for group, flags in zip(groups, wanted)
  ]


def _run_backward(loop: _Loop, residuals: Any, g: Any) -> Any:
  wanted, values, plan = residuals
  params, x, consts = values

  def zeros_like(groups, flags):
    return [
      [_zeros(leaf.shape, leaf.dtype, plan) for leaf in group]
      for group in _select(groups, flags)
    ]

  def expert(sums, of_expert):
    params, share = of_expert

    def body(i, sums):
      tile = _Tile.at(plan, share, loop.tile, i)
      arguments = [params, [v[tile.images] for v in x], consts]
      pull = _pull_back(loop, wanted, arguments, tile.mask)
      rows = lax.dynamic_slice_in_dim(g, tile.start, loop.tile)
      (grads,) = pull(tile.only(rows))
      grads = iter(grads)
      of_params, of_x, of_consts = [[next(grads) for _ in s] for s in sums]
      return (
        [s + d for s, d in zip(sums[0], of_params)],
        [s.at[tile.images].add(tile.only(d)) for s, d in zip(sums[1], of_x)],
        [s + d for s, d in zip(sums[2], of_consts)],
      )

    sums = (*zeros_like([params], wanted.flags[:1]), *sums)
    of_params, *sums = lax.fori_loop(0, share.tiles(loop.tile), body, sums)
    return sums, of_params

  (of_x, of_consts), of_params = lax.scan(
    expert,
    zeros_like([x, consts], wanted.flags[1:]),
    (params, _Share(plan.starts, plan.counts)),
  )
  filled = tuple(
    [next(found) if flag else None for flag in flags]
    for found, flags in zip(
      map(iter, (of_params, of_x, of_consts)), wanted.flags
    )
  )
  return filled, None


_run.defvjp(_run_forward, _run_backward, symbolic_zeros=True)


def _zeros(shape: tuple[int, ...], dtype: Any, plan: PairPlan) -> Array:
  """Zeros that vary over the manual mesh axes that the plan varies over."""
  axes = meshes.manual_axes(plan.counts)
  return meshes.varying(jnp.zeros(shape, dtype), axes)


def _alike(tree: Any) -> Any:
  """Every array varying over the manual mesh axes that any varies over."""
  axes = meshes.manual_axes(*jax.tree.leaves(tree))
  return jax.tree.map(lambda leaf: meshes.varying(leaf, axes), tree)
