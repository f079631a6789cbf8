"""What is drawn before the first step, and what is not."""

import jax
import numpy as np

from mtlmoe_jax import models, pretrained
from mtlmoe_jax.devices import sharding
from mtlmoe_jax.training import initialization
from mtlmoe_jax.utils import trees
from tests.support import tiny


def drawn(config):
  model = models.build_model(config, 3)
  mesh = sharding.make_mesh(**config.mesh)
  variables = initialization.init_variables(model, config, mesh)
  return trees.flatten(jax.device_get(variables))


def test_what_weights_replace_is_not_drawn():
  config = tiny.config(**{"model.shared_stages": 1, "model.norm": "frozen"})
  before = drawn(config)
  config.model.pretrained = "somewhere"
  after = drawn(config)
  assert after.keys() == before.keys()
  places = {"stem": 0, "experts": 0}
  for name, value in after.items():
    old = before[name]
    assert (value.shape, value.dtype) == (old.shape, old.dtype)
    if pretrained.fills(name):
      assert not value.any()
      places[name.split("/")[1]] += 1
    else:
      np.testing.assert_array_equal(value, old)
  assert all(places.values())
  # A run that starts from another whole one checks what it takes by itself.
  config.transfer.source = "elsewhere"
  again = drawn(config)
  for name, value in again.items():
    np.testing.assert_array_equal(value, before[name])


def test_routers_of_token_experts_are_drawn():
  assert pretrained.fills("params/stem/block_3/moe/experts/up/kernel")
  assert not pretrained.fills("params/stem/block_3/moe/gate/logits/kernel")
  assert not pretrained.fills("params/gate/logits/kernel")
  assert pretrained.fills("batch_stats/gate_backbone/head_norm/mean")
