"""Dropless dispatch: a loop over tiles of (image, expert) pairs.

Letters: B images, N experts, K experts per image and task, P pairs at most,
t rows of a tile.

The pairs that any task chose, sorted by expert, are cut into tiles: up to t
images of one expert. `run_pairs` takes one expert after another, and runs it on
one of its tiles after another, as many as there are, so that the cost follows
the pairs themselves: there is no capacity, nothing is dropped and no [N, B]
buffer of features exists. (The idea of dropless experts is that of MegaBlocks,
Gale et al. 2022.)

Automatic differentiation of such loops would write a gradient of all N experts
in each of their steps. Here a second pair of loops takes the gradient of each
tile and sums those of an expert.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from mtlmoe_jax import errors
from mtlmoe_jax.devices import meshes
from mtlmoe_jax.moe import interface, pair_plan
from mtlmoe_jax.moe.pair_plan import PairPlan

Array = jax.Array

# Terms of a sum from which its result is stored for the backward pass: below,
# computing it again takes about as long as writing and reading it.
_STORED_TERMS = 64


def run(
  experts: interface.OneByOne, batch: interface.Batch
) -> interface.Results:
  """Runs experts in a loop over tiles of their images; see `interface`."""
  plan = pair_plan.make_pair_plan(
    batch.experts_per_task, batch.num_experts, batch.valid
  )
  tile = experts.tile
  if tile is None:
    shape = jax.tree.leaves(batch.x)[0].shape
    pairs = plan.images.shape[0]
    tile = pair_plan.default_tile(shape, pairs, batch.num_experts)
  outputs = run_pairs(
    experts.fn, experts.params, batch.x, plan, tile=tile, remat=experts.remat
  )
  return interface.Results(outputs, plan)


def run_pairs(
  fn: interface.Expert,
  params: Any,
  x: Any,
  plan: PairPlan,
  *,
  tile: int,
  remat: bool = False,
) -> Array:
  """Runs each expert on its own images.

  `fn` must treat every row by itself: which rows share a tile is of no
  meaning. Gradients are taken only of what needs one: parameters (or closed-
  over values, or x) that are not differentiated cost no gradient work.

  Args:
    fn: one expert, (params of it, x [t, ...], mask bool [t]) -> [t, ...]. Rows
      that the mask excludes repeat another row and their output is not used.
      It may close over anything, random keys too (but inside `jax.shard_map`
      not over what needs a gradient: each tile would wait for all devices).
    params: leaves [N, ...] of any type.
    x: leaves [B, ...] of any type, one array or a tree.
    plan: from `pair_plan.make_pair_plan`.
    tile: t.
    remat: stores nothing for the backward pass, which then computes all of
      every tile again; else the results of the longer matrix products are
      stored and only the rest is computed again.

  Returns:
    [P + t - 1, ...], the output of each pair; rows without a pair mean
    nothing.

  Raises:
    InputError: a tile below 1, or a closed-over value of the kind above.
  """
  if tile < 1:
    raise errors.InputError(f"tile={tile}: must be at least 1 row")
  # Inside `shard_map` each device has a loop of its own.
  params, x, plan = _alike(jax.tree.map(jnp.asarray, (params, x, plan)))
  flat_params, params_tree = jax.tree.flatten(params)
  flat_x, x_tree = jax.tree.flatten(x)

  def flat_fn(params: list[Array], x: list[Array], mask: Array) -> Array:
    return fn(
      jax.tree.unflatten(params_tree, params),
      jax.tree.unflatten(x_tree, x),
      mask,
    )

  # All that `fn` closes over becomes an argument: the backward pass may run
  # where those values (tracers, perhaps) no longer exist.
  closed = jax.make_jaxpr(flat_fn)(*_of_a_tile(flat_params, flat_x, tile))

  jaxpr = closed.jaxpr

  def one(leaves: list[list[Array]], mask: Array) -> Array:
    params, x, consts = leaves
    again = core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, consts))
    (out,) = again(*params, *x, mask)
    return out

  loop = _Loop(one, closed.out_avals[0], tile, remat)
  return _run(loop, (flat_params, flat_x, closed.consts), plan)


def _of_a_tile(
  params: list[Array], x: list[Array], tile: int
) -> tuple[list[Array], list[Array], Array]:
  """Stand-ins for what an expert gets: only their types are looked at.

  Made from the arrays themselves, so that they vary over the same mesh axes.
  """
  rows = [jnp.broadcast_to(v[:1], (tile, *v.shape[1:])) for v in x]
  mask = meshes.varying(jnp.ones(tile, bool), meshes.manual_axes(*x))
  return [p[0] for p in params], rows, mask


@dataclasses.dataclass(frozen=True)
class _Loop:
  """What is static: an expert, the type of its output, t, what is stored."""

  one: Callable[[list[list[Array]], Array], Array]
  out: Any
  tile: int
  remat: bool


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Wanted:
  """Which leaves of (params, x, closed-over values) need a gradient."""

  flags: tuple[tuple[bool, ...], ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Span:
  """Of an expert: its first pair and tile, and how many it has of them."""

  start: Array
  count: Array
  first: Array
  tiles: Array

  @classmethod
  def of_all(cls, plan: PairPlan, size: int) -> "_Span":
    """All experts', [N] each."""
    tiles = -(-plan.counts // size)
    return cls(plan.starts, plan.counts, jnp.cumsum(tiles) - tiles, tiles)


@dataclasses.dataclass(frozen=True)
class _Tile:
  """One tile: its first pair, images [t] and mask [t]."""

  start: Array
  images: Array
  mask: Array

  @classmethod
  def at(cls, plan: PairPlan, span: _Span, size: int, index: Array) -> "_Tile":
    row = index * size + jnp.arange(size)
    last = span.count - 1
    # Past the last pair its image again: whatever an expert does with zeros,
    # a division say, it must not spoil the gradient of its parameters.
    images = plan.images[span.start + jnp.minimum(row, last)]
    return cls(span.start + row[0], images, row <= last)

  def only(self, rows: Array) -> Array:
    """Zero in the rows of no pair."""
    mask = self.mask.reshape(-1, *(1,) * (rows.ndim - 1))
    return jnp.where(mask, rows, 0)


# Two loops, experts outside and their tiles inside: the parameters of an expert
# are taken out of the stack once, and as whole arrays. XLA:CPU would otherwise
# merge the taking with each use, which then takes four times as long.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(loop: _Loop, values: Any, plan: PairPlan) -> Array:
  return _forward(loop, values, plan, None)[0]


def _run_forward(loop: _Loop, values: Any, plan: PairPlan) -> Any:
  def is_leaf(value: Any) -> bool:
    return hasattr(value, "perturbed")

  wanted = _Wanted(
    tuple(tuple(leaf.perturbed for leaf in leaves) for leaves in values)
  )
  values, plan = jax.tree.map(
    lambda leaf: leaf.value, (values, plan), is_leaf=is_leaf
  )
  shared = [
    flag and meshes.manual_axes(value) != meshes.manual_axes(plan.counts)
    for value, flag in zip(values[2], wanted.flags[2])
  ]
  if any(shared):
    raise errors.InputError(
      "an expert inside jax.shard_map closes over a value that needs a "
      "gradient: make it one of its parameters"
    )
  outputs, stored = _forward(loop, values, plan, wanted)
  return outputs, (wanted, values, plan, stored)


def _forward(
  loop: _Loop, values: Any, plan: PairPlan, wanted: _Wanted | None
) -> tuple[Array, list[Array]]:
  """Outputs and, where gradients are `wanted`, what is stored for them."""
  params, x, consts = values
  store = None if loop.remat else wanted
  keep, shapes = ([], []) if store is None else _kept(loop, store, values)

  def expert(carry: Any, of_expert: Any) -> tuple[Any, None]:
    params, span = of_expert

    def body(i: Array, carry: Any) -> Any:
      outputs, stored = carry
      tile = _Tile.at(plan, span, loop.tile, i)
      arguments = [params, [v[tile.images] for v in x], consts]
      if store is not None:
        out, pull = _vjp(loop, store, arguments, tile.mask)
        leaves = _select([jax.tree.leaves(pull)], [keep])[0]
        stored = [
          lax.dynamic_update_index_in_dim(s, leaf, span.first + i, 0)
          for s, leaf in zip(stored, leaves, strict=True)
        ]
      else:
        out = loop.one(arguments, tile.mask)
      # Rows of no pair are overwritten by the next expert's tile.
      outputs = lax.dynamic_update_slice_in_dim(
        outputs, tile.only(out), tile.start, 0
      )
      return outputs, stored

    return lax.fori_loop(0, span.tiles, body, carry), None

  pairs, experts = plan.images.shape[0], plan.counts.shape[0]
  # Bound of the tiles, sum_n ceil(count_n / t) where the counts sum to P.
  most = (pairs + experts * (loop.tile - 1)) // loop.tile
  rows = (pairs + loop.tile - 1, *loop.out.shape[1:])
  carry = (
    _zeros(rows, loop.out.dtype, plan),
    [_zeros((most, *s.shape), s.dtype, plan) for s in shapes],
  )
  return lax.scan(expert, carry, (params, _Span.of_all(plan, loop.tile)))[0]


def _vjp(
  loop: _Loop, wanted: _Wanted, arguments: Any, mask: Array
) -> tuple[Array, Any]:
  """A tile's output, and from its gradient to those of the leaves wanted."""
  one = loop.one
  if not loop.remat:
    one = jax.checkpoint(one, policy=_worth_storing, prevent_cse=False)

  def of(differentiated: list[Array]) -> Array:
    leaves = iter(differentiated)
    merged = [
      [next(leaves) if flag else fixed for fixed, flag in zip(group, flags)]
      for group, flags in zip(arguments, wanted.flags)
    ]
    return one(merged, mask)

  groups = _select(arguments, wanted.flags)
  return jax.vjp(of, [leaf for group in groups for leaf in group])


def _worth_storing(primitive: Any, *operands: Any, **parameters: Any) -> bool:
  """Whether reading a result from memory beats computing it again."""
  if primitive.name != "dot_general":
    return False
  (contracted, _), _ = parameters["dimension_numbers"]
  terms = math.prod(operands[0].shape[axis] for axis in contracted)
  return terms >= _STORED_TERMS


def _kept(
  loop: _Loop, wanted: _Wanted, values: Any
) -> tuple[list[bool], list[Any]]:
  """Which of a tile's residuals are stored, and their shapes.

  Those computed from x. What comes from the parameters alone (a reshaped
  kernel), and x itself, is there without being stored.
  """

  def residuals(x: Any, params: Any, consts: Any, mask: Array) -> list[Array]:
    return jax.tree.leaves(_vjp(loop, wanted, [params, x, consts], mask)[1])

  params, x, consts = values
  params, rows, mask = _of_a_tile(params, x, loop.tile)
  jaxpr = jax.make_jaxpr(residuals)(rows, params, consts, mask).jaxpr
  sources = set(jaxpr.invars[: len(rows)])
  computed: set[Any] = set()
  for eqn in jaxpr.eqns:
    variables = {v for v in eqn.invars if not isinstance(v, core.Literal)}
    if variables & (sources | computed):
      computed.update(eqn.outvars)
  keep = [
    not isinstance(v, core.Literal) and v in computed for v in jaxpr.outvars
  ]
  return keep, _select([[v.aval for v in jaxpr.outvars]], [keep])[0]


def _select(groups: Any, flags: Any) -> list[list[Any]]:
  return [
    [leaf for leaf, flag in zip(*both, strict=True) if flag]
    for both in zip(groups, flags, strict=True)
  ]


def _run_backward(loop: _Loop, residuals: Any, g: Any) -> Any:
  wanted, values, plan, stored = residuals
  params, x, consts = values
  keep = [] if loop.remat else _kept(loop, wanted, values)[0]

  def zeros_like(groups: Any, flags: Any) -> list[list[Array]]:
    return [
      [_zeros(leaf.shape, leaf.dtype, plan) for leaf in group]
      for group in _select(groups, flags)
    ]

  def pull_back(arguments: Any, mask: Array, index: Array) -> Any:
    _, pull = _vjp(loop, wanted, arguments, mask)
    if loop.remat:
      return pull
    # The compiler removes the computation of all that is replaced here.
    leaves, tree = jax.tree.flatten(pull)
    old = (lax.dynamic_index_in_dim(s, index, 0, False) for s in stored)
    return jax.tree.unflatten(
      tree,
      [next(old) if k else leaf for leaf, k in zip(leaves, keep, strict=True)],
    )

  def expert(sums: Any, of_expert: Any) -> tuple[Any, Any]:
    params, span = of_expert

    def body(i: Array, sums: Any) -> Any:
      tile = _Tile.at(plan, span, loop.tile, i)
      arguments = [params, [v[tile.images] for v in x], consts]
      pull = pull_back(arguments, tile.mask, span.first + i)
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
    of_params, *sums = lax.fori_loop(0, span.tiles, body, sums)
    return sums, of_params

  (of_x, of_consts), of_params = lax.scan(
    expert,
    zeros_like([x, consts], wanted.flags[1:]),
    (params, _Span.of_all(plan, loop.tile)),
  )
  gradients = map(iter, (of_params, of_x, of_consts))
  filled = tuple(
    [next(leaves) if flag else None for flag in flags]
    for leaves, flags in zip(gradients, wanted.flags)
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
