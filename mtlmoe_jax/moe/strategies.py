"""The dispatch strategies by name, what each can do, and the rule of "auto".

Plain Python without JAX, so that the check of a config and its help read the
same table as the engine. A new strategy is a module with a function
`run(experts, batch)` (see `interface`) and one line in `STRATEGIES`; if "auto"
shall take it, one more line in `choose`.

Letters: B images, N experts, K experts per image and task, S slots per expert.
"""

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Strategy:
  """One way to bring images to experts.

  Attributes:
    module: where its `run` is; imported on first use.
    takes_mapped: runs experts that are mapped over N already, as a Flax module
      is; else it asks for the function of one expert.
    shows_all: an expert sees all its images at once, so that its rows may
      interact (batch statistics).
    splits: may run where the compiler splits arrays over devices.
    sparse: an expert runs only on images that chose it.
  """

  module: str
  takes_mapped: bool = True
  shows_all: bool = True
  splits: bool = True
  sparse: bool = True


STRATEGIES = {
  "dense": Strategy("mtlmoe_jax.moe.everyone", sparse=False),
  "gather": Strategy("mtlmoe_jax.moe.buffers"),
  "einsum": Strategy("mtlmoe_jax.moe.onehot"),
  "pairs": Strategy(
    "mtlmoe_jax.moe.pairs", takes_mapped=False, shows_all=False, splits=False
  ),
  "all_to_all": Strategy("mtlmoe_jax.moe.exchange", takes_mapped=False),
}
AUTO = "auto"
NAMES = (AUTO, *STRATEGIES)
# What `config.model.dispatch` may say; dense is `config.model.compute`.
SPARSE_NAMES = (AUTO, *(n for n, s in STRATEGIES.items() if s.sparse))


@dataclasses.dataclass(frozen=True)
class Situation:
  """What the rule of "auto" looks at.

  Attributes:
    batch_size: B.
    num_experts: N.
    ks: K of each task.
    capacity: S; None is dropless.
    rows_interact: an expert's output for a row depends on its other rows.
    train: whether gradients are going to be taken.
    backend: "cpu", "gpu" or "tpu".
    sharded: whether the compiler may split arrays over devices.
    experts_apart: whether experts are on several devices.
    divides: whether images and experts divide over the devices.
    row_size: numbers of one image's x; None: not known.
  """

  batch_size: int
  num_experts: int
  ks: Sequence[int]
  capacity: int | None
  rows_interact: bool
  train: bool
  backend: str
  sharded: bool
  experts_apart: bool
  divides: bool
  row_size: int | None = None


def choose(s: Situation) -> str:
  """The strategy that "auto" stands for. The first rule that applies wins.

  1. Without gradients, dropless, on one CPU: what `prefer_everyone` says,
     "dense" or "pairs", whose tiles stay in the cache.
  2. A task chooses all experts (so with N = 1), and each device has all of
     them: "dense". Nothing can be saved, and it alone copies no image.
  3. The compiler splits arrays over several devices: "all_to_all", which moves
     no more than it must and leaves each device with work like that of one;
     where images or experts do not divide over the devices "gather", whose
     buffers [N, S, ...] the compiler splits along experts and slots.
  4. A loop over pairs is preferred (`prefer_loop`): "pairs".
  5. Else "gather".

  Never "einsum", slower than "gather" and larger in memory but for the
  smallest sizes, and never `ragged.ragged_mlp`, which XLA:CPU computes densely.

  Args:
    s: the situation.

  Returns:
    "dense", "gather", "pairs" or "all_to_all".
  """
  everything = max(s.ks) >= s.num_experts
  dropless = everything or not limited(s.capacity, s.batch_size)
  forward = dropless and not (s.train or s.rows_interact)
  if forward and s.backend == "cpu" and not s.sharded:
    everyone = prefer_everyone(s.batch_size, s.num_experts, s.ks, s.row_size)
    return "dense" if everyone else "pairs"
  if everything and not (s.sharded and s.experts_apart):
    return "dense"
  if s.sharded:
    return "all_to_all" if s.divides else "gather"
  loop = prefer_loop(
    s.ks,
    s.num_experts,
    s.backend,
    rows_interact=s.rows_interact,
    limited=limited(s.capacity, s.batch_size),
  )
  return "pairs" if loop else "gather"


