"""A network as a row of units, of which a module holds a part.

Unit 0 takes the image. The units behind it are stages of blocks, and in most
families one more ends the network: its head or its last norm. Parameters have
the same flat names in whatever part they are.

Letters: B images, H W map size, C channels.
"""

import bisect
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtlmoe_jax.models.layers import Conv
from mtlmoe_jax.models.moe_layer import TokenRouting
from mtlmoe_jax.models.normalization import Norm, normalized_conv

# Block name -> the routing of its V-MoE layer.
TokenRoutings = dict[str, TokenRouting]


class Sizes:
  """What the sizes of any network tell, beside the numbers of its family.

  Attributes:
    family: whose names its published weights have.
    module: the class of its parts.
    blocks: number of blocks of each stage, units 1, 2, ...
    ends: number of units behind the stages.
    padding: of convolutions with a batch norm, see `conv2d`.
    epsilon: of the batch norms; None: it has none.
  """

  family: str
  module: type["Units"]
  blocks: tuple[int, ...]
  ends: int = 1
  padding: str = "SAME"
  epsilon: float | None = None

  @property
  def features(self) -> int:
    """Channels of the last map."""
    raise NotImplementedError

  @property
  def last(self) -> int:
    """Number of the last unit."""
    return len(self.blocks) + self.ends

  @property
  def last_stride(self) -> int:
    """Number of the last unit whose output is smaller than its input."""
    return len(self.blocks)

  def numbers(self, unit: int) -> range:
    """Numbers, over the whole network from 0, of the blocks of a stage."""
    first = sum(self.blocks[: unit - 1])
    return range(first, first + self.blocks[unit - 1])

  def unit_of_block(self, block: int) -> int:
    """Number of the unit that holds a block, the inverse of `numbers`."""
    ends = list(itertools.accumulate(self.blocks))
    return bisect.bisect(ends, block) + 1

  def network(self, **options: Any) -> "Units":
    """The module; see the attributes of `Units`."""
    return self.module(self, **options)


class Maps(NamedTuple):
  """What a part of a network gives.

  Attributes:
    last: [B, H', W', C'], the output of its last unit.
    finer: [B, 2 H', 2 W', C''], the map that enters unit `sizes.last_stride`;
      None where that unit is not in the part.
    routings: block name -> the routing of each V-MoE layer.
  """

  last: jax.Array
  finer: jax.Array | None
  routings: TokenRoutings


class Units(nn.Module):
  """Units `first` to `last` of a network, without classifier.

  A family is a subclass with the method `unit`.

  Attributes:
    sizes: the sizes.
    first: number of the first unit (0: it takes the image).
    last: number of the last unit; None is that of the network.
    norm: "frozen", "batch" or "group" (see `normalization.Norm`); families
      without batch norms have no use for it.
    drop_path: largest rate of stochastic depth: block i of M drops its branch
      with i / M of it. Needs the random stream "dropout" in training.
    dtype: type of the computation.
  """

  sizes: Sizes
  first: int = 0
  last: int | None = None
  norm: str = "frozen"
  drop_path: float = 0.0
  dtype: Any = jnp.float32

  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None = None,
    train: bool = False,
  ) -> jax.Array:
    """Maps the input of unit `first` to the output of unit `last`.

    Args:
      x: [B, H, W, C]; for unit 0 the normalized image.
      mask: [B] bool, the rows that count in batch statistics; None: all.
      train: use and update batch statistics, drop paths.

    Returns:
      [B, H', W', C'] of type `dtype`.
    """
    return self.maps(x, mask, train).last

  @nn.compact
  def maps(
    self,
    x: jax.Array,
    mask: jax.Array | None = None,
    train: bool = False,
  ) -> Maps:
    """The same with all that the units have to say; see `__call__`."""
    last = self.sizes.last if self.last is None else self.last
    finer: jax.Array | None = None
    routings: TokenRoutings = {}
    for number in range(self.first, last + 1):
      if number == self.sizes.last_stride:
        finer = x
      x, of_unit = self.unit(number, x, mask, train)
      routings |= of_unit
    return Maps(x, finer, routings)

  def unit(
    self, number: int, x: jax.Array, mask: jax.Array | None, train: bool
  ) -> tuple[jax.Array, TokenRoutings]:
    """Maps the input of one unit to its output; the rest as in a call.

    Returns:
      The output, and block name -> routing of each V-MoE layer in the unit.
    """
    raise NotImplementedError

  def rate(self, block: int) -> float:
    """The share of `drop_path` of a block, numbered over the network."""
    return self.drop_path * block / sum(self.sizes.blocks)


def convolutions(
  part: nn.Module, mask: jax.Array | None, train: bool
) -> Callable[..., jax.Array]:
  """How a part of a network convolves and then normalises.

  Args:
    part: has the attributes `sizes`, `norm` and `dtype`.
    mask: [B] bool, as for `Norm`.
    train: as for `Norm`.

  Returns:
    A function of a name, the input [B, H, W, C] and what a `Conv` takes, that
    makes `NAME_conv` and `NAME_norm` and returns [B, H', W', O].
  """
  sizes, dtype = part.sizes, part.dtype

  def conv_norm(
    name: str,
    x: jax.Array,
    features: int,
    kernel_size: int = 1,
    strides: int = 1,
    groups: int = 1,
    gain: float = 2.0,
  ) -> jax.Array:
    conv = Conv(
      features,
      kernel_size,
      strides,
      groups,
      gain=gain,
      padding=sizes.padding,
      dtype=dtype,
      name=f"{name}_conv",
    )
    norm = Norm(
      part.norm, features, sizes.epsilon, dtype=dtype, name=f"{name}_norm"
    )
    return normalized_conv(conv, norm, x, mask, train)

  return conv_norm
