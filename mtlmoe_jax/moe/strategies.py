"""The dispatch strategies by name, what each can do, and the rule of "auto".

Plain Python without JAX, so that the check of a config and its help read the
same table as the engine. A new strategy is a module with a function
`run(experts, batch)` (see `interface`) and one line in `STRATEGIES`; if "auto"
shall take it, one more line in `choose`.

Letters: B images, N experts, K experts per image and task, S slots per expert.
"""

import dataclasses
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


def choose(s: Situation) -> str:
  """The strategy that "auto" stands for. The first rule that applies wins.

  1. A task chooses all experts (so with N = 1), and each device has all of
     them: "dense". Nothing can be saved, and it alone copies no image. But
     without gradients on one CPU: "pairs", whose tiles stay in the cache
     (benchmark row `lite0_forward_tiles`).
  2. The compiler splits arrays over several devices: "all_to_all", which moves
     no more than it must and leaves each device with work like that of one;
     where images or experts do not divide over the devices "gather", whose
     buffers [N, S, ...] the compiler splits along experts and slots.
  3. A loop over pairs is preferred (`prefer_loop`): "pairs".
  4. Else "gather".

  Never "einsum", slower than "gather" and larger in memory but for the
  smallest sizes, and never `ragged.ragged_mlp`, which XLA:CPU computes densely.

  Args:
    s: the situation.

  Returns:
    "dense", "gather", "pairs" or "all_to_all".
  """
  if max(s.ks) >= s.num_experts and not (s.sharded and s.experts_apart):
    on_one_cpu = s.backend == "cpu" and not s.sharded
    if on_one_cpu and not (s.train or s.rows_interact):
      return "pairs"
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
