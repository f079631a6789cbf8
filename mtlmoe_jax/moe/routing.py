"""Routing: which experts an image goes to, with which weight, at which cost.

Letters: B images, N experts, K experts selected per image, T tasks. Logits
[B, N] are the output of a gate network; everything here is computed in float32.
Membership is always told by indices, never by `weights > 0`: a weight may
underflow. The selected experts of an image are K distinct ones, the best first;
equal logits go to the lower index. A bias [N] (`balancing`) moves the selection
and what counts it (load), never a weight; it is a constant.

Every routing has the same auxiliary losses, scalars, 0 for N = 1:

- importance: CV^2 of the weight that each expert receives in the batch,
- load: CV^2 of the (smooth) number of images that each expert receives,
- balance: N sum_i f_i P_i, with f the share of first choices and P the mean
  probability (Shazeer 2017, Fedus 2021, GShard); 1 when uniform, so it is the
  one loss whose least value is not 0,
- z: mean squared log-sum-exp of the logits (Zoph et al. 2022, eq. 5),
- information: minus the mutual information of image and expert, nats: the mean
  entropy of an image's probabilities minus the entropy of their mean. Its least
  value, -log N, is that of a gate that is sure of every image and gives each
  expert as many.

CV is the coefficient of variation over experts, with population variance. Rows
where `valid` is False (padding) count in no loss and no metric.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.scipy import special, stats

from mtlmoe_jax import errors
from mtlmoe_jax.devices import meshes

Array = jax.Array

# Logits are kept within this, so that the difference of any two is finite.
_MAX_LOGIT = float(jnp.finfo(jnp.float32).max) / 4
# Log-sum-exps are kept within this, so that their squares are finite.
_MAX_LSE = 1e15
# The normal distribution's tails beyond this are exactly 0 in float32.
_MAX_SIGMAS = 20.0
# The load is smoothed by at least this noise: its gradient is as steep as the
# noise is small, and a schedule may end at none.
_MIN_LOAD_STD = 1e-3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scores:
  """What a gate network says of a batch, before anything is selected.

  Attributes:
    logits: [B, N].
    noise: [B, N], standard normal draws. None (evaluation): no noise.
    noise_std: [B, N] or broadcastable to it, 0 or more. None: no noise.
    bias: [N] or [B, N], added for the selection only. None: no bias.
  """

  logits: Array
  noise: Array | None = None
  noise_std: Array | float | None = None
  bias: Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Routing:
  """The decision of one gate for a batch.

  Attributes:
    experts: i32 [B, K], the selected experts, best first, distinct in a row.
    weights: f32 [B, K], their weights in the sum.
    probs: f32 [B, N], softmax of the noise-free logits over all experts.
    losses: scalars `importance`, `load`, `balance`, `z`, `information`.
    metrics: scalars, without gradients: `entropy` (mean over images, nats),
      `entropy_mean_gate` (of the mean of `probs`, nats), `information` (the
      latter minus the former), `effective_experts`
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
  logits = bounded(logits)
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
  bias: Array | None = None,
) -> Routing:
  """Noisy top-k gating (Shazeer et al. 2017, eqs. 3-10).

  The k largest noisy logits H = logits + noise * noise_std are kept and the
  weights are their softmax. For k = 1 that softmax is always 1 and the gate
  would get no gradient from the tasks; there the weight is the selected
  expert's share of the softmax over all experts (Fedus et al. 2021, eq. 2).

  Args:
    logits: [B, N], x W_g.
    k: experts per image, 1 ... N.
    noise_std: [B, N] or broadcastable to it: the scale of the noise,
      softplus(x W_noise) + 0.01 in the paper's code. None: no noise.
    noise: [B, N], standard normal draws. None (evaluation): no noise.
    valid: bool [B], False for padding; None: all are valid.
    bias: [N], see `Scores`.

  Returns:
    The routing. Its load loss is smooth with noise; without, it is that of
    the plain counts and has no gradient.

  Raises:
    InputError: k is not in 1 ... N.
  """
  scores = Scores(logits, noise, noise_std, bias)
  return separate_routing("noisy_top_k", scores, k, valid)


