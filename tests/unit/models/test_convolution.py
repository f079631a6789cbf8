"""conv2d equals XLA's own convolution, whichever way it is computed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import PartitionSpec as P

from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models.convolution import conv2d, resolve_padding

E = 3  # experts


def inputs(shape, kernel, seed=0):
  keys = jax.random.split(jax.random.key(seed))
  return jax.random.normal(keys[0], shape), jax.random.normal(keys[1], kernel)


def reference(x, kernel, strides=1, padding="SAME", groups=1):
  if padding == "TORCH":
    padding = [(k // 2, k // 2) for k in kernel.shape[:2]]
  return lax.conv_general_dilated(
    x,
    kernel,
    (strides, strides),
    padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )


def value_and_gradients(function, x, kernel):
  @jax.jit
  def run(x, kernel):
    out, pull = jax.vjp(function, x, kernel)
    # A cotangent that differs everywhere tells every element apart.
    varied = jnp.cos(jnp.arange(out.size)).reshape(out.shape)
    return out, *pull(varied.astype(out.dtype))

  return run(x, kernel)


def assert_same(got, want):
  assert got[0].shape == want[0].shape
  np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-5)
  for a, b in zip(got[1:], want[1:]):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ("shape", "kernel", "strides", "padding", "groups"),
  [
    ((2, 5, 6, 4), (1, 1, 4, 6), 1, "SAME", 1),
    ((2, 5, 6, 4), (1, 1, 4, 6), 2, "SAME", 1),
    ((2, 6, 5, 3), (3, 3, 3, 4), 1, "SAME", 1),
    ((2, 6, 5, 3), (3, 3, 3, 4), 2, "SAME", 1),
    ((2, 6, 5, 3), (3, 3, 3, 4), 2, "TORCH", 1),
    ((1, 9, 8, 2), (7, 7, 2, 3), 2, "SAME", 1),
    ((2, 2, 2, 3), (5, 5, 3, 2), 1, "SAME", 1),
    ((2, 6, 6, 4), (3, 3, 2, 6), 2, "SAME", 2),
    ((2, 5, 5, 4), (3, 3, 1, 8), 1, "SAME", 4),
    ((3, 6, 5, 4), (3, 3, 1, 4), 1, "SAME", 4),
    ((3, 6, 5, 4), (3, 3, 1, 4), 2, "SAME", 4),
    ((2, 7, 8, 4), (5, 5, 1, 4), 2, "SAME", 4),
    ((2, 7, 8, 4), (5, 5, 1, 4), 2, "TORCH", 4),
    ((2, 7, 3, 4), (1, 1, 1, 4), 2, "SAME", 4),
    ((1, 8, 8, 2), (7, 7, 1, 2), 1, "SAME", 2),
    ((2, 8, 7, 2), (3, 3, 1, 2), 3, ((2, 0), (0, 1)), 2),
    # More rows than one block of the kernel's gradient, and not a multiple.
    ((2, 37, 3, 2), (3, 3, 1, 2), 1, "SAME", 2),
    # Rows that the strided kernel never reaches have a zero gradient.
    ((1, 8, 8, 2), (3, 3, 1, 2), 2, "VALID", 2),
  ],
)
def test_equals_xla(shape, kernel, strides, padding, groups):
  x, kernel = inputs(shape, kernel)
  options = {"strides": strides, "padding": padding, "groups": groups}
  assert_same(
    value_and_gradients(functools.partial(conv2d, **options), x, kernel),
    value_and_gradients(functools.partial(reference, **options), x, kernel),
  )


@settings(max_examples=12, deadline=None)
@given(
  st.integers(1, 3),
  st.integers(2, 9),
  st.integers(2, 9),
  st.sampled_from([1, 3, 5]),
  st.sampled_from([1, 2]),
  st.sampled_from(["SAME", "TORCH"]),
  st.booleans(),
)
def test_value_property(b, h, w, k, strides, padding, depthwise):
  groups = 2 if depthwise else 1
  x, kernel = inputs((b, h, w, 2), (k, k, 2 // groups, 2), seed=h * w)
  conv = functools.partial(
    conv2d, strides=strides, padding=padding, groups=groups
  )
  np.testing.assert_allclose(
    jax.jit(conv)(x, kernel),
    reference(x, kernel, strides, padding, groups),
    rtol=1e-5,
    atol=1e-5,
  )


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.integers(1, 9), st.integers(1, 4))
def test_same_padding_is_tensorflows(n, k, s):
  ours = resolve_padding((n, n), (k, k), (s, s), "SAME")[0]
  assert ours == tuple(lax.padtype_to_pads((n,), (k,), (s,), "SAME")[0])


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)])
def test_vmap_equals_a_loop(axes, groups):
  x, kernel = inputs((E, 2, 6, 5, 4), (E, 3, 3, 4 // groups, 4))
  x = x if axes[0] == 0 else x[0]
  kernel = kernel if axes[1] == 0 else kernel[0]
  conv = functools.partial(conv2d, strides=2, groups=groups)

  def loop(x, kernel):
    return jnp.stack(
      [
        reference(
          x[e] if axes[0] == 0 else x,
          kernel[e] if axes[1] == 0 else kernel,
          2,
          groups=groups,
        )
        for e in range(E)
      ]
    )

  assert_same(
    value_and_gradients(jax.vmap(conv, axes), x, kernel),
    value_and_gradients(loop, x, kernel),
  )


@pytest.mark.parametrize("groups", [1, 4])
def test_vmap_of_gradient(groups):
  x, kernel = inputs((E, 2, 6, 5, 4), (E, 3, 3, 4 // groups, 4))

  def gradients(conv, x, kernel):
    def loss(x, k):
      return jnp.sum(jnp.sin(conv(x, k, strides=2, groups=groups)))

    return jax.grad(loss, (0, 1))(x, kernel)

  got = jax.jit(jax.vmap(functools.partial(gradients, conv2d)))(x, kernel)
  for e in range(E):
    want = gradients(reference, x[e], kernel[e])
    for a, b in zip(got, want):
      np.testing.assert_allclose(a[e], b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 4])
def test_bfloat16(groups):
  x, kernel = inputs((2, 8, 8, 4), (3, 3, 4 // groups, 4))
  conv = functools.partial(conv2d, groups=groups)
  want = value_and_gradients(conv, x, kernel)
  got = value_and_gradients(
    conv, x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
  )
  for a, b in zip(got, want):
    assert a.dtype == jnp.bfloat16
    scale = float(jnp.max(jnp.abs(b)))
    np.testing.assert_allclose(
      a.astype(jnp.float32) / scale, b / scale, atol=0.03
    )


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="CPU's formulation")
@pytest.mark.parametrize("groups", [1, 4])
def test_experts_compile_without_convolutions(groups):
  x, kernel = inputs((E, 2, 6, 6, 4), (E, 3, 3, 4 // groups, 4))

  def program(conv):
    def loss(x, kernel):
      return jnp.sum(jax.vmap(conv)(x, kernel) ** 2)

    return jax.jit(jax.grad(loss, (0, 1))).lower(x, kernel).compile().as_text()

  assert "convolution(" not in program(functools.partial(conv2d, groups=groups))
  # What is searched for is really what a vmapped convolution becomes.
  native = functools.partial(conv2d, groups=groups, impl="native")
  assert "convolution(" in program(native)


def test_frozen_depthwise_kernel_costs_nothing():
  x, kernel = inputs((4, 8, 8, 4), (3, 3, 1, 4))

  def loss(x, kernel):
    return jnp.sum(conv2d(x, kernel, groups=4, impl="shift") ** 2)

  def equations(argnums):
    return str(jax.make_jaxpr(jax.grad(loss, argnums))(x, kernel))

  # The kernel's gradient is the only loop; without it there is none, even
  # before the compiler looks.
  assert "scan" in equations((0, 1)) or "while" in equations((0, 1))
  assert "scan" not in equations(0)
  assert "while" not in equations(0)
  stopped = jax.grad(lambda x, k: loss(x, lax.stop_gradient(k)))
  assert "scan" not in str(jax.make_jaxpr(stopped)(x, kernel))


def test_shared_kernel_inside_shard_map():
  x, kernel = inputs((2, 6, 6, 4), (3, 3, 1, 4))
  mesh = jax.make_mesh(
    (1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )

  def gradient(x, kernel):
    return jax.grad(
      lambda k: jnp.sum(conv2d(x, k, groups=4, impl="shift") ** 2)
    )(kernel)

  got = jax.jit(
    jax.shard_map(gradient, mesh=mesh, in_specs=(P("data"), P()), out_specs=P())
  )(x, kernel)
  np.testing.assert_allclose(
    got, jax.jit(gradient)(x, kernel), rtol=1e-5, atol=1e-5
  )


@pytest.mark.parametrize(
  ("kernel", "options", "says"),
  [
    ((3, 3, 3, 4), {}, "C=4"),
    ((3, 3, 4, 4), {"impl": "fast"}, "impl='fast'"),
    ((3, 3, 4, 4), {"impl": "shift"}, "only for depthwise"),
    ((3, 3, 4, 4), {"padding": "FULL"}, "padding='FULL'"),
    ((3, 4, 4), {}, "(3, 4, 4)"),
  ],
)
def test_mistakes_are_told(kernel, options, says):
  with pytest.raises(InputError) as error:
    conv2d(jnp.zeros((1, 4, 4, 4)), jnp.zeros(kernel), **options)
  assert says in str(error.value)
  assert "\n" not in str(error.value)
