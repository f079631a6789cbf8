"""The model's experts, of two convolutions, by every strategy.

Letters: B images, N experts, D features of an expert.
"""

import dataclasses
import functools

import jax
import numpy as np

from mtlmoe_jax.models.backbones.efficientnet import make_sizes
from mtlmoe_jax.models.experts import Expert, one_expert, stack_experts
from mtlmoe_jax.moe import engine
from tests.support.draws import draw
from tests.support.models import MICRO, filled

B, N, D = 6, 4, 5


# Stem and head convolution, each with its norm, and nothing between.
BARE = dataclasses.replace(MICRO, sizes=make_sizes(8, (), 16, lite=False))


def expert_options(norm):
  return dict(
    sizes=BARE.sizes,
    first=0,
    norm=norm,
    layout="pool",
    features=D,
    train=True,
  )


@functools.cache
def expert_variables(norm, count=N):
  stack = stack_experts(count, shared_input=True)(**expert_options(norm))
  return filled(stack, draw(0, (2, 8, 8, 3)), np.ones((count, 2), bool))


def run_experts(norm, variables, x, chosen, *, strategy, **options):
  """Results of the model's experts, and their statistics afterwards."""
  count = len(variables["params"]["condense"]["bias"])
  if strategy == "pairs":
    expert = Expert(**expert_options(norm))
    fn, params, x = one_expert(expert, variables, x, count)
    results = engine.apply_experts(
      fn, params, x, chosen, strategy=strategy, **options
    )
    return results, {}
  stack = stack_experts(count, shared_input=strategy == "dense")
  stack = stack(**expert_options(norm))
  after = {}

  def stacked(x, mask):
    y, changed = stack.apply(variables, x, mask, mutable=["batch_stats"])
    after.update(changed)
    return y

  results = engine.apply_stacked(
    stacked, count, x, chosen, strategy=strategy, **options
  )
  return results, after


def close(found, expected, tolerance):
  """Each array to this share of its largest entry."""

  def check(a, b):
    atol = tolerance * np.max(np.abs(b), initial=0)
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=atol)

  jax.tree.map(check, found, expected)
