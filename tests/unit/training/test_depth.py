"""Units told by names against the units that own the parameters."""

import collections

import jax
import jax.numpy as jnp
import pytest

from mtlmoe_jax.models.backbones import BACKBONES, backbone
from mtlmoe_jax.training import depth
from mtlmoe_jax.training import optimizer as optim
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
  variant = backbone(name).variant
  side = 2 * variant.patch if variant.family == "vit" else 64
  x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  for unit in range(variant.last + 1):
    network = variant.network(first=unit, last=unit)
    x, variables = shapes_of(network.init_with_output, jax.random.key(0), x)
    found = {
      parameter: depth.unit_of(variant, parameter)
      for parameter in optim.flatten(variables["params"])
    }
    assert found and set(found.values()) == {unit}, found


@pytest.mark.parametrize("name", BACKBONES)
def test_every_unit_has_its_own_number_of_blocks(name):
  variant = backbone(name).variant
  if variant.family == "efficientnet":
    sizes = [len(blocks) for blocks in variant.stages]
  elif variant.family == "vit":
    sizes = [variant.depth // 4] * 4
  else:
    sizes = variant.blocks
  if variant.family in ("efficientnet", "vit"):
    names = [f"block_{i:02d}/kernel" for i in range(sum(sizes))]
  else:
    names = [
      f"stage_{stage}_block_{i:02d}/kernel"
      for stage, count in enumerate(sizes, 1)
      for i in range(count)
    ]
  found = [depth.unit_of(variant, n) for n in names]
  assert found == sorted(found)
  counts = collections.Counter(found)
  assert counts == dict(enumerate(sizes, 1))


def test_a_name_of_no_unit_is_refused():
  with pytest.raises(ValueError, match="'condense/kernel'"):
    depth.unit_of(backbone("efficientnet_nano").variant, "condense/kernel")
