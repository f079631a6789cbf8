"""Ten steps on any mesh are the ten steps of one device."""

import functools
import json

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from mtlmoe_jax.devices import sharding
from tests.support import steps, tiny

STEPS, IMAGES, EXPERTS = 10, 16, 8
ONE = (1, 1, 1)
# (data, expert, fsdp): of 2, 4 and 8 devices.
MESHES = (
  (2, 1, 1),
  (4, 1, 1),
  (8, 1, 1),
  (4, 2, 1),
  (2, 4, 1),
  (1, 8, 1),
  (4, 1, 2),
  (2, 2, 2),
  (1, 4, 2),
)
SOME = ((8, 1, 1), (2, 4, 1), (2, 2, 2))
# compute and dispatch, norm, optimiser, meshes. AdamW's first step has the size
# of the learning rate however small a gradient is, so that rounding alone moves
# a few parameters whose gradients are nearly zero there (by 2e-4 with
# gather on eight devices), and the biases in front of batch norms, whose
# gradients are zero. SGD has no such steps.
CASES = {
  "all_to_all, group": ("all_to_all", "group", "adamw", MESHES),
  "all_to_all, batch": ("all_to_all", "batch", "sgd", MESHES),
  "all_to_all, frozen": ("all_to_all", "frozen", "adamw", SOME),
  "gather, group": ("gather", "group", "sgd", SOME),
  "gather, batch": ("gather", "batch", "sgd", SOME),
  "einsum, group": ("einsum", "group", "sgd", SOME),
  "einsum, batch": ("einsum", "batch", "sgd", SOME),
  "dense, group": ("dense", "group", "sgd", SOME),
  "dense, batch": ("dense", "batch", "sgd", SOME),
}


# So much that ten steps of either are seen in the loss.
RATES = {"adamw": 3e-3, "sgd": 0.05}


@functools.cache
def start(name):
  """State and step of a case, of no mesh yet."""
  dispatch, norm, optimizer, _ = CASES[name]
  compute = {"model.compute": "dense"}
  if dispatch != "dense":
    compute = {"model.compute": "sparse", "model.dispatch": dispatch}
  return steps.parts(
    **compute,
    **{
      "model.experts": EXPERTS,
      "model.k": "2,1",
      "model.norm": norm,
      "optimizer.name": optimizer,
      "optimizer.lr": RATES[optimizer],
    },
  )


def train(name, shape):
  """Losses of the steps and the parameters after them."""
  mesh = jax.make_mesh(
    shape,
    ("data", "expert", "fsdp"),
    axis_types=(AxisType.Auto,) * 3,
    devices=jax.devices()[: int(np.prod(shape))],
  )
  with jax.set_mesh(mesh):
    state, step = steps.placed(*start(name), mesh)
    batch = steps.batch(IMAGES)
    batch["has_box"][3] = batch["valid"][5] = False
    state, metrics = steps.losses_of(state, step, STEPS, batch)
  names = ("loss", "loss_class", "loss_box")
  losses = {key: [m[key] for m in metrics] for key in names}
  specs = {str(v.sharding.spec) for v in state.params.values()}
  return losses, jax.device_get(state.params), specs


def on_devices(name):
  """What a test looks at, printed by a process of eight devices."""
  sharding.SPLIT_FROM = 64  # The model is tiny.
  expected, params, _ = train(name, ONE)
  out = {"one": expected}
  for shape in CASES[name][3]:
    losses, found, specs = train(name, shape)
    apart = {k: float(np.abs(v - params[k]).max()) for k, v in found.items()}
    worst = max(apart, key=lambda key: apart[key])
    out[str(shape)] = [losses, worst, apart[worst], sorted(specs)]
  print(json.dumps(out))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CASES)
def test_every_mesh_trains_as_one_device(name):
  program = (
    "from tests.processes import test_parallel_training as t; "
    f"t.on_devices({name!r})"
  )
  out = json.loads(
    tiny.run_on_devices(8, program, seconds=1100).splitlines()[-1]
  )
  one = out.pop("one")
  assert one["loss"][-1] < one["loss"][0]
  assert len(out) == len(CASES[name][3])
  for shape, (losses, worst, apart, specs) in out.items():
    for key, values in losses.items():
      np.testing.assert_allclose(
        values, one[key], rtol=1e-5, err_msg=f"{shape} {key}"
      )
    assert apart < 1e-4, (shape, worst)
    _, expert, fsdp = map(int, shape.strip("()").split(","))
    # An axis of one device is in the specs, too.
    assert any("expert" in spec for spec in specs) or expert == 1
    assert any("fsdp" in spec for spec in specs) == (fsdp > 1)
