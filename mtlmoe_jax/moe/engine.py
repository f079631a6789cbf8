"""Mixture-of-experts layers over any function: one interface, four strategies.

  results = apply_experts(expert, params, x, [experts_a, experts_b])
  features_a = results.combine(0, weights_a)

Every (image, expert) pair that any task chose is computed once (but by
"dense", which computes all pairs); `combine` then takes each task's weighted
sum. What the rows of x are (images, maps, tokens) is the expert's business.

- "dense": every expert runs on every image. The oracle.
- "gather": the images of each expert are copied into a buffer of S slots, the
  expert is mapped over the N buffers. With S < B choices may be dropped.
- "einsum": the same by one-hot products (`onehot`).
- "pairs": a loop over tiles of (image, expert) pairs (`pairs`). Drops nothing.
- "all_to_all": images go to the devices of their experts (`exchange`).

All agree, values and gradients, to float rounding whenever nothing is dropped.
So does an image's output alone with its output in any batch: without a
capacity it depends on its own row only. Rounding is all that differs, because
the shape of a matrix product decides the order of its sums.

Letters: B images, N experts, K experts per image and task, S slots per expert,
P pairs at most.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mtlmoe_jax import errors
from mtlmoe_jax.devices import compilation, meshes
from mtlmoe_jax.moe import buffers, exchange, onehot, pair_plan, pairs

Array = jax.Array

STRATEGIES = ("auto", "dense", "gather", "einsum", "pairs", "all_to_all")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Everyone:
  """The plan of "dense": everyone goes everywhere.

  Attributes:
    experts: i32 [B, K] per task.
    kept: bool [B, K] per task, False where the image is padding.
    dropped: f32 scalar per task, always 0.
  """

  experts: tuple[Array, ...]
  kept: tuple[Array, ...]
  dropped: tuple[Array, ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Results:
  """What the experts made of their images, and the way back.

  Attributes:
    outputs: [N, B, ...], [N, S, ...] or [P, ...], by strategy; of "all_to_all"
      [N, S, ...] on each device.
    plan: where each choice is in `outputs`.
    strategy: one of `STRATEGIES` but "auto".
  """

  outputs: Array
  plan: Everyone | buffers.Plan | pair_plan.PairPlan | exchange.Exchanged
  strategy: str = dataclasses.field(metadata={"static": True})

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
    return _COMBINE[self.strategy](self.outputs, self.plan, task, weights)

  @property
  def dropped(self) -> tuple[Array, ...]:
    """Per task, the share of valid images' choices that were dropped."""
    return self.plan.dropped


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
) -> str:
  """The strategy that "auto" stands for. The first rule that applies wins.

  1. A task chooses all experts (so with N = 1), and each device has all of
     them: "dense". Nothing can be saved, and it alone copies no image. But
     without gradients on one CPU: "pairs", whose tiles stay in the cache
     (benchmark row `lite0_forward_tiles`).
  2. The compiler splits arrays over several devices: "all_to_all", which moves
     no more than it must and leaves each device with work like that of one;
     where images or experts do not divide over the devices "gather", whose
     buffers [N, S, ...] the compiler splits along experts and slots.
  3. Rows of one expert interact (batch statistics): "gather", which shows an
     expert all its images at once.
  4. A capacity below B: "gather". Its buffers are then small, and the experts
     run side by side with all that automatic differentiation knows.
  5. Dropless on a CPU: "pairs". Dropless buffers have S = B slots, and then
     "gather" costs as much as "dense", N B images, where the loop costs the
     pairs there are. A CPU is busy with one tile.
  6. Dropless on an accelerator: "pairs" if an image meets at most half of the
     experts, else "gather". Tiles run one after another there and may not fill
     the device, so they must save something. (A rule of thumb: no measurement
     stands behind it.)

  Never "einsum", slower than "gather" and larger in memory but for the
  smallest sizes, and never `ragged.ragged_mlp`, which XLA:CPU computes densely.

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

  Returns:
    "dense", "gather", "pairs" or "all_to_all".
  """
  backend = compilation.backend() if backend is None else backend
  sharded = meshes.compiler_partitions() if sharded is None else sharded
  if max(ks) >= num_experts and not (sharded and exchange.parts() > 1):
    one_by_one = backend == "cpu" and not (train or sharded or rows_interact)
    return "pairs" if one_by_one else "dense"
  if sharded and exchange.fits(batch_size, num_experts):
    return "all_to_all"
  limited = capacity is not None and capacity < batch_size
  if sharded or rows_interact or limited:
    return "gather"
  if backend == "cpu" or 2 * sum(ks) <= num_experts:
    return "pairs"
  return "gather"


