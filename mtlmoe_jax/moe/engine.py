"""Mixture-of-experts layers over any function: one interface, any strategy.

  results = apply_experts(expert, params, x, [experts_a, experts_b])
  features_a = results.combine(0, weights_a)

Every (image, expert) pair that any task chose is computed once (but by
"dense", which computes all pairs); `combine` then takes each task's weighted
sum. What the rows of x are (images, maps, tokens) is the expert's business.

- "dense": every expert runs on every image (`everyone`). The oracle.
- "gather": the images of each expert are copied into a buffer of S slots, the
  expert is mapped over the N buffers (`buffers`). With S < B choices may be
  dropped.
- "einsum": the same by one-hot products (`onehot`).
- "pairs": a loop over tiles of (image, expert) pairs (`pairs`). Drops nothing.
- "all_to_all": images go to the devices of their experts (`exchange`).

`strategies` lists them and decides which one "auto" is. All agree, values and
gradients, to float rounding whenever nothing is dropped. So does an image's
output alone with its output in any batch: without a capacity it depends on its
own row only. Rounding is all that differs, because the shape of a matrix
product decides the order of its sums.

Letters: B images, N experts, K experts per image and task, S slots per expert.
"""

import importlib
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mtlmoe_jax import errors
from mtlmoe_jax.devices import compilation, meshes
from mtlmoe_jax.moe import exchange, interface, pair_plan, strategies
from mtlmoe_jax.moe.interface import Results, apply_plan

__all__ = [
  "STRATEGIES",
  "Results",
  "apply_experts",
  "apply_plan",
  "apply_stacked",
  "choose_strategy",
]

Array = jax.Array

STRATEGIES = strategies.NAMES


def choose_strategy(
  batch_size: int,
  num_experts: int,
  ks: Sequence[int],
  *,
  capacity: int | None = None,
  rows_interact: bool = False,
  train: bool = True,
  backend: str | None = None,
  sharded: bool | None = None,
  row_size: int | None = None,
) -> str:
  """The strategy that "auto" stands for; `strategies.choose` has the rules.

  Args:
    batch_size: B.
    num_experts: N.
    ks: experts per image, one per task.
    capacity: S; None is dropless.
    rows_interact: an expert's output for a row depends on its other rows.
    train: whether gradients are going to be taken.
    backend: as `compilation.backend()`, which None asks.
    sharded: whether the compiler may split arrays over devices; None looks at
      the mesh that is set.
    row_size: numbers of one image's x; None: not known. Without gradients a
      few small images may be quicker with all experts side by side.

  Returns:
    "dense", "gather", "pairs" or "all_to_all".
  """
  return strategies.choose(
    strategies.Situation(
      batch_size=batch_size,
      num_experts=num_experts,
      ks=ks,
      capacity=capacity,
      rows_interact=rows_interact,
      train=train,
      backend=compilation.backend() if backend is None else backend,
      sharded=meshes.compiler_partitions() if sharded is None else sharded,
      experts_apart=exchange.parts() > 1,
      divides=exchange.fits(batch_size, num_experts),
      row_size=row_size,
    )
  )


