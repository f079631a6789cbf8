"""Which arrays of some weights a backbone has, and which not."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import traverse_util

from mtlmoe_jax.models import backbones
from mtlmoe_jax.pretrained.weights import Weights

Shapes = Mapping[str, tuple[int, ...]]


def compare(
  expected: Shapes, given: Shapes, unknown: tuple[str, ...] = ()
) -> dict[str, list[str]]:
  """What keeps weights from fitting a backbone.

  Args:
    expected: shapes of the backbone's arrays, by path such as
      `params/stem_conv/kernel`.
    given: shapes of the weights, likewise.
    unknown: names of the file that have no path at all.

  Returns:
    Names by problem (missing, unexpected, misshapen), without the problems
    that no name has.
  """
  problems = {
    "missing": [name for name in expected if name not in given],
    "unexpected": [*unknown, *sorted(given.keys() - expected.keys())],
    "misshapen": [
      f"{name} (file {given[name]}, model {shape})"
      for name, shape in expected.items()
      if given.get(name, shape) != shape
    ],
  }
  return {problem: names for problem, names in problems.items() if names}


def examine(weights: Weights, backbone: str) -> tuple[list[str], bool]:
  """Lines for the eye: what was read, and every name that does not fit.

  Args:
    weights: what was read.
    backbone: name of the backbone.

  Returns:
    The lines, and whether all fits.
  """
  entry = backbones.get_backbone(backbone)
  image = jax.ShapeDtypeStruct(
    (1, entry.image_size, entry.image_size, 3), jnp.float32
  )
  variables = jax.eval_shape(
    entry.sizes.network().init, jax.random.key(0), image
  )
  flat = traverse_util.flatten_dict(dict(variables), sep="/")
  expected = {name: leaf.shape for name, leaf in flat.items()}
  problems = compare(expected, weights.shapes(), weights.unknown)
  lines = [weights.report]
  for problem, names in problems.items():
    lines += [f"{len(names)} {problem}:", *(f"  {name}" for name in names)]
  if not problems:
    lines.append(f"all {len(expected)} arrays of {backbone} are there")
  return lines, not problems
