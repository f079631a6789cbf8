"""Norms with stored statistics, put into the kernels in front of them.

Statistics that are stored are no more than a factor and an offset of each
channel. Letters: h w size of a kernel, I O its channels.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

# (kernel [..., h, w, I, O], the norm's `scale`, `bias`, `mean` and `var`
# [..., O], epsilon) -> the kernel and offset in their place.
Join = Callable[[Any, Mapping[str, Any], float], tuple[Any, Any]]


def fold(
  variables: Mapping[str, Any], epsilon: float, join: Join
) -> dict[str, Any]:
  """Variables of the same network with norms of mode "folded".

  Args:
    variables: `params` and `batch_stats` of modules in which each norm `a_norm`
      with stored statistics follows a convolution `a_conv`; leaves may have
      any leading axes, such as N experts. Norms without stored statistics, and
      statistics of other modules, stay as they are.
    epsilon: of the norms.
    join: what is done with a kernel and its norm.

  Returns:
    `params`, and `batch_stats` where some are left.
  """

  def walk(params: Mapping[str, Any], stats: Mapping[str, Any]) -> Any:
    out, left = dict(params), dict(stats)
    for name in params.keys() & stats.keys():
      if name.endswith("_norm"):
        conv = name.removesuffix("_norm") + "_conv"
        norm = {**params[name], **left.pop(name)}
        kernel, offset = join(params[conv]["kernel"], norm, epsilon)
        out[conv] = {**params[conv], "kernel": kernel}
        out[name] = {"bias": offset}
      elif isinstance(params[name], Mapping):
        out[name], below = walk(params[name], left.pop(name))
        if below:
          left[name] = below
    return out, left

  params, stats = walk(variables["params"], variables.get("batch_stats", {}))
  return {"params": params, **({"batch_stats": stats} if stats else {})}


def folded(variables: Mapping[str, Any], epsilon: float) -> dict[str, Any]:
  """`fold` by NumPy, on the default device; what did not change is the same.

  Args:
    variables: as for `fold`, NumPy's arrays or JAX's.
    epsilon: of the norms.

  Returns:
    `params` and `batch_stats`, which may be empty: a caller may ask for it.
  """

  def join(*given: Any) -> tuple[Any, Any]:
    kernel, offset = join_arrays(*given)
    return jax.device_put(kernel), jax.device_put(offset)

  return {"batch_stats": {}, **fold(variables, epsilon, join)}


def shapes(variables: Mapping[str, Any], epsilon: float) -> dict[str, Any]:
  """As `folded`, of shapes and types alone."""
  return {
    "batch_stats": {},
    **fold(variables, epsilon, lambda kernel, norm, _: (kernel, norm["bias"])),
  }


def join_arrays(
  kernel: Any, norm: Mapping[str, Any], epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
  """`Join` by NumPy: a program would have to be compiled at every start."""
  of = {name: np.asarray(value) for name, value in norm.items()}
  factor = of["scale"] / np.sqrt(of["var"] + np.float32(epsilon))
  wide = factor[..., None, None, None, :]
  return np.asarray(kernel) * wide, of["bias"] - of["mean"] * factor
