"""V-MoE layers of a ViT: where they are, how they start, what they return."""

import functools

import jax
import numpy as np
import pytest
from flax import traverse_util
from flax.core import FrozenDict

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import models, pretrained
from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models.backbones.vit import TokenMoE
from mtlmoe_jax.models.token_moe import block_numbers, token_moe
from mtlmoe_jax.training import optimizer as optim
from mtlmoe_jax.training import step as step_lib
from tests.support import tiny
from tests.support.models import filled, jit, shapes_of
from tests.support.steps import CLASSES, batch

VIT = models.get_backbone("vit_nano").sizes
X = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
# The whole network shared: one V-MoE.
SINGLE = {
  "model.backbone": "vit_nano",
  "model.shared_stages": 5,
  "model.experts": 1,
  "model.k": "1",
  "model.gate": "dense",
  "model.token_moe.blocks": "last:2",
  "model.token_moe.experts": 4,
}


def config_of(**options):
  config = tiny.config(**{**SINGLE, **options})
  config_lib.check_config(config)
  return config


def upcycled(noise=0.0, **options):
  """Dense variables, a network with mixtures of copies of them, a summary."""
  dense = filled(VIT.network(), X)
  moe = TokenMoE((1, 3), FrozenDict(experts=4, **options))
  network = VIT.network(token_moe=moe)
  weights = pretrained.Weights(dense["params"], {}, "w.npz", "w.npz: drawn")
  stem = {"params": {"stem": filled(network, X)["params"]}}
  new, summary = pretrained.insert(stem, weights, noise)
  return dense, network, {"params": new["params"]["stem"]}, summary


@functools.cache
def applied(network):
  """The network's forward pass, compiled once: its map and its routings."""

  def run(variables, x):
    maps = network.apply(variables, x, method="maps")
    return maps.last, maps.routings

  return jit(run)


@pytest.mark.parametrize(
  ("text", "depth", "numbers"),
  [
    ("every:2", 12, (1, 3, 5, 7, 9, 11)),
    ("every:3", 12, (2, 5, 8, 11)),
    ("last:2", 12, (9, 11)),
    ("last:9", 4, (1, 3)),
    ("7,3,7", 12, (3, 7)),
    ("every:5", 4, ()),
  ],
)
def test_block_numbers(text, depth, numbers):
  assert block_numbers(text, depth) == numbers


@pytest.mark.parametrize("gate", ["noisy_top_k", "dense"])
def test_equal_experts_are_the_dense_network(gate):
  dense, network, variables, summary = upcycled(gate=gate)
  found, routings = applied(network)(variables, X)
  expected, _ = applied(VIT.network())(dense, X)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  assert list(routings) == ["block_01", "block_03"]
  assert routings["block_01"].probs.shape == (2, 17, 4)
  assert "8 of them copied into 4 token experts" in summary
  assert "new (not pretrained): stem/block_01/moe/gate/, stem/" in summary


def test_noise_parts_token_experts_alone():
  dense, network, variables, _ = upcycled(noise=0.1)
  flat = traverse_util.flatten_dict(variables["params"], sep="/")
  for name, leaf in flat.items():
    if "/moe/experts/" in name:
      assert all(np.any(leaf[0] != other) for other in leaf[1:])
    elif "/moe/" not in name:
      whole = traverse_util.flatten_dict(dense["params"], sep="/")
      np.testing.assert_array_equal(leaf, whole[name])
  found, _ = applied(network)(variables, X)
  expected, _ = applied(VIT.network())(dense, X)
  assert np.abs(found - expected).max() > 1e-3


def test_a_v_moe_starts_another_with_its_gates():
  _, network, variables, _ = upcycled(noise=0.1)
  model = traverse_util.flatten_dict(
    {"params": {"stem": variables["params"]}}, sep="/"
  )
  weights = pretrained.of_model(model, "a run", None)
  stem = {"params": {"stem": filled(network, X)["params"]}}
  new, summary = pretrained.insert(stem, weights, 0.1)
  jax.tree.map(
    np.testing.assert_array_equal, new["params"]["stem"], variables["params"]
  )
  assert "new (not pretrained): nothing" in summary


def test_parts_of_a_network_have_their_own_routings():
  _, network, variables, _ = upcycled()
  whole, routings = applied(network)(variables, X)
  front, back = network.clone(last=2), network.clone(first=3)
  half, first = applied(front)(variables, X)
  assert list(first) == ["block_01"]
  again, second = applied(back)(variables, half)
  np.testing.assert_allclose(again, whole, rtol=1e-5, atol=1e-5)
  assert [*first, *second] == list(routings)


