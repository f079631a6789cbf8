"""What the tests of models share."""

import functools
from unittest import mock

import jax
import numpy as np

from mtlmoe_jax.models import layers

# These programs run once on a few pixels: compiling them is the whole cost.
jit = functools.partial(
  jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


def shapes_of(function, *args):
  """`jax.eval_shape`, with the convolution that is quickest to trace."""
  native = functools.partial(layers.conv2d, impl="native")
  with mock.patch.object(layers, "conv2d", native):
    return jax.eval_shape(function, *args)


def filled(module, *args, seed=0, **kwargs):
  """Variables of the module's shapes, filled by NumPy.

  Nothing is compiled, and the numbers do not depend on any version of JAX.
  """
  shapes = shapes_of(
    lambda key: module.init(key, *args, **kwargs), jax.random.key(0)
  )
  rng = np.random.default_rng(seed)

  def fill(path, leaf):
    name = path[-1].key
    draw = rng.normal(size=leaf.shape)
    if name == "kernel":
      axes = 3 if "conv" in path[-2].key or "se_" in path[-2].key else 1
      fan_in = np.prod(leaf.shape[-1 - axes : -1])
      out = draw * np.sqrt(2 / fan_in)
    elif name in ("var", "scale"):
      out = np.exp(0.1 * draw)
    else:
      out = 0.1 * draw
    return out.astype(leaf.dtype)

  return jax.tree_util.tree_map_with_path(fill, shapes)
