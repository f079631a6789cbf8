"""A model whose norms are part of its kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtlmoe_jax import models
from mtlmoe_jax.utils import trees
from tests.support.models import IMAGES, filled, jit, make

OPTIONS = {
  "whole experts, frozen": dict(norm="frozen", compute="dense"),
  "shared stem, batch": dict(
    norm="batch",
    shared_stages=1,
    gate_input="stem",
    bias_rate=0.1,
    compute="sparse",
  ),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_predicts_what_the_model_predicts(options):
  model = make(**options)
  variables = filled(model, IMAGES)
  folded, fewer = models.fold_norms(model, variables)
  got, want = (
    jit(lambda v, m=m: m.apply(v, IMAGES))(v)
    for m, v in ((folded, fewer), (model, variables))
  )
  for task, routing in want.routing.items():
    np.testing.assert_array_equal(got.routing[task].experts, routing.experts)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    (got.logits, got.box),
    (want.logits, want.box),
  )
  names = trees.flatten(fewer)
  assert not [n for n in names if n.endswith(("_norm/scale", "_norm/var"))]
  # What is no norm keeps its state: standardized features, the gates' biases.
  left = {
    n for n in trees.flatten(variables) if "gate" in n and "_norm" not in n
  }
  assert left <= names.keys()


def test_nothing_to_fold_is_left_alone():
  model = make(norm="group")
  variables = {"params": {"a": jnp.ones(1)}}
  again, same = models.fold_norms(model, variables)
  assert again is model
  assert same["params"]["a"] is variables["params"]["a"]


def test_folded_twice_is_folded_once():
  model = make(norm="frozen", compute="dense")
  once = models.fold_norms(model, filled(model, IMAGES))
  twice = models.fold_norms(*once)
  assert twice[0] is once[0]
  jax.tree.map(np.testing.assert_array_equal, twice[1], once[1])


def test_other_leaves_are_the_same_objects():
  model = make(norm="frozen", compute="dense")
  variables = filled(model, IMAGES)
  _, folded = models.fold_norms(model, variables)
  shared = trees.shared(variables, folded)
  assert any(n.startswith("params/tower_class") for n in shared)