def test_the_loss_reaches_every_part_of_a_layer():
  # Beside three experts of images, behind the stem.
  config = config_of(
    **{
      "model.shared_stages": 4,
      "model.experts": 3,
      "model.gate": "top_k",
      "model.tasks": "class",
    }
  )
  model = models.build_model(config, CLASSES)
  data = batch()
  variables = filled(model, data["image"])
  rngs = {"gating": jax.random.key(0), "dropout": jax.random.key(1)}

  def loss(params):
    outputs = model.apply(
      {"params": params}, data["image"], train=True, rngs=rngs
    )
    total, parts = step_lib.loss_of(outputs, data, config)
    return total, parts | step_lib.train_metrics(outputs, data)

  grads, told = jit(jax.grad(loss, has_aux=True))(variables["params"])
  for block in ("block_01", "block_03"):
    flat = traverse_util.flatten_dict(grads["stem"][block]["moe"], sep="/")
    assert len(flat) == 8
    for name, leaf in flat.items():
      assert np.all(np.isfinite(leaf)) and np.any(leaf != 0), name
    for name in ("loss_importance", "loss_load", "cv_load", "dropped"):
      assert np.isfinite(told[f"tokens/{block}/{name}"])
    assert "up" not in grads["stem"][block]


def test_evaluation_ignores_the_batch_mates():
  config = config_of(**{"model.token_moe.eval_capacity_factor": 0.6})
  network = VIT.network(
    token_moe=token_moe(config, models.get_backbone("vit_nano"))
  )
  variables = filled(network, X)
  run = applied(network)
  (a, routings), (b, _) = run(variables, X), run(variables, X[[1, 1]])
  np.testing.assert_allclose(b, np.asarray(a)[[1, 1]], rtol=1e-5, atol=1e-5)
  assert routings["block_03"].metrics["dropped"] > 0


def test_features_of_the_stem_are_those_of_the_model():
  config = config_of()
  model = models.build_model(config, CLASSES)
  images = batch(2)["image"]
  _, network, variables, _ = upcycled()
  parts = {c: {"stem": tree} for c, tree in variables.items()}
  stem = jit(lambda x: models.stem_features(config, parts, x)["features"])
  features = stem(images)
  x = (images.astype(np.float32) - 127.5) / np.float32(127.5)
  expected, _ = applied(network)(variables, x)
  np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3)
  known, _ = shapes_of(
    lambda f: model.init_with_output(jax.random.key(0), images, features=f),
    features,
  )
  assert known.tokens == {}


@pytest.mark.parametrize(("gate", "kept"), [("top_k", 2), ("dense", 4)])
def test_active_parameters_are_those_of_one_token(gate, kept):
  config = config_of(**{"model.token_moe.gate": gate})
  model = models.build_model(config, CLASSES)
  shapes = shapes_of(model.init, jax.random.key(0), batch(1)["image"])
  flat = traverse_util.flatten_dict(shapes["params"], sep="/")
  size = lambda part: sum(v.size for n, v in flat.items() if part in n)  # noqa: E731
  total, active = models.count_parameters(config, CLASSES)
  assert total == size("")
  assert total - active == size("/moe/experts/") // 4 * (4 - kept)


def test_token_gates_learn_as_new_parameters():
  moe = "stem/block_01/moe"
  assert not optim.BACKBONE.match(f"{moe}/gate/logits/kernel")
  assert optim.BACKBONE.match(f"{moe}/experts/up/kernel")
  assert optim.BACKBONE.match("stem/block_01/attention/qkv/kernel")


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (
      {"model.backbone": "resnet50", "model.shared_stages": 4},
      r"resnet50 has no tokens.*vit_",
    ),
    ({"model.shared_stages": 3}, r"block 3 is inside .*shared_stages=4"),
    ({"model.shared_stages": 0}, r"block 3 is inside .*shared_stages=4"),
    ({"model.token_moe.blocks": "9"}, r"blocks='9'.*blocks 0 \.\.\. 3"),
    ({"model.token_moe.blocks": "every:5"}, r"blocks 0 \.\.\. 3"),
  ],
)
def test_where_there_can_be_no_layers(options, message):
  with pytest.raises(InputError, match=message):
    models.build_model(config_of(**options), CLASSES)
