"""The training step on eight devices is that of one."""

import json

import numpy as np
import pytest

from tests.support import tiny

_EIGHT = """
import json, sys
from tests.support import steps as t
from mtlmoe_jax.devices import sharding
import jax
data, expert = map(int, sys.argv[1:])
mesh = sharding.make_mesh(data, expert)
with jax.set_mesh(mesh):
  state, step = t.build(mesh, **{"model.experts": 4})
  leaf = state.params["experts/condense/kernel"]
  _, metrics = t.losses_of(state, step, 3)
print(json.dumps([str(leaf.sharding.spec), metrics]))
"""


def run_on(devices, data, expert):
  out = tiny.run_on_devices(devices, _EIGHT, str(data), str(expert))
  return json.loads(out.splitlines()[-1])


@pytest.mark.slow
def test_eight_devices_train_as_one():
  _, alone = run_on(1, 1, 1)
  spec, many = run_on(8, 2, 4)
  assert "expert" in spec
  for one, other in zip(alone, many, strict=True):
    for key in ("loss", "loss_class", "loss_box", "grad_norm"):
      np.testing.assert_allclose(other[key], one[key], rtol=2e-4, err_msg=key)
