"""The pure step: it learns, guards against NaN and is the same on 8 devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from mtlmoe_jax import errors, models
from mtlmoe_jax.devices import sharding
from mtlmoe_jax.models import towers
from mtlmoe_jax.training import optimizer as optim
from mtlmoe_jax.training import state as state_lib
from mtlmoe_jax.training import step as step_lib
from tests.support import tiny
from tests.support.steps import CLASSES, batch, build, losses_of

# One program for several tests: it takes seconds to compile.
PLAIN = {
  "loss.weighting": "fixed",
  "model.dropout": 0.0,
  "loss.label_smoothing": 0.0,
  "optimizer.weight_decay": 0.0,
}


@pytest.mark.default_flags
@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_overfits_a_tiny_batch(weighting):
  state, step = build(**{**PLAIN, "loss.weighting": weighting})
  _, metrics = losses_of(state, step, 60)
  assert metrics[-1]["loss_class"] < 0.2 < metrics[0]["loss_class"]
  assert metrics[-1]["miou"] > metrics[0]["miou"] + 0.1
  assert metrics[-1]["top1"] == 1.0


def test_masked_tasks_leave_their_towers_alone():
  state, step = build(**PLAIN)
  data = {**batch(), "has_box": np.zeros(8, bool)}
  new, metrics = losses_of(state, step, 2, data)
  assert metrics[0]["loss_box"] == 0.0
  for name, value in state.params.items():
    if name.startswith("tower_box"):
      np.testing.assert_array_equal(value, new.params[name])
    if name.startswith("tower_class"):
      assert np.any(np.asarray(value) != np.asarray(new.params[name]))


def test_images_without_boxes_are_left_out_of_the_box_loss():
  # As images of a data set without boxes beside those of one with boxes.
  mixed = {**batch(), "has_box": np.arange(8) % 2 == 0}
  mixed["box"][1::2] = np.nan
  pred = np.random.default_rng(1).uniform(0.0, 0.4, (8, 4)).astype(np.float32)
  pred[:, 2:] += 0.5
  config = tiny.config(**{"model.tasks": "box"})

  def gradient(rows):
    data = {name: value[rows] for name, value in mixed.items()}

    def loss(box):
      outputs = models.Outputs(None, box, {}, None, {})
      return step_lib.loss_of(outputs, data, config)[0]

    return jax.jit(jax.value_and_grad(loss))(pred[rows])

  with_all, alone = gradient(np.arange(8)), gradient(np.arange(0, 8, 2))
  np.testing.assert_array_equal(with_all[0], alone[0])
  np.testing.assert_array_equal(with_all[1][::2], alone[1])
  assert np.all(np.any(np.asarray(alone[1]) != 0, 1))
  assert not with_all[1][1::2].any()


def test_frozen_parameters_and_their_moments_are_absent():
  state, step = build(frozen_patterns=("experts/backbone/",))
  assert not any(
    "experts/backbone" in jax.tree_util.keystr(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(state.opt_state)
  )
  new, _ = losses_of(state, step, 2)
  for name, value in state.params.items():
    same = np.array_equal(value, new.params[name])
    assert same == name.startswith("experts/backbone/"), name


def test_a_bad_step_changes_nothing_but_the_count():
  state, step = build(**PLAIN)
  poisoned = batch()
  poisoned["box"] = np.full((8, 4), np.nan, np.float32)
  new, metrics = step(state, poisoned)
  assert int(metrics["bad_steps"]) == 1 and int(new.step) == 1
  for name, value in state.params.items():
    np.testing.assert_array_equal(value, new.params[name], err_msg=name)
  new, metrics = step(new, batch())
  assert int(metrics["bad_steps"]) == 0


class Linear:
  """A model of mean colours: nothing random, nothing to compile."""

  def apply(self, variables, images, **_):
    params = variables["params"]
    features = jnp.mean(images.astype(jnp.float32), (1, 2)) / 255
    box = towers.decode_box(features @ params["box"])
    return models.Outputs(features @ params["class"], box, {}, None, {}), {}


def test_mixup_comes_from_the_step_and_masks_the_boxes():
  config = tiny.config(**{"data.augment.mixup": 1.0})
  config.optimizer.schedule = "constant"
  config.optimizer.warmup_epochs = 0.0
  params = {"class": np.ones((3, CLASSES), "f4"), "box": np.ones((3, 4), "f4")}
  optimizer, schedule = optim.make_optimizer(config, params, 100, 10)
  start = state_lib.create_state(
    {"params": jax.tree.map(jnp.asarray, params)}, optimizer, frozenset(), False
  )
  step = jax.jit(
    step_lib.make_train_step(Linear(), optimizer, schedule, frozenset(), config)
  )

  def after(state):
    new, metrics = step(state, batch())
    assert metrics["loss_box"] == 0
    np.testing.assert_array_equal(new.params["box"], params["box"])
    return np.asarray(new.params["class"])

  first = after(start)
  assert np.any(first != params["class"])
  np.testing.assert_array_equal(after(start), first)
  # Nothing but the number of the step differs, and so the images mixed.
  assert np.any(after(start.replace(step=start.step + 1)) != first)


def test_micro_batches_add_up_to_the_batch():
  """Without noise, dropout and balance a mean over parts is that over all."""
  options = {
    "model.gate": "dense",
    "model.dropout": 0.0,
    "loss.importance": 0.0,
    "loss.load": 0.0,
    "optimizer.name": "sgd",
  }
  state, step = build(**options)
  whole, (first, *_) = losses_of(state, step, 2)
  state, step = build(**options, micro_batches=4)
  parts, (other, *_) = losses_of(state, step, 2)
  for key in ("loss", "loss_class", "loss_box", "grad_norm", "top1"):
    np.testing.assert_allclose(other[key], first[key], rtol=1e-5, err_msg=key)
  for name, value in whole.params.items():
    np.testing.assert_allclose(
      parts.params[name], value, atol=1e-6, err_msg=name
    )


@pytest.mark.parametrize(
  ("shape", "message"),
  [
    (
      (1, 1, 1),
      r"batch_size=6 does not .* 1 devices and 4 micro-batches: use 8",
    ),
  ],
)
def test_a_batch_that_does_not_divide_is_refused(shape, message):
  mesh = sharding.make_mesh(*shape)
  with pytest.raises(errors.InputError, match=message):
    sharding.check_batch(6, mesh, "batch_size", 4)


def test_where_leaves_live():
  shape = {"data": 2, "expert": 4, "fsdp": 2}
  mesh = jax.sharding.AbstractMesh(tuple(shape.values()), tuple(shape))
  spec = functools.partial(sharding.leaf_spec, mesh=mesh)
  big = 2**8
  assert spec("experts/x/kernel", (8, big, 512)) == P("expert", None, "fsdp")
  assert spec("opt/mu/experts/x/kernel", (8, 3)) == P("expert")
  assert spec("stem/conv/kernel", (3, 3, 32, 512)) == P(
    None, None, None, "fsdp"
  )
  assert spec("stem/conv/kernel", (512, 31)) == P()  # small
  assert spec("stem/conv/kernel", (big, big + 1)) == P("fsdp")
  assert spec("experts/x/kernel", (3, big, big)) == P(None, "fsdp")
  assert spec("step", ()) == P()
  with pytest.raises(errors.InputError, match="3 and 6 experts do not divide"):
    sharding.check_experts((3, 6), mesh)
  sharding.check_experts((3, 8), mesh)
