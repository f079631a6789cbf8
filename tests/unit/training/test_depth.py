"""Units told by names against the units that own the parameters."""

import collections

import jax
import jax.numpy as jnp
import pytest

from mtlmoe_jax.models.backbones import BACKBONES, get_backbone
from mtlmoe_jax.training import depth
from mtlmoe_jax.utils import trees
from tests.support.models import shapes_of

# The smallest of each way to name parameters.
SMALLEST = [
  "efficientnet_nano",
  "efficientnet_b0",
  "resnet50",
  "convnext_tiny",
  "vit_small_patch14_reg4_dinov2",
]


@pytest.mark.parametrize("name", SMALLEST)
def test_every_parameter_is_in_the_unit_that_makes_it(name):
  sizes = get_backbone(name).sizes
  side = 2 * sizes.patch if sizes.family == "vit" else 64
  x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  for unit in range(sizes.last + 1):
    network = sizes.network(first=unit, last=unit)
    x, variables = shapes_of(network.init_with_output, jax.random.key(0), x)
    found = {
      parameter: depth.unit_of(sizes, parameter)
      for parameter in trees.flatten(variables["params"])
    }
    assert found and set(found.values()) == {unit}, found


@pytest.mark.parametrize("name", BACKBONES)
def test_every_unit_has_its_own_number_of_blocks(name):
  sizes = get_backbone(name).sizes
  if sizes.family == "efficientnet":
    expected = [len(blocks) for blocks in sizes.stages]
  elif sizes.family == "vit":
    expected = [sizes.depth // 4] * 4
  else:
    expected = sizes.blocks
  if sizes.family in ("efficientnet", "vit"):
    names = [f"block_{i:02d}/kernel" for i in range(sum(expected))]
  else:
    names = [
      f"stage_{stage}_block_{i:02d}/kernel"
      for stage, count in enumerate(expected, 1)
      for i in range(count)
    ]
  found = [depth.unit_of(sizes, n) for n in names]
  assert found == sorted(found)
  counts = collections.Counter(found)
  assert counts == dict(enumerate(expected, 1))


def test_a_name_of_no_unit_is_refused():
  with pytest.raises(ValueError, match="'condense/kernel'"):
    depth.unit_of(get_backbone("efficientnet_nano").sizes, "condense/kernel")
