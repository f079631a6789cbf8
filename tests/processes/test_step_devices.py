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


_INFORMED = """
import json, sys, tempfile
import jax, numpy as np
from tests.support import tiny
from mtlmoe_jax.training import run
from mtlmoe_jax.devices import sharding
data, expert = map(int, sys.argv[1:])
options = {
  "model.shared_stages": 1, "model.gate_input": "stem", "model.experts": 4,
  "model.tower_sees_gate": 4, "model.upcycle_epochs": 1.0, "batch_size": 8,
  "eval.batch_size": 8, "mesh.data": data, "mesh.expert": expert,
}
this = run.set_up(tiny.config(**options), tempfile.mkdtemp())
state, mesh = this.assembly.state, this.assembly.mesh
start = np.asarray(state.params["gate_class/logits/kernel"]).ravel().tolist()
losses = []
with jax.set_mesh(mesh):
  for i in range(4):
    step = this.assembly.compiled(0, first=i < 2)
    batch = sharding.put_batch(next(this.iterator), mesh)
    state, metrics = step(state, batch)
    losses.append([float(metrics["loss"]), float(metrics["grad_norm"])])
print(json.dumps([start, losses]))
"""


@pytest.mark.slow
def test_informed_gates_start_and_train_alike_on_eight_devices():
  """Before and after one expert becomes four."""
  found = [
    json.loads(tiny.run_on_devices(devices, _INFORMED, *shape).splitlines()[-1])
    for devices, shape in ((1, ("1", "1")), (8, ("2", "4")))
  ]
  (one, alone), (other, many) = found
  assert np.any(one)
  np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(many, alone, rtol=5e-4)