# Numbers of x that fit: an expert's widest maps of them, many times as large,
# are then in the cache of a core or near it.
CACHED_NUMBERS = 320_000
# Of all images and experts together: 35,000 fit, 190,000 do not.
_NUMBERS_TOGETHER = 80_000
# Batch size -> share of the experts that an image meets from which all experts
# side by side are quicker than a loop over those it meets; beyond the largest
# size they never are. Measured with Lite0 experts of 96 and 224 pixels, from
# the pixels on and behind four shared stages (docs/decisions.md, "The right
# program for each shape").
_ALL_FROM = {1: 0.65, 4: 0.8}


def prefer_everyone(
  batch_size: int,
  num_experts: int,
  ks: Sequence[int],
  row_size: int | None = None,
) -> bool:
  """Whether a forward pass on one CPU runs all experts side by side.

  A loop copies the parameters of each expert out of their stack, for the sake
  of a few images each. That pays where enough of the experts are left out, or
  where the maps of all together do not fit in the cache.

  Args:
    batch_size: B; that of an exported program may be symbolic, and counts as
      large.
    num_experts: N.
    ks: K of each task.
    row_size: numbers of one image's x; None: more than fit.
  """
  share = expected_union(num_experts, ks) / num_experts
  for size, least in sorted(_ALL_FROM.items()):
    if isinstance(batch_size, int) and batch_size <= size:
      rows = batch_size * num_experts
      fits = row_size is not None and rows * row_size <= _NUMBERS_TOGETHER
      return share >= least and (fits or batch_size == 1)
  return False


def expected_union(num_experts: int, ks: Sequence[int]) -> float:
  """Experts that an image meets on average, where tasks choose independently.

  A task leaves an expert out with probability 1 - K / N, all of them with the
  product of these: N (1 - prod(1 - K / N)). Of 3 experts two gates of k 2 meet
  2.67. Gates that agree meet fewer.

  Args:
    num_experts: N.
    ks: K of each task; above N counts as N.

  Returns:
    Between max(ks) and min(N, sum(ks)).
  """
  left_out = math.prod(max(0.0, 1 - k / num_experts) for k in ks)
  return num_experts * (1 - left_out)


def prefer_loop(
  ks: Sequence[int],
  num_experts: int,
  backend: str,
  *,
  rows_interact: bool,
  limited: bool,
) -> bool:
  """Whether the experts of one device run by a loop over tiles of pairs.

  The first rule that applies wins.

  1. Rows of one expert interact (batch statistics): no. An expert must see all
     its images at once.
  2. A capacity below B: no. Buffers are then small, and the experts run side by
     side with all that automatic differentiation knows.
  3. Dropless on a CPU: yes. Dropless buffers have S = B slots, and then they
     cost as much as "dense", N B images, where the loop costs the pairs there
     are. A CPU is busy with one tile.
  4. Dropless on an accelerator: if an image meets at most half of the experts.
     Tiles run one after another there and may not fill the device, so they must
     save something. (A rule of thumb: no measurement stands behind it.)

  Args:
    ks: K of each task.
    num_experts: N.
    backend: "cpu", "gpu" or "tpu".
    rows_interact: an expert's output for a row depends on its other rows.
    limited: an expert may have fewer slots than there are images.
  """
  if rows_interact or limited:
    return False
  return backend == "cpu" or 2 * sum(ks) <= num_experts


def limited(capacity: int | None, batch_size: int) -> bool:
  """Whether choices may be dropped: S < B."""
  return capacity is not None and capacity < batch_size