def top_k_routing(
  logits: Array,
  k: int,
  noise: Array | None = None,
  noise_scale: Array | float = 1.0,
  valid: Array | None = None,
  bias: Array | None = None,
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
    bias: [N], see `Scores`.

  Returns:
    The routing; weights of an image sum to at most 1. Without noise its load
    loss is that of the plain counts and has no gradient.

  Raises:
    InputError: k is not in 1 ... N.
  """
  scores = Scores(logits, noise, noise_scale / logits.shape[1], bias)
  return separate_routing("top_k", scores, k, valid)


def separate_routing(
  kind: str, scores: Scores, k: int, valid: Array | None = None
) -> Routing:
  """A gate of any kind that selects for itself.

  Args:
    kind: "dense", "noisy_top_k" or "top_k".
    scores: of the gate.
    k: experts per image, 1 ... N; "dense" takes all N.
    valid: bool [B], False for padding; None: all are valid.

  Returns:
    The routing, see the function of each kind.

  Raises:
    InputError: k is not in 1 ... N.
  """
  if kind == "dense":
    return dense_routing(scores.logits, valid)
  _check_k(scores.logits, k)
  logits, noisy = _noise_free_and_noisy(scores)
  bias = _bias(scores)
  experts, load = _select(
    kind, logits + bias, noisy + bias, _noise_std(scores), k, valid
  )
  return _weigh(kind, logits, noisy, experts, load, valid)


def joint_routing(
  kind: str, scores: Sequence[Scores], k: int, valid: Array | None = None
) -> list[Routing]:
  """One set of K experts per image for all tasks, weighed by each gate.

  The set holds the k largest of the mean over tasks of the softmaxes of the
  noisy (and biased) logits, so that an image costs k experts however many
  tasks there are. The mean is taken of probabilities, not of logits: a gate
  then has as much say as it is sure, whatever the scale of its logits. Each
  task weighs the set as its kind says: softmax over the set (noisy_top_k) or
  shares of the softmax over all experts (top_k).

  Losses. Importance, balance (with the first choices of the set) and z are
  those of each gate's own weights and probabilities. The load is a property
  of the set, the same for every task: with S = log sum_t softmax(H_t),
  P(x, i) is the probability that S_i stays above its threshold if all gates
  drew their noise of expert i again, to first order: the standard deviation of
  S_i is sqrt(sum_t (r_ti sigma_ti)^2) with r_ti the share of task t in the
  mean, normalisers held fixed. For T = 1 all of this is `separate_routing`.

  Args:
    kind: "dense" (each gate takes all experts), "noisy_top_k" or "top_k".
    scores: of the gate of each task; with noise for all of them or for none.
    k: experts per image, 1 ... N.
    valid: bool [B], False for padding; None: all are valid.

  Returns:
    A routing per task, all with the same `experts`: best first in the mean, so
    that a task's weights need not descend.

  Raises:
    InputError: k is not in 1 ... N.
  """
  if kind == "dense":
    return [dense_routing(s.logits, valid) for s in scores]
  _check_k(scores[0].logits, k)
  pairs = [_noise_free_and_noisy(s) for s in scores]
  experts, load = _select(kind, *_mixture(scores, pairs), k, valid)
  return [
    _weigh(kind, logits, noisy, experts, load, valid) for logits, noisy in pairs
  ]


def with_shared(routing: Routing, shared: int) -> Routing:
  """Experts that serve every image beside those that its gate chose.

  Dai et al. 2024, "DeepSeekMoE", section 3.2: what all images need is learned
  once, and what is routed can differ.

  Args:
    routing: over the experts behind the shared ones.
    shared: how many come first.

  Returns:
    The routing over all experts: the shared ones in front with weight 1 each,
    which no probability, loss or metric of the gate counts.
  """
  if not shared:
    return routing
  batch = routing.experts.shape[0]
  first = jnp.broadcast_to(jnp.arange(shared, dtype=jnp.int32), (batch, shared))
  nothing = jnp.zeros((batch, shared), jnp.float32)
  return dataclasses.replace(
    routing,
    experts=jnp.concatenate([first, routing.experts + shared], axis=1),
    weights=jnp.concatenate([nothing + 1, routing.weights], axis=1),
    probs=jnp.concatenate([nothing, routing.probs], axis=1),
  )


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
  return _without_losses(routing)


def random_routing(draws: Array, k: int, valid: Array | None = None) -> Routing:
  """The control that selects, but by chance: weight 1/k on k experts.

  Args:
    draws: f32 [B, N], independent and alike: any k experts are as likely.
    k: experts per image, 1 ... N.
    valid: bool [B], False for padding; None: all are valid.

  Returns:
    The routing to the experts of the k largest draws, with uniform `probs` and
    all losses 0.

  Raises:
    InputError: k is not in 1 ... N.
  """
  _check_k(draws, k)
  batch, num_experts = draws.shape
  experts = _ranking(draws, k)
  weights = jnp.full((batch, k), 1 / k, jnp.float32)
  received = full_weights(experts, weights, num_experts)
  load = hard_load(experts, num_experts, valid)
  logits = jnp.zeros((batch, num_experts))
  return _without_losses(
    _routing(logits, experts, weights, received, load, valid)
  )


def left_out(key: Array, shape: tuple[int, ...], rate: float, k: int) -> Array:
  """A bias [B, N] that keeps some experts from being selected.

  Args:
    key: of the draws.
    shape: (B, N).
    rate: probability of each expert, for each image.
    k: an image that fewer experts would be left to has all of them.

  Returns:
    f32, 0 or so low that every other expert comes first.
  """
  out = jax.random.bernoulli(key, rate, shape)
  enough = jnp.sum(~out, axis=1, keepdims=True) >= k
  return jnp.where(out & enough, -_MAX_LOGIT / 2, 0.0)


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
    noise_std: [B, N], or broadcastable to it; at least 1e-3 is used.
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
  noise_std = jnp.maximum(noise_std, _MIN_LOAD_STD)
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


def information_loss(probs: Array, valid: Array | None = None) -> Array:
  """Minus the mutual information of image and expert (Bridle et al. 1991).

  Args:
    probs: [B, N], softmax over all experts.
    valid: bool [B], False for padding; None: all are valid.

  Returns:
    Scalar in [-log N, 0], nats.
  """
  # `entr` has no gradient at 0; a probability may underflow.
  probs = jnp.maximum(probs, 1e-12)
  each = _mean_valid(jnp.sum(special.entr(probs), axis=-1), valid)
  mean = jnp.maximum(_mean_valid(probs, valid), 1e-12)
  return each - jnp.sum(special.entr(mean))


def bounded(logits: Array) -> Array:
  """Float32 logits with infinities made finite; NaN stays NaN."""
  return jnp.clip(logits.astype(jnp.float32), -_MAX_LOGIT, _MAX_LOGIT)


def gate_metrics(
  probs: Array, importance: Array, load: Array, valid: Array | None = None
) -> dict[str, Array]:
  """The metrics of a `Routing`, without gradients.

  Args:
    probs: [B, N].
    importance: [N], the weight that each expert receives.
    load: [N], the number of images that each expert receives.
    valid: bool [B], False for padding; None: all are valid.
  """
  probs, importance, load = jax.lax.stop_gradient((probs, importance, load))
  of_mean = jnp.sum(special.entr(_mean_valid(probs, valid)))
  entropy = _mean_valid(jnp.sum(special.entr(probs), axis=-1), valid)
  return {
    "entropy": entropy,
    "entropy_mean_gate": of_mean,
    "information": of_mean - entropy,
    "effective_experts": jnp.exp(of_mean),
    "cv_importance": jnp.sqrt(cv_squared(importance)),
    "cv_load": jnp.sqrt(cv_squared(load)),
    "max_load": jnp.max(load) / jnp.maximum(jnp.mean(load), 1e-6),
  }


def _noise_free_and_noisy(scores: Scores) -> tuple[Array, Array]:
  """Bounded logits, without and with noise."""
  logits = bounded(scores.logits)
  std = _noise_std(scores)
  if std is None or scores.noise is None:
    return logits, logits
  return logits, bounded(logits + scores.noise * std)


def _noise_std(scores: Scores) -> Array | float | None:
  """The scale of the noise, None where there is none."""
  return None if scores.noise is None else scores.noise_std


def _bias(scores: Scores) -> Array | float:
  return 0.0 if scores.bias is None else jax.lax.stop_gradient(scores.bias)


def _mixture(
  scores: Sequence[Scores], pairs: Sequence[tuple[Array, Array]]
) -> tuple[Array, Array, Array | None]:
  """log sum_t softmax of the tasks, noise-free and noisy, and its noise.

  In logarithms: the mean of softmaxes that underflow would be full of ties.
  """
  free: list[Array] = []
  with_noises: list[Array] = []
  for s, (logits, with_noise) in zip(scores, pairs):
    with_noise = with_noise + _bias(s)
    total = special.logsumexp(with_noise, axis=-1, keepdims=True)
    free.append(logits + _bias(s) - total)
    with_noises.append(with_noise - total)
  noisy = jnp.stack(with_noises)
  mean = special.logsumexp(noisy, axis=0)
  known = [std for std in map(_noise_std, scores) if std is not None]
  if len(known) < len(scores):
    return mean, mean, None
  stds = jnp.stack([jnp.broadcast_to(std, mean.shape) for std in known])
  variance = jnp.sum((jax.nn.softmax(noisy, axis=0) * stds) ** 2, axis=0)
  # Bounded inside: the square root has no gradient at 0.
  std = jnp.sqrt(jnp.maximum(variance, _MIN_LOAD_STD**2))
  return special.logsumexp(jnp.stack(free), axis=0), mean, std


def _select(
  kind: str,
  logits: Array,
  noisy: Array,
  noise_std: Array | float | None,
  k: int,
  valid: Array | None,
) -> tuple[Array, Array]:
  """The k best noisy logits [B, K] and the load [N] of that choice."""
  experts = _ranking(noisy, k)
  if noise_std is None:
    return experts, hard_load(experts, logits.shape[1], valid)
  exclude = kind == "noisy_top_k"
  return experts, smooth_load(
    logits, noisy, noise_std, k, exclude_self=exclude, valid=valid
  )


def _weigh(
  kind: str,
  logits: Array,
  noisy: Array,
  experts: Array,
  load: Array,
  valid: Array | None,
) -> Routing:
  """The routing of a gate, its experts and their load given."""
  if kind == "noisy_top_k" and experts.shape[1] > 1:
    weights = jax.nn.softmax(_pick(noisy, experts))
  else:
    weights = _pick(jax.nn.softmax(noisy), experts)
  if kind == "noisy_top_k":
    received = full_weights(experts, weights, logits.shape[1])
  else:
    received = jax.nn.softmax(logits)
  return _routing(logits, experts, weights, received, load, valid)


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
    "information": information_loss(probs, valid),
  }
  metrics = gate_metrics(
    probs,
    _sum_valid(full_weights(experts, weights, num_experts), valid),
    hard_load(experts, num_experts, valid),
    valid,
  )
  return Routing(experts, weights, probs, losses, metrics)


def _without_losses(routing: Routing) -> Routing:
  """The routing of a control: nothing in it learns."""
  losses = jax.tree.map(jnp.zeros_like, routing.losses)
  return dataclasses.replace(routing, losses=losses)


def _check_k(logits: Array, k: int) -> None:
  if not 1 <= k <= logits.shape[1]:
    raise errors.InputError(
      f"k={k} experts per image: must be from 1 to the number of experts, "
      f"{logits.shape[1]}"
    )


def _ranking(logits: Array, k: int) -> Array:
  """Indices i32 [B, K] of the k largest, best first; the choice is constant."""
  return meshes.top_indices(jax.lax.stop_gradient(logits), k)


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