def apply_experts(
  fn: pairs.Expert,
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
    capacity: S of "gather" and "einsum" (see `dispatch.capacity`), beyond
      which choices are dropped, the lowest ranks first; None, and any S from B
      on, drops nothing. "dense" and "pairs" have no buffers and never drop.
      Of "all_to_all" it is shared out evenly: each device may send so many of
      its images to an expert.
    valid: bool [B], False for padding, which reaches no expert (but in
      "dense") and whose sums are 0; None: all valid.
    tile: images in a tile of "pairs"; None is `pair_plan.default_tile`.
    remat: runs the experts again in the backward pass in place of storing what
      it needs (`jax.checkpoint`). "pairs" without it stores the results of long
      matrix products and computes the rest again.
    rows_interact: the output of a row depends on the other rows that the mask
      marks, so that an expert must see all its images at once.
    train: whether gradients are going to be taken; only "auto" asks.

  Returns:
    The results.

  Raises:
    InputError: an unknown strategy, parameters whose first axes differ, no
      task, a capacity or tile below 1, "pairs" where rows interact or where
      the compiler would have to split the loop over devices, or "all_to_all"
      where images or experts do not divide over the devices.
  """
  num_experts = _count_experts(params)
  if not experts_per_task:
    raise errors.InputError("experts_per_task is empty: give at least one task")
  if strategy == "auto":
    strategy = choose_strategy(
      experts_per_task[0].shape[0],
      num_experts,
      [experts.shape[1] for experts in experts_per_task],
      capacity=capacity,
      rows_interact=rows_interact,
      train=train,
    )
  if strategy == "pairs":
    if rows_interact:
      raise errors.InputError(
        "strategy='pairs' with rows_interact=True: a tile holds only some of "
        "an expert's images, use 'gather'"
      )
    if meshes.compiler_partitions():
      raise errors.InputError(
        "strategy='pairs' on a mesh of several devices: a loop is not split, "
        "use 'gather' or 'auto' (or call it inside jax.shard_map)"
      )
    plan = pair_plan.make_pair_plan(experts_per_task, num_experts, valid)
    if tile is None:
      shape = jax.tree.leaves(x)[0].shape
      tile = pair_plan.default_tile(shape, plan.images.shape[0], num_experts)
    outputs = pairs.run_pairs(fn, params, x, plan, tile=tile, remat=remat)
    return Results(outputs, plan, strategy)
  if strategy == "all_to_all":
    ks = [experts.shape[1] for experts in experts_per_task]
    limited = capacity is not None and capacity < experts_per_task[0].shape[0]
    # As rules 3 to 6 of `choose_strategy` have it.
    few = compilation.backend() == "cpu" or 2 * sum(ks) <= num_experts
    looped = few and not (rows_interact or limited)
    share = min(1.0, sum(ks) / num_experts)
    local = _looped if looped else _mapped
    outputs, plan, _ = exchange.run_exchanged(
      local(fn, remat, share),
      params,
      x,
      experts_per_task,
      num_experts=num_experts,
      capacity=capacity,
      valid=valid,
    )
    return Results(outputs, plan, strategy)
  fn = jax.checkpoint(fn) if remat else fn
  shared = None if strategy == "dense" else 0
  return apply_stacked(
    lambda x, mask: jax.vmap(fn, (0, shared, 0))(params, x, mask),
    num_experts,
    x,
    experts_per_task,
    strategy=strategy,
    capacity=capacity,
    valid=valid,
  )


def _mapped(fn: pairs.Expert, remat: bool, share: float) -> exchange.Local:
  """The experts of a device side by side."""
  del share
  fn = jax.checkpoint(fn) if remat else fn
  return lambda params, rows, mask: (jax.vmap(fn)(params, rows, mask), ())


def _looped(fn: pairs.Expert, remat: bool, share: float) -> exchange.Local:
  """The experts of a device by a loop, which passes empty rows over.

  Args:
    fn: one expert.
    remat: as in `run_pairs`.
    share: of the rows, about how many are not empty.
  """

  def local(params: Any, rows: Any, mask: Array) -> tuple[Array, Any]:
    count, size = mask.shape
    rows = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), rows)
    owner = jnp.repeat(jnp.arange(count, dtype=jnp.int32), size)[:, None]
    plan = pair_plan.make_pair_plan([owner], count, mask.reshape(-1))
    shape = jax.tree.leaves(rows)[0].shape
    expected = max(1, round(share * count * size))
    tile = pair_plan.default_tile(shape, expected, count)
    out = pairs.run_pairs(fn, params, rows, plan, tile=tile, remat=remat)
    out = pair_plan.combine_pairs(out, plan, 0, jnp.ones(owner.shape))
    return out.reshape(count, size, *out.shape[1:]), ()

  return local


def apply_stacked(
  stacked: Callable[[Any, Array], Array],
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
  x = jax.tree.map(jnp.asarray, x)  # NumPy takes no traced index
  if strategy == "dense":
    plan, mask = _everyone(experts_per_task, num_experts, valid)
    return Results(stacked(x, mask), plan, strategy)
  if strategy not in _DISPATCH:
    raise errors.InputError(
      f"strategy={strategy!r}: use one of {', '.join(STRATEGIES)} ('auto', "
      "'pairs' and 'all_to_all' only with apply_experts)"
    )
  plan = buffers.make_plan(experts_per_task, num_experts, capacity, valid)
  slots = jax.tree.map(lambda v: _DISPATCH[strategy](v, plan), x)
  return Results(stacked(slots, plan.mask), plan, strategy)


def _everyone(experts_per_task, num_experts, valid):
  """The plan of "dense", and bool [N, B]: which images chose which expert."""
  batch = experts_per_task[0].shape[0]
  valid = jnp.ones(batch, bool) if valid is None else valid
  index = jnp.arange(num_experts)[:, None, None]
  chosen = [jnp.any(e == index, -1) for e in experts_per_task]
  plan = Everyone(
    tuple(experts_per_task),
    tuple(jnp.broadcast_to(valid[:, None], e.shape) for e in experts_per_task),
    tuple(jnp.zeros((), jnp.float32) for _ in experts_per_task),
  )
  return plan, functools.reduce(jnp.logical_or, chosen) & valid


def _combine_everyone(outputs, plan, task, weights):
  total = buffers.combine_dense(outputs, plan.experts[task], weights)
  valid = plan.kept[task][:, 0].reshape(-1, *(1,) * (total.ndim - 1))
  return jnp.where(valid, total, 0)


_DISPATCH = {"gather": buffers.dispatch, "einsum": onehot.dispatch_onehot}
_COMBINE = {
  "dense": _combine_everyone,
  "gather": buffers.combine,
  "einsum": onehot.combine_onehot,
  "pairs": pair_plan.combine_pairs,
  "all_to_all": exchange.combine_exchanged,
}


def _count_experts(params: Any) -> int:
  sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(params)}
  if len(sizes) != 1 or () in sizes:
    raise errors.InputError(
      f"params with first axes {sorted(sizes)}: every leaf must have the same "
      "first axis, one entry per expert"
    )
  return sizes.pop()[0]
