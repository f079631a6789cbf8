"""Clock, window and schedule of the loop; what a run is put together from."""

import time

import jax
import numpy as np
import pytest

from mtlmoe_jax.devices import sharding
from mtlmoe_jax.training import assembly, clock, schedule
from mtlmoe_jax.training.schedule import Due, Length
from tests.support import tiny


@pytest.fixture
def hands(monkeypatch):
  """The time, in a list of one number."""
  now = [100.0]
  monkeypatch.setattr(time, "monotonic", lambda: now[0])
  return now


def test_the_clock_goes_on_from_earlier_parts(hands):
  made = clock.Clock(7.0)
  hands[0] += 5
  assert made.now() == made.last == 7.0  # not resumed: it stands
  made.resume(7.0)
  hands[0] += 2
  assert made.last == 7.0
  assert made.now() == 9.0
  hands[0] += 1
  assert made.last == 9.0


def test_the_first_window_and_what_is_between_them_are_not_timed(hands):
  made = clock.Window(batch_size=4)
  steps = [
    {"loss": jax.numpy.float32(n), "lr": n, "bad_steps": n} for n in (1, 3)
  ]
  for metrics in steps:
    made.add(metrics)
    made.restart()  # not empty: nothing begins
  hands[0] += 50
  assert made.mean() == {"loss": 2.0, "lr": 3.0, "bad_steps": 3.0}
  assert (made.seconds, made.images) == (0.0, 0)
  hands[0] += 10
  made.restart()
  hands[0] += 2
  made.add(steps[0])
  assert made.mean()["loss"] == 1.0
  assert (made.seconds, made.images) == (2.0, 4)


def of(watched=("validation",), **options):
  config = tiny.config(**{"log.every_steps": 4, **options})
  return schedule.make_schedule(config, Length(20, 6), set(watched))


def test_what_is_due_behind_a_step():
  made = of(**{"checkpoint.every_steps": 5})
  assert made.due(1) == Due(log=False, evaluate=False, save=False)
  assert made.due(4) == Due(log=True, evaluate=False, save=False)
  assert made.due(5) == Due(log=True, evaluate=False, save=True)
  assert made.due(6) == made.due(20) == Due(log=True, evaluate=True, save=True)
  # It stops: what it would have evaluated is left to the run that goes on.
  assert made.due(6, stopping=True) == Due(log=True, evaluate=False, save=True)
  assert made.due(7, stopping=True) == Due(log=True, evaluate=False, save=True)


def test_where_the_last_checkpoint_counts_others_are_not_saved():
  often = {"eval.every_epochs": 1, "checkpoint.every_steps": 5}
  last = of(**often, **{"eval.step": "latest"})
  assert last.due(12) == Due(log=True, evaluate=True, save=False)
  assert of(["test"], **often).due(12) == last.due(12)
  assert of([], **often).due(12) == Due(log=True, evaluate=False, save=False)
  assert of([], **often).due(20) == Due(log=True, evaluate=False, save=True)
  # Else one an epoch.
  assert of([]).due(12).save and not of([]).due(10).save


def test_an_abstract_assembly_is_the_shapes_of_a_real_one():
  config = tiny.config(**{"optimizer.frozen": ("tower_box/",)})
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  abstract = assembly.assemble(config, 3, mesh, 8, 4, abstract=True)
  real = assembly.assemble(config, 3, mesh, 8, 4)

  def facts(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), tree)

  assert facts(abstract.state) == facts(real.state)
  assert not any(
    isinstance(x, jax.Array) for x in jax.tree.leaves(abstract.state)
  )
  assert abstract.frozen == {
    name for name in real.state.params if name.startswith("tower_box/")
  }
  assert real.frozen == abstract.frozen and real.frozen
  assert not any(name in real.state.ema for name in real.frozen)
  variables = real.variables
  np.testing.assert_array_equal(
    variables["params"]["tower_class"]["out"]["bias"],
    real.state.params["tower_class/out/bias"],
  )