def apply_experts(
  fn: interface.Expert,
  params: Any,
  x: Any,
  experts_per_task: Sequence[Array],
  *,
  strategy: str = "auto",
  capacity: int | None = None,
  valid: Array | None = None,
  tile: int | None = None,
  remat: bool = False,
  rows_interact: bool = False,
  train: bool = True,
) -> Results:
  """Runs each expert on the images that any task sends to it.

  Args:
    fn: one expert: (its parameters, x [S, ...], mask bool [S]) -> [S, ...].
      Rows that the mask excludes hold zeros or copies of other rows, and their
      output is not used.
    params: the parameters of all experts, leaves [N, ...]; at least one leaf.
    x: [B, ...], or a tree of such.
    experts_per_task: i32 [B, K] per task, distinct within a row, best first. K
      may differ between tasks.
    strategy: of `STRATEGIES`; "auto" is `choose_strategy`.
    capacity: S of "gather" and "einsum" (see `buffers.capacity`), beyond
      which choices are dropped, the lowest ranks first; None, and any S from B
      on, drops nothing. "dense" and "pairs" have no buffers and never drop.
      Of "all_to_all" it is shared out evenly: each device may send so many of
      its images to an expert.
    valid: bool [B], False for padding, which reaches no expert (but in
      "dense") and whose sums are 0; None: all valid.
    tile: images in a tile of "pairs"; None is `pair_plan.default_tile`, or
      without gradients on a CPU `pair_plan.forward_tile`.
    remat: runs the experts again in the backward pass in place of storing what
      it needs (`jax.checkpoint`). "pairs" without it stores the results of long
      matrix products and computes the rest again.
    rows_interact: the output of a row depends on the other rows that the mask
      marks, so that an expert must see all its images at once.
    train: whether gradients are going to be taken; "auto" asks, and the tile.

  Returns:
    The results.

  Raises:
    InputError: an unknown strategy, parameters whose first axes differ, no
      task, a capacity or tile below 1, "pairs" where rows interact or where
      the compiler would have to split the loop over devices, or "all_to_all"
      where images or experts do not divide over the devices.
  """
  batch = _batch(x, experts_per_task, _count_experts(params), capacity, valid)
  if strategy == strategies.AUTO:
    strategy = choose_strategy(
      batch.size,
      batch.num_experts,
      batch.ks,
      capacity=capacity,
      rows_interact=rows_interact,
      train=train,
      row_size=math.prod(jax.tree.leaves(batch.x)[0].shape[1:]),
    )
  kind = _kind(strategy)
  if rows_interact and not kind.shows_all:
    raise errors.InputError(
      f"strategy={strategy!r} with rows_interact=True: an expert sees only "
      "some of its images at a time, use 'gather'"
    )
  if meshes.compiler_partitions() and not kind.splits:
    raise errors.InputError(
      f"strategy={strategy!r} on a mesh of several devices: a loop is not "
      "split, use 'gather' or 'auto' (or call it inside jax.shard_map)"
    )
  if tile is None and not train and compilation.backend() == "cpu":
    met = strategies.expected_union(batch.num_experts, batch.ks)
    shape = jax.tree.leaves(batch.x)[0].shape
    tile = pair_plan.forward_tile(shape, met / batch.num_experts)
  experts = interface.OneByOne(fn, params, remat, rows_interact, tile)
  return _run(kind, experts, batch)


def apply_stacked(
  stacked: interface.Mapped,
  num_experts: int,
  x: Any,
  experts_per_task: Sequence[Array],
  *,
  strategy: str,
  capacity: int | None = None,
  valid: Array | None = None,
) -> Results:
  """`apply_experts` for experts that are mapped over N already.

  Args:
    stacked: all experts at once (`flax.linen.vmap`, for example). For "gather"
      and "einsum" (x [N, S, ...], mask bool [N, S]) -> [N, S, ...]; for
      "dense" (x [B, ...], mask bool [N, B]) -> [N, B, ...], where the mask
      marks the images that chose the expert.
    num_experts: N.
    x: as in `apply_experts`, as the rest.
    experts_per_task: i32 [B, K] per task.
    strategy: "dense", "gather" or "einsum".
    capacity: S.
    valid: bool [B].

  Returns:
    The results.

  Raises:
    InputError: another strategy, no task, or a capacity below 1.
  """
  batch = _batch(x, experts_per_task, num_experts, capacity, valid)
  kind = _kind(strategy)
  if not kind.takes_mapped:
    raise errors.InputError(
      f"strategy={strategy!r} with experts mapped over N: it needs the "
      "function of one, use apply_experts"
    )
  return _run(kind, interface.MappedExperts(stacked), batch)


def _batch(
  x: Any,
  experts_per_task: Sequence[Array],
  num_experts: int,
  capacity: int | None,
  valid: Array | None,
) -> interface.Batch:
  x = jax.tree.map(jnp.asarray, x)  # NumPy takes no traced index
  return interface.Batch(x, experts_per_task, num_experts, capacity, valid)


def _kind(strategy: str) -> strategies.Strategy:
  """The table's entry of a strategy, "auto" decided."""
  if strategy not in strategies.STRATEGIES:
    raise errors.InputError(
      f"strategy={strategy!r}: use one of {', '.join(STRATEGIES)} ('auto' only "
      "with apply_experts)"
    )
  return strategies.STRATEGIES[strategy]


def _run(
  kind: strategies.Strategy, experts: interface.Experts, batch: interface.Batch
) -> Results:
  results: Results = importlib.import_module(kind.module).run(experts, batch)
  return results


def _count_experts(params: Any) -> int:
  sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(params)}
  if len(sizes) != 1 or () in sizes:
    raise errors.InputError(
      f"params with first axes {sorted(sizes)}: every leaf must have the same "
      "first axis, one entry per expert"
    )
  return sizes.pop()[0]
