"""Routing: which experts an image goes to, with which weight, at which cost.

Letters: B images, N experts, K experts selected per image. Logits [B, N] are
the output of a gate network; everything here is computed in float32. Membership
is always told by indices, never by `weights > 0`: a weight may underflow. The
selected experts of an image are K distinct ones, the best first; equal logits
go to the lower index.

Every routing has the same four auxiliary losses, scalars, 0 for N = 1:

- importance: CV^2 of the weight that each expert receives in the batch,
- load: CV^2 of the (smooth) number of images that each expert receives,
- balance: N sum_i f_i P_i, with f the share of first choices and P the mean
  probability (Shazeer 2017, Fedus 2021, GShard); 1 when uniform, so it is the
  one loss whose least value is not 0,
- z: mean squared log-sum-exp of the logits (Zoph et al. 2022, eq. 5).

CV is the coefficient of variation over experts, with population variance. Rows
where `valid` is False (padding) count in no loss and no metric.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.scipy import special, stats

from mtlmoe_jax import errors

Array = jax.Array

# Logits are kept within this, so that the difference of any two is finite.
_MAX_LOGIT = float(jnp.finfo(jnp.float32).max) / 4
# Log-sum-exps are kept within this, so that their squares are finite.
_MAX_LSE = 1e15
# The normal distribution's tails beyond this are exactly 0 in float32.
_MAX_SIGMAS = 20.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Routing:
  """The decision of one gate for a batch.

  Attributes:
    experts: i32 [B, K], the selected experts, best first, distinct in a row.
    weights: f32 [B, K], their weights in the sum.
    probs: f32 [B, N], softmax of the noise-free logits over all experts.
    losses: scalars `importance`, `load`, `balance`, `z`.
    metrics: scalars, without gradients: `entropy` (mean over images, nats),
      `entropy_mean_gate` (of the mean of `probs`, nats), `effective_experts`
      (exp of the latter), `cv_importance` (of summed weights), `cv_load` (of
      counts), `max_load` (largest count / mean count).
  """

  experts: Array
  weights: Array
  probs: Array
  losses: dict[str, Array]
  metrics: dict[str, Array]


def dense_routing(logits: Array, valid: Array | None = None) -> Routing:
  """Softmax over all experts: K = N (Ma et al. 2018, eq. 6).

  Args:
    logits: [B, N].
    valid: bool [B], False for padding; None: all are valid.

  Returns:
    The routing; its load loss is 0, as every expert serves every image.
  """
  logits = _bounded(logits)
  experts = _ranking(logits, logits.shape[1])
  probs = jax.nn.softmax(logits)
  weights = _pick(probs, experts)
  load = hard_load(experts, logits.shape[1], valid)
  return _routing(logits, experts, weights, probs, load, valid)


def noisy_top_k_routing(
  logits: Array,
  k: int,
  noise_std: Array | None = None,
  noise: Array | None = None,
  valid: Array | None = None,
) -> Routing:
  """Noisy top-k gating (Shazeer et al. 2017, eqs. 3-10).

  The k largest noisy logits H = logits + noise * noise_std are kept and the
  weights are their softmax. For k = 1 that softmax is always 1 and the gate
  would get no gradient from the tasks; there the weight is the selected
  expert's share of the softmax over all experts (Fedus et al. 2021, eq. 2).

  Args:
    logits: [B, N], x W_g.
    k: experts per image, 1 ... N.
    noise_std: [B, N] or broadcastable to it, above 0: the scale of the noise,
      softplus(x W_noise) + 0.01 in the paper's code. None: no noise.
    noise: [B, N], standard normal draws. None (evaluation): no noise.
    valid: bool [B], False for padding; None: all are valid.

  Returns:
    The routing. Its load loss is smooth with noise; without, it is that of
    the plain counts and has no gradient.

  Raises:
    InputError: k is not in 1 ... N.
  """
  _check_k(logits, k)
  logits = _bounded(logits)
  noisy = logits
  if noise is not None and noise_std is not None:
    noisy = logits + noise * noise_std
  experts = _ranking(noisy, k)
  if k == 1:
    weights = _pick(jax.nn.softmax(noisy), experts)
  else:
    weights = jax.nn.softmax(_pick(noisy, experts))
  if noisy is logits:
    load = hard_load(experts, logits.shape[1], valid)
  else:
    load = smooth_load(
      logits, noisy, noise_std, k, exclude_self=True, valid=valid
    )
  received = full_weights(experts, weights, logits.shape[1])
  return _routing(logits, experts, weights, received, load, valid)


def top_k_routing(
  logits: Array,
  k: int,
  noise: Array | None = None,
  noise_scale: float = 1.0,
  valid: Array | None = None,
) -> Routing:
  """Softmax, then top-k, not renormalised (V-MoE, Riquelme et al. 2021, eq. 2).

  The importance loss is that of the noise-free softmax over all experts and
  the load loss compares with the k-th largest of all noisy logits (appendix A).

  Args:
    logits: [B, N].
    k: experts per image, 1 ... N.
    noise: [B, N], standard normal draws. None (evaluation): no noise.
    noise_scale: the standard deviation of the noise is noise_scale / N.
    valid: bool [B], False for padding; None: all are valid.

  Returns:
    The routing; weights of an image sum to at most 1. Without noise its load
    loss is that of the plain counts and has no gradient.

  Raises:
    InputError: k is not in 1 ... N.
  """
  _check_k(logits, k)
  logits = _bounded(logits)
  num_experts = logits.shape[1]
  std = noise_scale / num_experts
  with_noise = noise is not None and noise_scale > 0
  noisy = logits + noise * std if with_noise else logits
  experts = _ranking(noisy, k)
  weights = _pick(jax.nn.softmax(noisy), experts)
  if with_noise:
    load = smooth_load(logits, noisy, std, k, exclude_self=False, valid=valid)
  else:
    load = hard_load(experts, num_experts, valid)
  probs = jax.nn.softmax(logits)
  return _routing(logits, experts, weights, probs, load, valid)


def uniform_routing(
  batch_size: int, num_experts: int, valid: Array | None = None
) -> Routing:
  """The control without a gate: weight 1/N on all N experts, no losses.

  Args:
    batch_size: B.
    num_experts: N.
    valid: bool [B], False for padding; None: all are valid.

  Returns:
    The routing, K = N, with all losses 0.
  """
  routing = dense_routing(jnp.zeros((batch_size, num_experts)), valid)
  losses = jax.tree.map(jnp.zeros_like, routing.losses)
  return dataclasses.replace(routing, losses=losses)


def full_weights(experts: Array, weights: Array, num_experts: int) -> Array:
  """Weights [B, K] of selected experts as [B, N], 0 where not selected."""
  hits = experts[..., None] == jnp.arange(num_experts)
  return jnp.sum(jnp.where(hits, weights[..., None], 0), axis=1)


def hard_load(
  experts: Array, num_experts: int, valid: Array | None = None
) -> Array:
  """Number of valid images that selected each expert, f32 [N]."""
  ones = jnp.ones(experts.shape, jnp.float32)
  return _sum_valid(full_weights(experts, ones, num_experts), valid)


def smooth_load(
  logits: Array,
  noisy_logits: Array,
  noise_std: Array | float,
  k: int,
  *,
  exclude_self: bool,
  valid: Array | None = None,
) -> Array:
  """Expected number of images per expert if its own noise were drawn again.

  The sum over images of Phi((logit_i - threshold_i) / noise_std_i), all in
  logit space.

  Args:
    logits: [B, N], noise-free.
    noisy_logits: [B, N].
    noise_std: [B, N], or broadcastable to it, above 0.
    k: experts per image.
    exclude_self: True: threshold_i is the k-th largest noisy logit excluding
      i (Shazeer et al. 2017, eq. 9). False: the k-th largest of all (V-MoE,
      Riquelme et al. 2021, appendix A).
    valid: bool [B], False for padding; None: all are valid.

  Returns:
    f32 [N]; the sum is near B k.
  """
  batch, num_experts = logits.shape
  if k == num_experts:  # All are selected, whatever the noise.
    return _sum_valid(jnp.ones((batch, num_experts)), valid)
  ranking = _ranking(noisy_logits, k + 1)
  best = _pick(noisy_logits, ranking)
  threshold = best[:, k - 1 : k]
  if exclude_self:
    selected = full_weights(ranking[:, :k], jnp.ones((batch, k)), num_experts)
    threshold = jnp.where(selected > 0, best[:, k:], threshold)
  gap, reach = logits - threshold, _MAX_SIGMAS * noise_std
  # Bounded before the division: far tails would overflow in the gradient.
  sigmas = jnp.clip(gap, -reach, reach) / noise_std
  return _sum_valid(stats.norm.cdf(sigmas), valid)


def cv_squared(values: Array) -> Array:
  """Squared coefficient of variation of [N], population variance.

  0 where the mean is not above 0 (nothing was routed) and for N = 1.
  """
  mean = jnp.mean(values)
  some = mean > 0
  return jnp.where(some, jnp.var(values) / jnp.where(some, mean, 1.0) ** 2, 0.0)


def importance_loss(weights: Array, valid: Array | None = None) -> Array:
  """CV^2 of the summed weights (Shazeer et al. 2017, eq. 7).

  Args:
    weights: [B, N], 0 where not selected.
    valid: bool [B], False for padding; None: all are valid.

  Returns:
    Scalar, 0 when the experts receive equal weight.
  """
  return cv_squared(_sum_valid(weights, valid))


def balance_loss(
  probs: Array, experts: Array, valid: Array | None = None
) -> Array:
  """N sum_i f_i P_i (GShard, Lepikhin et al. 2020; Switch, Fedus et al. 2021).

  Args:
    probs: [B, N], softmax over all experts; P is its mean over images.
    experts: i32 [B, K]; f_i is the share of the B K choices that went to i, so
      that f sums to 1. Both papers pass first choices only, K = 1.
    valid: bool [B], False for padding; None: all are valid.

  Returns:
    Scalar: 1 when either is uniform, 0 for N = 1.
  """
  num_experts = probs.shape[1]
  if num_experts == 1:
    return jnp.zeros(())
  count = hard_load(experts, num_experts, valid)
  share = count / jnp.maximum(jnp.sum(count), 1)
  return num_experts * jnp.sum(share * _mean_valid(probs, valid))


def z_loss(logits: Array, valid: Array | None = None) -> Array:
  """Mean squared log-sum-exp of the logits (Zoph et al. 2022, eq. 5).

  Args:
    logits: [B, N].
    valid: bool [B], False for padding; None: all are valid.

  Returns:
    Scalar. Unlike the others it is not a balance loss; `Routing` reports 0
    for N = 1, where the logit has no meaning.
  """
  total = special.logsumexp(logits, axis=-1)
  return _mean_valid(jnp.clip(total, -_MAX_LSE, _MAX_LSE) ** 2, valid)


def _routing(
  logits: Array,
  experts: Array,
  weights: Array,
  received: Array,
  load: Array,
  valid: Array | None,
) -> Routing:
  """Adds losses and metrics; `received` [B, N] is what importance counts."""
  num_experts = logits.shape[1]
  probs = jax.nn.softmax(logits)
  losses = {
    "importance": importance_loss(received, valid),
    "load": cv_squared(load),
    "balance": balance_loss(probs, experts[:, :1], valid),
    "z": z_loss(logits, valid) if num_experts > 1 else jnp.zeros(()),
  }
  metrics = _metrics(*jax.lax.stop_gradient((experts, weights, probs)), valid)
  return Routing(experts, weights, probs, losses, metrics)


def _metrics(
  experts: Array, weights: Array, probs: Array, valid: Array | None
) -> dict[str, Array]:
  num_experts = probs.shape[1]
  load = hard_load(experts, num_experts, valid)
  importance = _sum_valid(full_weights(experts, weights, num_experts), valid)
  of_mean = jnp.sum(special.entr(_mean_valid(probs, valid)))
  return {
    "entropy": _mean_valid(jnp.sum(special.entr(probs), axis=-1), valid),
    "entropy_mean_gate": of_mean,
    "effective_experts": jnp.exp(of_mean),
    "cv_importance": jnp.sqrt(cv_squared(importance)),
    "cv_load": jnp.sqrt(cv_squared(load)),
    "max_load": jnp.max(load) / jnp.maximum(jnp.mean(load), 1e-6),
  }


def _check_k(logits: Array, k: int) -> None:
  if not 1 <= k <= logits.shape[1]:
    raise errors.InputError(
      f"k={k} experts per image: must be from 1 to the number of experts, "
      f"{logits.shape[1]}"
    )


def _bounded(logits: Array) -> Array:
  """Float32 logits with infinities made finite; NaN stays NaN."""
  return jnp.clip(logits.astype(jnp.float32), -_MAX_LOGIT, _MAX_LOGIT)


def _ranking(logits: Array, k: int) -> Array:
  """Indices i32 [B, K] of the k largest, best first; the choice is constant."""
  return jax.lax.top_k(jax.lax.stop_gradient(logits), k)[1]


def _pick(values: Array, experts: Array) -> Array:
  """Values [B, N] at experts [B, K]."""
  return jnp.take_along_axis(values, experts, axis=1)


def _sum_valid(values: Array, valid: Array | None) -> Array:
  """Sum over images of [B, ...], padding left out."""
  if valid is not None:
    valid = valid.reshape(valid.shape + (1,) * (values.ndim - 1))
    values = jnp.where(valid, values, 0)
  return jnp.sum(values, axis=0)


def _mean_valid(values: Array, valid: Array | None) -> Array:
  """Mean over images of [B, ...], padding left out; 0 when all is padding."""
  count = values.shape[0] if valid is None else jnp.sum(valid)
  return _sum_valid(values, valid) / jnp.maximum(count, 1)
