"""Passes of the engine over toy experts, and the same by a loop over pairs.

Letters: B images, N experts, K experts per image and task, C inputs and D
outputs of an expert.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mtlmoe_jax.moe import engine
from tests.support.draws import choices, draw

C, D = 3, 4


def expert(params, x, mask):
  """Zero input does not give zero output."""
  return jnp.tanh(x @ params["kernel"] + params["bias"])


def make(seed, batch, num_experts, ks, inner=()):
  """(params, x, weights), choices and targets of each task."""
  params = {
    "kernel": draw(seed, (num_experts, C, D)),
    "bias": draw(seed + 1, (num_experts, D)),
  }
  x = draw(seed + 2, (batch, *inner, C))
  experts = [choices(seed + i, batch, num_experts, k) for i, k in enumerate(ks)]
  weights = [draw(seed + 3 + i, (batch, k)) for i, k in enumerate(ks)]
  targets = [draw(seed + 9 + i, (batch, *inner, D)) for i in range(len(ks))]
  return (params, x, weights), experts, targets


@functools.partial(jax.jit, static_argnums=0)
def program(options, args, experts, targets, valid):
  """`engine_pass`, compiled once for all that call it alike."""

  def loss(params, x, weights):
    results = engine.apply_experts(
      expert, params, x, experts, valid=valid, **dict(options)
    )
    sums = [results.combine(i, w) for i, w in enumerate(weights)]
    total = sum(jnp.vdot(s, t) for s, t in zip(sums, targets))
    return total, (sums, results.dropped, results.plan.kept)

  grads, out = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(*args)
  return *out, grads


def engine_pass(args, experts, targets, valid=None, **options):
  """Sums of each task, shares dropped, and gradients of all of args."""
  return program(tuple(options.items()), args, experts, targets, valid)


def naive_pass(args, experts, targets, kept):
  """The same by NumPy, one pair at a time, with the gradients by hand."""
  params, x, weights = jax.tree.map(lambda v: np.asarray(v, np.float64), args)
  sums = [np.zeros(t.shape) for t in targets]
  grads = jax.tree.map(np.zeros_like, (params, x, weights))
  for task, chosen in enumerate(experts):
    for b, row in enumerate(chosen):
      for j, n in enumerate(row):
        if not kept[task][b, j]:
          continue
        out = np.tanh(x[b] @ params["kernel"][n] + params["bias"][n])
        w, g = weights[task][b, j], targets[task][b]
        sums[task][b] += w * out
        grads[2][task][b, j] += np.sum(g * out)
        dz = w * g * (1 - out**2)
        rows, dz2 = x[b].reshape(-1, C), dz.reshape(-1, D)
        grads[0]["kernel"][n] += rows.T @ dz2
        grads[0]["bias"][n] += dz2.sum(0)
        grads[1][b] += dz @ params["kernel"][n].T
  return sums, grads


def loss_and_sums(args, experts, targets):
  """For one of several devices: the sum over all of them, and its own sums."""
  params, x, weights = args
  results = engine.apply_experts(expert, params, x, experts, strategy="pairs")
  sums = [results.combine(i, w) for i, w in enumerate(weights)]
  total = sum(jnp.vdot(s, t) for s, t in zip(sums, targets))
  return jax.lax.psum(total, ("data", "expert")), sums


def close(found, expected, tolerance):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, rtol=tolerance, atol=tolerance
    ),
    found,
    expected,
  )
