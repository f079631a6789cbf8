"""Programs without gradients: other options, the same values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtlmoe_jax.devices import compilation


@pytest.fixture
def fresh():
  compilation.forward_options.cache_clear()
  yield
  compilation.forward_options.cache_clear()


def test_this_jaxlib_knows_the_option():
  assert compilation.forward_options() == compilation._WITHOUT_LIBRARY


def test_values_are_those_of_jit():
  a = jax.random.normal(jax.random.key(0), (64, 48))
  b = jax.random.normal(jax.random.key(1), (48, 32))
  product = lambda a, b: jnp.tanh(a @ b)  # noqa: E731
  np.testing.assert_allclose(
    compilation.jit_forward(product)(a, b), product(a, b), atol=1e-5
  )


def test_products_do_not_go_to_the_library(fresh):
  a = jnp.ones((256, 256))
  text = {
    jit: jit(lambda a: a @ a + 1).lower(a).compile().as_text()
    for jit in (jax.jit, compilation.jit_forward)
  }
  assert "__ynn_fusion" in text[jax.jit]
  assert "ynn" not in text[compilation.jit_forward]


def test_options_of_jit_are_passed_on():
  add = compilation.jit_forward(lambda a, n: a + n, static_argnums=1)
  assert add(jnp.ones(()), 2) == 3


def test_a_jaxlib_that_does_not_know_it_is_left_alone(fresh, monkeypatch):
  unknown = {"xla_cpu_no_such_option": ""}
  monkeypatch.setattr(compilation, "_WITHOUT_LIBRARY", unknown)
  assert compilation.forward_options() is None
  assert compilation.jit_forward(lambda x: x + 1)(1.0) == 2.0


def test_other_backends_are_left_alone(fresh, monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert compilation.forward_options() is None
