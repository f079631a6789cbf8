"""What the tests of models share."""

import jax
import numpy as np


def filled(module, *args, seed=0, **kwargs):
  """Variables of the module's shapes, filled by NumPy.

  Nothing is compiled, and the numbers do not depend on any version of JAX.
  """
  shapes = jax.eval_shape(
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
