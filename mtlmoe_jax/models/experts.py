"""Experts: feature extractors with their own condense layer, N at a time.

Letters: B images, N experts, S rows an expert sees (all B, or its slots),
H W C the input, G side of the coarse grid, D condensed width.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtlmoe_jax.models.backbones.units import Sizes
from mtlmoe_jax.models.layers import average_to, scaled_normal
from mtlmoe_jax.models.normalization import EPSILON, fold, uses_stored


class Expert(nn.Module):
  """The units of a backbone from `first` on, then the condense layer.

  Condense is one fully connected layer with a swish. "pool" applies it to the
  globally averaged features (the poster). "spatial" averages to a grid of
  G x G cells (whatever the image size) and applies it
  to each cell, so that what follows knows where. "pyramid" does the same with
  the map before the last stride beside the last one (a lateral connection, Lin
  et al. 2017): finer cells for small images.

  Attributes:
    sizes: of the backbone.
    first: number of its first unit in the expert; beyond the last unit the
      expert is its condense layer alone.
    norm: see `normalization.Norm`.
    layout: of the condensed features, "pool", "spatial" or "pyramid"; the
      latter asks for `first` up to the unit of the last stride.
    features: D.
    grid: G, of "spatial" and "pyramid".
    drop_path: rate of stochastic depth.
    train: use and update batch statistics, drop paths.
    dtype: type of the computation.
    hidden: width of a layer with swish in front of condense; 0: none.
  """

  sizes: Sizes
  first: int
  norm: str
  layout: str
  features: int
  grid: int = 7
  drop_path: float = 0.0
  train: bool = False
  dtype: Any = jnp.float32
  hidden: int = 0

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Maps [S, H, W, C] and a mask [S] to [S, D] or [S, G, G, D].

    Args:
      x: the images, or the map of the shared stem.
      mask: bool, the rows that count in batch statistics; None: all.

    Returns:
      Condensed features of type `dtype`.
    """
    maps = [x]
    if self.first <= self.sizes.last:
      outputs = self.sizes.network(
        first=self.first,
        norm=self.norm,
        drop_path=self.drop_path,
        dtype=self.dtype,
        name="backbone",
      ).maps(x, mask, self.train)
      maps = [outputs.last]
      if self.layout == "pyramid":
        assert outputs.finer is not None  # `build_model` looks at it
        maps.append(outputs.finer)
    if self.layout == "pool":
      x = jnp.mean(maps[0], (1, 2))
    else:
      grid = (self.grid, self.grid)
      x = jnp.concatenate([average_to(m, grid) for m in maps], -1)
    if self.hidden:
      narrow = nn.Dense(
        self.hidden,
        dtype=self.dtype,
        kernel_init=scaled_normal(2.0),
        name="hidden",
      )
      x = nn.swish(narrow(x))
    condense = nn.Dense(
      self.features,
      dtype=self.dtype,
      kernel_init=scaled_normal(2.0),
      name="condense",
    )
    return nn.swish(condense(x))


def stack_experts(
  count: int, *, shared_input: bool, remat: bool = False
) -> type[Expert]:
  """`Expert` mapped over N: every parameter has a leading axis N.

  Args:
    count: N.
    shared_input: True where all experts see the same rows: x [B, H, W, C]
      and a mask [N, B]; else x is [N, S, H, W, C] and the mask [N, S].
    remat: the backward pass runs the expert again in place of keeping its
      intermediate maps.

  Returns:
    A module class whose instances return [N, S, D] or [N, S, G, G, D]. All
    forms have the same parameters.
  """
  return nn.vmap(
    nn.remat(Expert) if remat else Expert,
    variable_axes={"params": 0, "batch_stats": 0},
    split_rngs={"params": True, "dropout": True},
    in_axes=(None if shared_input else 0, 0),
    out_axes=0,
    axis_size=count,
  )


def one_expert(
  expert: Expert,
  variables: Any,
  x: jax.Array,
  count: int,
  key: jax.Array | None = None,
) -> tuple[Callable[[Any, Any, jax.Array], jax.Array], Any, Any]:
  """The mapped experts as the function of one that `engine` takes.

  Drop path draws for each (image, expert) pair from a key of its own, so that
  the result does not depend on which images share a call.

  Args:
    expert: unbound.
    variables: of the module that `stack_experts` makes, leading axis N.
    x: [B, H, W, C].
    count: N.
    key: of drop path; None: no random numbers are drawn.

  Returns:
    A function of (params of one expert, rows, mask) whose result is float32,
    the params of all experts, and the rows.
  """
  # Once for each expert, not for each of its pairs.
  if expert.norm != "folded" and uses_stored(expert.norm, expert.train):
    expert = expert.clone(norm="folded", parent=None)
    epsilon = expert.sizes.epsilon
    variables = fold(variables, EPSILON if epsilon is None else epsilon)
  if key is None:

    def plain(variables: Any, x: jax.Array, mask: jax.Array) -> jax.Array:
      outputs: Any = expert.apply(variables, x, mask)
      return outputs.astype(jnp.float32)

    return plain, variables, x

  def random(params: Any, rows: Any, mask: jax.Array) -> jax.Array:
    del mask
    variables, key = params

    def single(image: jax.Array, index: jax.Array) -> jax.Array:
      rngs = {"dropout": jax.random.fold_in(key, index)}
      outputs: Any = expert.apply(variables, image[None], None, rngs=rngs)
      return outputs[0]

    return jax.vmap(single)(*rows).astype(jnp.float32)

  keys = jax.random.split(key, count)
  return random, (variables, keys), (x, jnp.arange(x.shape[0]))
