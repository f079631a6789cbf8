import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.training import optimizer as optim
from mtlmoe_jax.utils import trees

PARAMS = {
  "stem/conv/kernel": jnp.ones((2, 2)),
  "experts/backbone/block_00/conv/kernel": jnp.ones((3, 2)),
  "experts/backbone/block_00/norm/scale": jnp.ones((3, 2)),
  "experts/condense/kernel": jnp.ones((3, 2)),
  "tower_class/out/bias": jnp.ones((2,)),
}


def config(**values):
  made = config_lib.default_config()
  made.optimizer.warmup_epochs = 0.0
  made.optimizer.schedule = "constant"
  made.optimizer.clip = 0.0
  for key, value in values.items():
    config_lib.set_path(made, key.replace("__", "."), value)
  return made


def one_update(made, gradients=None):
  optimizer, _ = optim.make_optimizer(made, PARAMS, 10, 5)
  state = optimizer.init(PARAMS)
  gradients = gradients or jax.tree.map(jnp.ones_like, PARAMS)
  updates, _ = optimizer.update(gradients, state, PARAMS)
  return updates


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_pretrained_backbones_learn_at_their_own_rate(name):
  made = config(
    optimizer__name=name,
    optimizer__weight_decay=0.0,
    optimizer__lr=1e-2,
    optimizer__pretrained_lr=1e-3,
    model__pretrained="lite",
  )
  updates = one_update(made)
  slow = float(-updates["experts/backbone/block_00/conv/kernel"][0, 0])
  fast = float(-updates["experts/condense/kernel"][0, 0])
  np.testing.assert_allclose(fast / slow, 10.0, rtol=1e-4)
  np.testing.assert_allclose(
    float(-updates["stem/conv/kernel"][0, 0]), slow, rtol=1e-6
  )


# Units from each to the last one of efficientnet_nano (0 ... 4).
LAYERS = {
  "stem/stem_conv/kernel": 4,
  "stem/block_00/project_conv/kernel": 3,
  "stem/block_00/project_norm/scale": 3,
  "experts/backbone/block_03/project_conv/kernel": 1,
  "experts/backbone/head_conv/kernel": 0,
}
NEW = {"experts/condense/kernel": 0, "gate_class/conv_0/kernel": 0}


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_layer_decay_slows_each_unit_behind_the_next(name):
  made = config(
    optimizer__name=name,
    optimizer__weight_decay=0.1,
    optimizer__layer_decay=0.5,
    model__backbone="efficientnet_nano",
    model__pretrained="weights.npz",
  )
  flat = {n: jnp.ones((3, 2)) for n in (*LAYERS, *NEW)}

  def updates(made, flat):
    optimizer, schedule = optim.make_optimizer(made, flat, 10, 5)
    assert schedule(0) == pytest.approx(made.optimizer.lr)
    gradients = jax.tree.map(lambda x: 0.3 * x, flat)
    return optimizer.update(gradients, optimizer.init(flat), flat)[0]

  found = updates(made, flat)
  made.optimizer.layer_decay = 1.0
  plain = updates(made, flat)
  # Powers of two: exact, decay of weights included.
  for key, depth in {**LAYERS, **NEW}.items():
    np.testing.assert_array_equal(found[key], plain[key] * 0.5**depth, key)
  made.optimizer.layer_decay = 0.5
  again = updates(made, dict(reversed(flat.items())))
  for key in flat:
    np.testing.assert_array_equal(found[key], again[key])


def test_layer_decay_is_of_pretrained_parameters_alone():
  made = config(optimizer__layer_decay=0.5, model__backbone="efficientnet_nano")
  flat = {n: jnp.ones((3, 2)) for n in LAYERS if n.endswith("kernel")}
  optimizer, _ = optim.make_optimizer(made, flat, 10, 5)
  found = optimizer.update(flat, optimizer.init(flat), flat)[0]
  first = found["stem/stem_conv/kernel"]
  for value in found.values():
    np.testing.assert_array_equal(value, first)


def test_without_pretrained_all_learn_at_one_rate():
  updates = one_update(config(optimizer__weight_decay=0.0))
  leaves = [float(x.ravel()[0]) for x in updates.values()]
  np.testing.assert_allclose(leaves, leaves[0], rtol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_weight_decay_spares_norms_and_biases(name):
  made = config(optimizer__name=name, optimizer__weight_decay=0.5)
  updates = one_update(made, jax.tree.map(jnp.zeros_like, PARAMS))
  for key, value in updates.items():
    if key.endswith("/kernel"):
      assert float(value.ravel()[0]) < 0, key
    else:
      assert not value.any(), key


def test_clip_bounds_the_global_norm():
  made = config(optimizer__clip=1.0, optimizer__name="sgd")
  made.optimizer.weight_decay = 0.0
  made.optimizer.lr = 1.0
  updates = one_update(made)
  # Nesterov's first step is (1 + 0.9) x the gradient, whose norm is 1.
  np.testing.assert_allclose(optax.global_norm(updates), 1.9, rtol=1e-5)


def test_cosine_schedule_ends_at_zero_after_warmup():
  made = config_lib.default_config()
  schedule = optim.make_schedule(made, 2.0, 100, 10)
  assert schedule(0) == 0.0
  np.testing.assert_allclose(schedule(10), 2.0)
  np.testing.assert_allclose(schedule(55), 1.0, rtol=1e-5)
  np.testing.assert_allclose(schedule(100), 0.0, atol=1e-6)


def test_frozen_patterns():
  made = config_lib.default_config()
  made.transfer.freeze = ("experts/",)
  made.optimizer.frozen = ("stem/.*kernel",)
  frozen = optim.frozen_names(PARAMS, made)
  assert frozen == {n for n in PARAMS if not n.startswith("tower")}
  trainable, fixed = trees.split(PARAMS, frozen)
  assert list(trainable) == ["tower_class/out/bias"]
  assert trainable.keys() | fixed.keys() == PARAMS.keys()


@pytest.mark.parametrize(
  ("pattern", "message"),
  [("expert_1/", "matches no parameter"), ("experts/(", "no regular")],
)
def test_bad_patterns(pattern, message):
  made = config_lib.default_config()
  made.transfer.freeze = (pattern,)
  with pytest.raises(errors.InputError, match=message):
    optim.frozen_names(PARAMS, made)


def test_ema_matches_a_loop():
  average = {"a": jnp.zeros(())}
  expected = 0.0
  for t in range(20):
    average = optim.ema_update(average, {"a": jnp.ones(())}, 0.9, t)
    d = min(0.9, (1 + t) / (10 + t))
    expected = expected * d + (1 - d)
  np.testing.assert_allclose(average["a"], expected, rtol=1e-5)
