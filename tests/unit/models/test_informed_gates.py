"""Gates that see features, routers, what towers are told, equal experts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.models import gates
from mtlmoe_jax.moe import routing
from tests.support.models import CLASSES, IMAGES, filled, jit, make, shapes_of

Z = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
FEATURES = dict(gate_input="stem", shared_stages=1, norm="group")


def options(**changes):
  return gates.GateOptions("noisy_top_k", 3, 4, sees="stem", **changes)


def leaves(model):
  shapes = shapes_of(model.init, jax.random.key(0), IMAGES)
  return set(traverse_util.flatten_dict(shapes["params"], sep="/"))


@functools.cache
def informed(**changes):
  model = make(**FEATURES, **changes)
  return model, filled(model, IMAGES)


def test_features_are_standardized_and_take_no_gradient():
  module = gates.FeatureInput()
  variables = {
    "batch_stats": {"mean": jnp.full(5, 2.0), "std": jnp.full(5, 4.0)}
  }
  out, pull = jax.vjp(lambda z: module.apply(variables, z), Z)
  np.testing.assert_allclose(out, (Z - 2) / 4, rtol=1e-6)
  np.testing.assert_array_equal(pull(out)[0], 0)


def test_a_linear_router_by_hand():
  head = gates.Head(options(temperature=2.0))
  variables = filled(head, Z)
  layer = variables["params"]["logits"]
  expected = (Z @ layer["kernel"] + layer["bias"]) / 2
  np.testing.assert_allclose(
    head.apply(variables, Z).logits, expected, rtol=1e-5, atol=1e-6
  )


def test_a_bent_router_starts_as_the_linear_one():
  head = gates.Head(options(router="mlp"))
  variables = head.init(jax.random.key(0), Z)
  layer = variables["params"]["logits"]
  np.testing.assert_allclose(
    head.apply(variables, Z).logits,
    Z @ layer["kernel"] + layer["bias"],
    rtol=1e-5,
    atol=1e-6,
  )
  slope = jax.grad(lambda p: jnp.sum(head.apply({"params": p}, Z).logits ** 2))(
    variables["params"]
  )
  assert np.any(slope["bend"]["kernel"])  # ... and can leave it.


def test_a_cosine_router_by_hand():
  head = gates.Head(options(router="cosine"))
  variables = filled(head, Z)
  p = variables["params"]["cosine"]
  x = Z @ p["project"]["kernel"] + p["project"]["bias"]
  cosines = x @ p["prototypes"]
  cosines /= np.linalg.norm(x, axis=1, keepdims=True)
  cosines /= np.linalg.norm(p["prototypes"], axis=0)
  np.testing.assert_allclose(
    head.apply(variables, Z).logits,
    np.exp(p["log_scale"]) * cosines,
    rtol=1e-4,
    atol=1e-6,
  )


def test_experts_left_out_are_not_selected_and_weigh_nothing():
  key, k = jax.random.key(1), 2
  out = routing.left_out(key, (500, 4), 0.5, k)
  gone = np.asarray(out) < 0
  assert 0.2 < gone.mean() < 0.3
  assert (4 - gone.sum(1) >= k).all()  # Enough are left.
  logits = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
  for kind in ("noisy_top_k", "top_k"):
    found = routing.separate_routing(kind, routing.Scores(logits, bias=out), k)
    assert not np.take_along_axis(gone, np.asarray(found.experts), 1).any()
    # Weights are those of the logits, whoever was left out.
    picked = np.take_along_axis(logits, np.asarray(found.experts), 1)
    shown = jax.nn.softmax(picked) if kind == "noisy_top_k" else None
    if shown is not None:
      np.testing.assert_allclose(found.weights, shown, rtol=1e-5)


def test_dropout_of_experts_is_for_training_alone():
  gate = gates.Gate(options(dropout=0.9, noise=0.0), 1)
  variables = filled(gate, Z)
  keys = {"gating": jax.random.key(0)}
  plain = gate.apply(variables, Z)
  same = gate.apply(variables, Z, rngs=keys)
  np.testing.assert_array_equal(plain.experts, same.experts)
  other = gate.apply(variables, Z, True, rngs=keys)
  assert not np.array_equal(plain.experts, other.experts)


def test_information_by_hand():
  sure = jnp.eye(4)
  assert float(routing.information_loss(sure)) == pytest.approx(-np.log(4))
  same = jnp.tile(jnp.array([[0.7, 0.3]]), (5, 1))
  assert float(routing.information_loss(same)) == pytest.approx(0, abs=1e-6)
  # Padding does not count.
  both = jnp.concatenate([sure, jnp.ones((4, 4)) / 4])
  valid = jnp.arange(8) < 4
  assert float(routing.information_loss(both, valid)) == pytest.approx(
    -np.log(4)
  )
  slope = jax.grad(lambda p: routing.information_loss(p))(sure)
  assert np.isfinite(slope).all()


def test_one_expert_has_no_information():
  assert float(routing.information_loss(jnp.ones((3, 1)))) == 0


def test_gates_that_see_features_have_no_convolutions():
  model, variables = informed()
  names = set(traverse_util.flatten_dict(variables["params"], sep="/"))
  assert not any("gate" in n and "conv" in n for n in names)
  moments = variables["batch_stats"]["gate_input"]
  assert moments["mean"].shape == moments["std"].shape
  # A gate alone sees what the whole model's gates see.
  run = jit(lambda v, x: model.apply(v, x).routing)
  alone = jit(lambda v, x: model.apply(v, x, method="routings"))
  for task, whole in run(variables, IMAGES).items():
    only = alone(variables, IMAGES)[task]
    np.testing.assert_array_equal(only.experts, whole.experts)
    np.testing.assert_allclose(only.probs, whole.probs, rtol=1e-5)


def test_known_features_give_the_same_answer_without_pixels():
  model, variables = informed()
  stem = jit(lambda v, x: model.apply(v, x, method=shared))
  features = stem(variables, IMAGES)
  empty = IMAGES[:, :0, :0]
  run = jit(lambda v, x, f: model.apply(v, x, features=f))
  known = run(variables, empty, features)
  whole = jit(model.apply)(variables, IMAGES)
  np.testing.assert_allclose(known.logits, whole.logits, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(known.box, whole.box, rtol=1e-4, atol=1e-5)


def shared(model, images):
  x = (images.astype(jnp.float32) - jnp.array(model.backbone.mean)) / jnp.array(
    model.backbone.std
  )
  return model._shared(x, None, None, False)[0]


def test_choices_take_the_place_of_the_gates():
  model, variables = informed()
  run = jit(lambda v, x, c: model.apply(v, x, choices=c))
  own = jit(model.apply)(variables, IMAGES)
  choices = {t: (r.experts, r.weights) for t, r in own.routing.items()}
  same = run(variables, IMAGES, choices)
  np.testing.assert_allclose(same.logits, own.logits, rtol=1e-5, atol=1e-6)
  # The micro network gives these images much the same route.
  rolled = {t: ((e + 1) % 3, w) for t, (e, w) in choices.items()}
  other = run(variables, IMAGES, rolled)
  assert not np.allclose(other.logits, own.logits)
  # The box has its own gate: with that left alone it does not change.
  half = run(variables, IMAGES, {**choices, "class": rolled["class"]})
  np.testing.assert_allclose(half.box, own.box, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(half.logits, other.logits, rtol=1e-5, atol=1e-6)


def test_towers_are_told_what_the_gate_knows():
  plain, told = informed()[0], make(**FEATURES, tower_sees_gate=3)
  assert leaves(told) == leaves(plain)  # No router but the gate's own.
  model, variables = told, filled(told, IMAGES)
  kernel = variables["params"]["tower_class"]["hidden"]["kernel"]
  width = informed()[1]["params"]["tower_class"]["hidden"]["kernel"].shape[0]
  assert kernel.shape[0] == width + 3
  own = jit(model.apply)(variables, IMAGES)
  # Exchanged choices of experts leave what the tower is told.
  choices = {t: (r.experts, r.weights) for t, r in own.routing.items()}
  run = jit(lambda v, x, c: model.apply(v, x, choices=c))
  same = run(variables, IMAGES, choices)
  np.testing.assert_allclose(same.logits, own.logits, rtol=1e-5, atol=1e-6)


def test_one_expert_may_be_told_what_a_router_of_more_knows():
  model = make(**FEATURES, experts=1, k="1", tower_sees_gate=4)
  variables = filled(model, IMAGES)
  router = variables["params"]["tower_gate_class"]["logits"]["kernel"]
  assert router.shape[1] == 4
  run = jit(lambda v, x: model.apply(v, x).logits)
  before = run(variables, IMAGES)
  flat = traverse_util.flatten_dict(variables, sep="/")
  flat["params/tower_gate_class/logits/kernel"] = -router
  after = run(traverse_util.unflatten_dict(flat, sep="/"), IMAGES)
  assert not np.allclose(before, after)


@pytest.mark.parametrize("k", ["1", "2"])
@pytest.mark.parametrize("compute", ["dense", "sparse"])
def test_one_expert_stands_for_equal_ones(k, compute):
  model = make(**FEATURES, k=k, compute=compute)
  variables = filled(model, IMAGES)

  def equal(count):
    def of(path, leaf):
      is_expert = path[1].key == "experts"
      return jnp.repeat(leaf[:1], count, 0) if is_expert else leaf

    return jax.tree_util.tree_map_with_path(of, variables)

  valid = np.array([True] * 4 + [False])
  run = jit(lambda v, x, m: model.apply(v, x, valid=m))
  one = model.clone(upcycling=True)
  stands = jit(lambda v, x, m: one.apply(v, x, valid=m))
  whole, single = run(equal(3), IMAGES, valid), stands(equal(1), IMAGES, valid)
  for a, b in ((whole.logits, single.logits), (whole.box, single.box)):
    np.testing.assert_allclose(a[valid], b[valid], rtol=1e-4, atol=1e-5)


def test_a_hidden_layer_of_the_experts():
  narrow = leaves(make(**FEATURES, expert_dim=2))
  assert narrow - leaves(informed()[0]) == {
    "experts/hidden/kernel",
    "experts/hidden/bias",
  }


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(gate_input="stem"), "there is no stem"),
    (dict(gate_input="all"), "needs weights"),
    (dict(gate_start="kmeans"), "can only start at zeros"),
    (dict(**FEATURES, gate_start="best"), "must be auto, or zeros, kmeans"),
    (dict(**FEATURES, gate_start="zeros,kmeans,zeros"), "one per task"),
    (
      dict(**FEATURES, gate_start="zeros,kmeans", share_gate=True),
      "name one start",
    ),
    (dict(upcycle_epochs=1.0, break_symmetry=0.1), "copies of one"),
    (dict(expert_dropout=1.0), r"in \[0, 1\)"),
    (dict(tower_sees_gate=-1), "0 .none. or more"),
    (dict(router="deep"), "one of linear, cosine, mlp"),
  ],
)
def test_what_cannot_be_is_refused(changes, message):
  config = config_lib.default_config()
  config.model.update(**changes)
  with pytest.raises(errors.InputError, match=message):
    config_lib.check_config(config)


def test_each_task_has_its_start():
  config = config_lib.default_config()
  starts = lambda: config_lib.resolve(config).gate_starts  # noqa: E731
  assert starts() == ("zeros", "zeros")
  config.model.shared_stages, config.model.gate_input = 1, "stem"
  assert starts() == ("discriminant", "kmeans")
  config.model.gate_start = ("kmeans", "auto")
  assert starts() == ("kmeans", "kmeans")
  config.model.tasks, config.model.gate_start = "box", "zeros"
  assert starts() == ("zeros",)


def test_the_whole_backbone_may_be_what_gates_see():
  config = config_lib.default_config()
  config.model.update(
    backbone="efficientnet_nano",
    gate_input="all",
    shared_stages=1,
    pretrained="x.npz",
  )
  config.data.image_size = 32
  model = models.build_model(config, CLASSES)
  shapes = shapes_of(model.init, jax.random.key(0), IMAGES)
  flat = traverse_util.flatten_dict(shapes["params"], sep="/")
  own = {n.split("/", 1)[1] for n in flat if n.startswith("gate_backbone/")}
  experts = {
    n.removeprefix("experts/backbone/")
    for n in flat
    if n.startswith("experts/backbone/")
  }
  assert own == experts
  width = shapes["batch_stats"]["gate_input"]["mean"].shape[0]
  assert flat["gate_class/logits/kernel"].shape[0] == width


def test_shared_experts_serve_every_image():
  model = make(**FEATURES, experts=4, k="2", shared_experts=1)
  variables = filled(model, IMAGES)
  assert variables["params"]["gate_class"]["logits"]["kernel"].shape[1] == 3
  out = jit(model.apply)(variables, IMAGES)
  for found in out.routing.values():
    np.testing.assert_array_equal(found.experts[:, 0], 0)
    np.testing.assert_array_equal(found.weights[:, 0], 1)
    assert (np.asarray(found.experts[:, 1]) > 0).all()
    assert found.probs.shape[1] == 4 and not np.any(found.probs[:, 0])
  # As a mixture without sharing whose choices say the same.
  plain = make(**FEATURES, experts=4, k="2")
  choices = {t: (r.experts, r.weights) for t, r in out.routing.items()}
  flat = traverse_util.flatten_dict(variables, sep="/")
  wider = {
    n: np.pad(v, [(0, 0)] * (np.ndim(v) - 1) + [(1, 0)])
    if n.startswith(("params/gate_",))
    else v
    for n, v in flat.items()
  }
  same = jit(lambda v, x, c: plain.apply(v, x, choices=c))(
    traverse_util.unflatten_dict(wider, sep="/"), IMAGES, choices
  )
  np.testing.assert_allclose(same.logits, out.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(shared_experts=2, k="2"), "below the least of model.k='2'"),
    (dict(shared_experts=1, gate="uniform"), "beside gates that choose"),
    (dict(shared_experts=-1), "0 or more"),
  ],
)
def test_shared_experts_that_cannot_be(changes, message):
  config = config_lib.default_config()
  config.model.update(**changes)
  with pytest.raises(errors.InputError, match=message):
    config_lib.check_config(config)


def test_shared_experts_count_once():
  config = config_lib.default_config()
  config.model.update(experts=6, k="2", shared_experts=1)
  assert models.active_experts(config) == 3
  config.model.select = "joint"
  assert models.active_experts(config) == 2
