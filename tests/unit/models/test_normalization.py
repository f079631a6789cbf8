"""Normalisation with masked rows, and the small layers."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtlmoe_jax.models.backbones import EfficientNet, get_backbone
from mtlmoe_jax.models.layers import (
  Conv,
  average_to,
  drop_path,
  relu6,
  scaled_normal,
)
from mtlmoe_jax.models.normalization import (
  Norm,
  fold,
  group_norm,
  normalized_conv,
  scale_kernel,
)
from tests.support.models import filled, jit

RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 3.0, (5, 3, 2, 4)).astype(np.float32)


def run(mode, x, mask=None, train=True, stats=None, **kwargs):
  norm = Norm(mode, x.shape[-1], **kwargs)
  variables = norm.init(jax.random.key(0), x)
  if stats is not None:
    variables = {**variables, "batch_stats": stats}
  return norm.apply(variables, x, mask, train, mutable=["batch_stats"])


def test_batch_statistics_are_those_of_the_marked_rows():
  mask = np.array([True, False, True, True, False])
  y, updated = run("batch", X, mask)
  for channel in range(4):
    values = [
      float(v)
      for row in range(5)
      if mask[row]
      for v in X[row, :, :, channel].ravel()
    ]
    mean = sum(values) / len(values)
    var = sum((v - mean) ** 2 for v in values) / len(values)
    np.testing.assert_allclose(
      y[..., channel], (X[..., channel] - mean) / np.sqrt(var + 1e-3), rtol=1e-4
    )
    stats = updated["batch_stats"]
    np.testing.assert_allclose(stats["mean"][channel], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(
      stats["var"][channel], 0.9 + 0.1 * var, rtol=1e-5
    )


def test_unmarked_rows_may_hold_anything():
  mask = np.array([True, True, False, False, False])
  spoiled = X.copy()
  spoiled[2:] = np.nan
  y, updated = run("batch", spoiled, mask)
  expected, expected_update = run("batch", X[:2])
  np.testing.assert_allclose(y[:2], expected, rtol=1e-5, atol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
    updated,
    expected_update,
  )


def test_no_row_keeps_the_stored_statistics():
  stats = {"mean": jnp.arange(4.0), "var": jnp.full(4, 4.0)}
  y, updated = run("batch", X, np.zeros(5, bool), stats=stats)
  np.testing.assert_array_equal(updated["batch_stats"]["mean"], stats["mean"])
  np.testing.assert_array_equal(updated["batch_stats"]["var"], stats["var"])
  expected = (X - np.arange(4)) / np.sqrt(4.001)
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  ("mode", "train"), [("frozen", True), ("batch", False)]
)
def test_stored_statistics_are_used_and_kept(mode, train):
  stats = {"mean": jnp.arange(4.0), "var": jnp.full(4, 4.0)}
  y, updated = run(mode, X, None, train, stats)
  expected = (X - np.arange(4)) / np.sqrt(4.001)
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(updated["batch_stats"]["mean"], stats["mean"])


def test_batch_norm_trains_where_statistics_are_not_mutable():
  norm = Norm("batch", 4)
  variables = norm.init(jax.random.key(0), X)
  y = norm.apply(variables, X, None, True)
  np.testing.assert_allclose(np.mean(y, (0, 1, 2)), 0, atol=1e-5)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_gradients_are_finite_for_any_number_of_rows(rows):
  norm = Norm("batch", 4)
  x = np.ones((5, 1, 1, 4), np.float32)  # variance 0
  variables = norm.init(jax.random.key(0), x)
  mask = np.arange(5) < rows

  def loss(variables, x):
    y, _ = norm.apply(variables, x, mask, True, mutable=["batch_stats"])
    return jnp.sum(y**2)

  for leaf in jax.tree.leaves(jax.grad(loss, (0, 1))(variables, x)):
    assert np.all(np.isfinite(leaf))


class _ConvNorm(nn.Module):
  """Both ways to normalise a convolution, of the same parameters."""

  mode: str
  folded: bool
  sizes: tuple[int, ...]

  @nn.compact
  def __call__(self, x, mask, train):
    conv = Conv(*self.sizes, name="conv")
    norm = Norm(self.mode, self.sizes[0], name="norm")
    if self.folded:
      return normalized_conv(conv, norm, x, mask, train)
    return norm(conv(x), mask, train)


@pytest.mark.parametrize(
  "sizes", [(8,), (4, 3, 2, 4)], ids=["1x1", "depthwise"]
)
@pytest.mark.parametrize(
  ("mode", "train"),
  [("frozen", True), ("batch", False), ("batch", True), ("group", True)],
)
def test_the_norm_of_a_convolution_is_the_same_folded(mode, train, sizes):
  rng = np.random.default_rng(0)
  mask = np.array([True, True, False, True, False])
  modules = [_ConvNorm(mode, folded, sizes) for folded in (True, False)]
  variables = modules[0].init(jax.random.key(0), X, mask, train)
  shapes = jax.tree.map(
    np.shape, modules[1].init(jax.random.key(0), X, mask, train)
  )
  assert jax.tree.map(np.shape, variables) == shapes
  variables = jax.tree.map(
    lambda v: (v + rng.uniform(0.1, 1, v.shape)).astype(np.float32), variables
  )
  weight = rng.normal(size=modules[0].apply(variables, X, mask, False).shape)

  def loss(params, x, module):
    y, changed = module.apply(
      {**variables, "params": params}, x, mask, train, mutable=["batch_stats"]
    )
    return jnp.sum(y * weight), (y, changed)

  got, want = (
    jax.value_and_grad(loss, (0, 1), has_aux=True)(variables["params"], X, m)
    for m in modules
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    got,
    want,
  )


@pytest.mark.parametrize("stacked", [False, True])
def test_fold_keeps_values_and_gradients(stacked):
  module = EfficientNet(get_backbone("efficientnet_nano").sizes)
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 16, 16, 3)).astype(np.float32)
  variables = [filled(module, x, seed=seed) for seed in (0, 1)]
  folded_module = module.clone(norm="folded")
  if stacked:  # N = 2 experts, folded together
    variables = jax.tree.map(lambda *v: np.stack(v), *variables)
  else:
    variables = variables[0]
  stats = {"batch_stats": variables["batch_stats"]}

  def loss(params, module, transform):
    tree = transform({"params": params, **stats})
    run = lambda v: module.apply(v, x)  # noqa: E731
    y = jax.vmap(run)(tree) if stacked else run(tree)
    return jnp.sum(jnp.sin(y)), y

  got, want = (
    jit(jax.value_and_grad(functools.partial(loss, **way), has_aux=True))(
      variables["params"]
    )
    for way in (
      {"module": folded_module, "transform": fold},
      {"module": module, "transform": lambda tree: tree},
    )
  )
  assert "scale" not in fold(variables)["params"]["head_norm"]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    got,
    want,
  )


def test_relu6_and_its_gradient():
  x = jnp.array([-1.0, 0.0, 0.5, 5.75, 6.0, 7.0, jnp.inf])
  np.testing.assert_array_equal(relu6(x), [0, 0, 0.5, 5.75, 6, 6, 6])
  slope = jax.vmap(jax.grad(relu6))(x)
  np.testing.assert_array_equal(slope, [0, 0, 1, 1, 0, 0, 0])


@pytest.mark.parametrize(("channels", "size"), [(16, 16), (24, 8), (32, 16)])
def test_group_norm_against_a_loop(channels, size):
  x = RNG.normal(1, 2, (2, 3, 3, channels)).astype(np.float32)
  scale, bias = RNG.normal(size=(2, channels)).astype(np.float32)
  y = group_norm(x, scale, bias, 1e-3)
  for row in range(2):
    for start in range(0, channels, size):
      part = slice(start, start + size)
      block = x[row, :, :, part]
      expected = (block - block.mean()) / np.sqrt(block.var() + 1e-3)
      np.testing.assert_allclose(
        y[row, :, :, part],
        expected * scale[part] + bias[part],
        rtol=1e-4,
        atol=1e-5,
      )


def test_bfloat16_result_has_float32_statistics():
  x = jnp.asarray(X, jnp.bfloat16)
  y, updated = run("batch", x, dtype=jnp.bfloat16)
  assert y.dtype == jnp.bfloat16
  assert updated["batch_stats"]["mean"].dtype == jnp.float32
  np.testing.assert_allclose(
    updated["batch_stats"]["mean"], 0.1 * X.mean((0, 1, 2)), rtol=1e-2
  )


@pytest.mark.parametrize("size", [(2, 3), (4, 4), (6, 6), (7, 9), (3, 12)])
def test_average_to_against_a_loop(size):
  x = RNG.normal(size=(2, 6, 6, 3)).astype(np.float32)
  y = average_to(jnp.asarray(x), size)
  assert y.shape == (2, *size, 3)
  for i in range(size[0]):
    for j in range(size[1]):
      rows = slice(i * 6 // size[0], -(-(i + 1) * 6 // size[0]))
      columns = slice(j * 6 // size[1], -(-(j + 1) * 6 // size[1]))
      np.testing.assert_allclose(
        y[:, i, j], x[:, rows, columns].mean((1, 2)), rtol=1e-5, atol=1e-6
      )


def test_drop_path_keeps_the_mean():
  x = jnp.ones((4000, 2))
  y = drop_path(x, jax.random.key(0), 0.25)
  assert set(np.unique(np.round(y, 4))) == {0.0, np.float32(1.3333)}
  np.testing.assert_array_equal(y[:, 0], y[:, 1])
  np.testing.assert_allclose(jnp.mean(y), 1.0, atol=0.05)


def test_conv_keeps_float32_parameters():
  conv = Conv(8, 3, 2, use_bias=True, dtype=jnp.bfloat16)
  x = jnp.ones((1, 5, 5, 4))
  y, variables = jax.eval_shape(conv.init_with_output, jax.random.key(0), x)
  assert (y.shape, y.dtype) == ((1, 3, 3, 8), jnp.bfloat16)
  shapes = jax.tree.map(lambda v: (v.shape, str(v.dtype)), variables["params"])
  assert shapes == {
    "kernel": ((3, 3, 4, 8), "float32"),
    "bias": ((8,), "float32"),
  }


@pytest.mark.parametrize("shape", [(3, 3, 1, 256), (64, 32)])
def test_kernels_start_with_the_variance_of_their_fan_in(shape):
  kernel = scaled_normal(2.0)(jax.random.key(0), shape)
  assert (kernel.shape, kernel.dtype) == (shape, jnp.float32)
  fan_in = shape[0] if len(shape) == 2 else 9
  np.testing.assert_allclose(jnp.var(kernel) * fan_in, 2, rtol=0.15)


@pytest.mark.parametrize("lead", [(), (3,)])
def test_scale_kernel_and_its_gradients(lead):
  kernel, factor, g = (
    jax.random.normal(jax.random.key(i), (*lead, *shape))
    for i, shape in enumerate([(3, 2, 4, 5), (5,), (3, 2, 4, 5)])
  )

  def plain(kernel, factor):
    return kernel * factor[..., None, None, None, :]

  out, pull = jax.vjp(scale_kernel, kernel, factor)
  want, want_pull = jax.vjp(plain, kernel, factor)
  np.testing.assert_array_equal(out, want)
  for got, expected in zip(pull(g), want_pull(g)):
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
