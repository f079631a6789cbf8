"""Training losses: masked task losses and their weighted total.

Letters: B images, L classes, T tasks. A row whose mask is False (no target, or
padding) adds nothing to a loss nor to its gradient, whatever it holds; without
any row a loss is 0. Losses are float32 scalars.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mtlmoe_jax.ops import boxes

Array = jax.Array


def masked_mean(values: Array, mask: Array) -> Array:
  """Mean of values [B] over the rows where mask [B] is True; 0 without any."""
  count = jnp.maximum(jnp.sum(mask), 1)
  return jnp.sum(jnp.where(mask, values, 0)) / count


def cross_entropy(
  logits: Array,
  labels: Array,
  mask: Array,
  label_smoothing: float = 0.0,
  other_labels: Array | None = None,
  weights: Array | None = None,
) -> Array:
  """Softmax cross-entropy with label smoothing (Szegedy et al. 2016, sec. 7).

  The target is (1 - s) on the label plus s / L on every class; of a mixed image
  (Zhang et al. 2018) (1 - s) is shared by two labels.

  Args:
    logits: [B, L].
    labels: i32 [B]; any value, such as -1, where mask is False.
    mask: bool [B].
    label_smoothing: s in [0, 1).
    other_labels: i32 [B], of the images mixed in; None: none are.
    weights: f32 [B] in [0, 1], the part of `labels`; needed, and only read,
      with `other_labels`.

  Returns:
    Mean over the masked rows, nats.
  """
  # Rows without a target are emptied before anything is computed, so that not
  # even a NaN in them reaches the gradient.
  logits = jnp.where(mask[:, None], logits.astype(jnp.float32), 0)
  log_probs = jax.nn.log_softmax(logits)

  def of(labels: Array) -> Array:
    labels = jnp.where(mask, labels, 0)[:, None]
    return jnp.take_along_axis(log_probs, labels, axis=1)[:, 0]

  true = of(labels)
  if other_labels is not None:
    assert weights is not None
    true = weights * true + (1 - weights) * of(other_labels)
  smooth = label_smoothing * jnp.mean(log_probs, axis=1)
  return masked_mean(-(1 - label_smoothing) * true - smooth, mask)


def box_loss(pred: Array, true: Array, mask: Array) -> Array:
  """Complete IoU loss (Zheng et al. 2020; see `boxes.ciou_loss`).

  Args:
    pred: [B, 4] xyxy, normalised.
    true: [B, 4] xyxy, normalised; anything where mask is False.
    mask: bool [B].

  Returns:
    Mean over the masked rows.
  """
  pred, true = (jnp.where(mask[:, None], b, 0) for b in (pred, true))
  return masked_mean(boxes.ciou_loss(pred, true), mask)


def uncertainty_weighted(
  losses: Mapping[str, Array], log_variance: Array
) -> Array:
  """Learned task weights, sum_t L_t exp(-s_t) + s_t / 2 (Kendall et al. 2018).

  s = log sigma^2. The paper halves the data term of regression losses (eq. 5)
  but not of classification (eq. 10). Here no term is halved: with s' = s + log
  2 the halved form is the same up to a constant, and so s = 0 is exactly the
  plain sum of the losses.

  Args:
    losses: T scalars by task.
    log_variance: [T], s, in the order of `losses`.

  Returns:
    Scalar.
  """
  values = jnp.stack(list(losses.values()))
  return jnp.sum(values * jnp.exp(-log_variance) + log_variance / 2)


def total_loss(
  task_losses: Mapping[str, Array],
  aux_losses: Mapping[str, Mapping[str, Array]],
  *,
  task_weights: Mapping[str, float],
  aux_weights: Mapping[str, float],
  log_variance: Array | None = None,
  token_losses: Mapping[str, Mapping[str, Array]] | None = None,
) -> tuple[Array, dict[str, Array]]:
  """Task losses plus the auxiliary losses of the gates.

  total = sum_t w_t L_t + sum_a w_a (mean_t A_(t, a) + mean_m A_(m, a)), over
  tasks t and V-MoE layers m; the first sum is replaced by
  `uncertainty_weighted` when there is a `log_variance`. A term of weight 0 is
  left out, so that it cannot spoil the total, but is still reported.

  Args:
    task_losses: scalar by task.
    aux_losses: task -> name -> scalar, as in `Routing.losses`.
    task_weights: w_t by task; unused with `log_variance`.
    aux_weights: w_a by name; a name that is missing counts as 0.
    log_variance: [T] in the order of `task_losses`, or None.
    token_losses: as `aux_losses`, by V-MoE layer; None: there are none. They
      have a mean of their own, so that layers and tasks, however many, do not
      weaken each other's balance.

  Returns:
    (total, parts): parts holds `loss_<task>`, `<task>/loss_<name>` and
    `<layer>/loss_<name>`, all unweighted, and `weight_<task>` when those are
    learned.
  """
  parts = {f"loss_{task}": value for task, value in task_losses.items()}
  total = jnp.zeros(())
  if log_variance is not None:
    total += uncertainty_weighted(task_losses, log_variance)
    for i, task in enumerate(task_losses):
      parts[f"weight_{task}"] = jnp.exp(-log_variance[i])
  else:
    for task, value in task_losses.items():
      if task_weights[task]:
        total += task_weights[task] * value
  for gates in (aux_losses, token_losses or {}):
    for gate, named in gates.items():
      for name, value in named.items():
        parts[f"{gate}/loss_{name}"] = value
        if weight := aux_weights.get(name, 0):
          total += weight * value / len(gates)
  return total, parts


def gradient_surgery(gradients: Sequence[Any]) -> Any:
  """Sum of gradients without their conflicts (PCGrad, Yu et al. 2020, alg. 1).

  Where the gradient of one task has a negative inner product with that of
  another, it is projected onto the plane normal to the other, as that was
  before any projection. Others are taken in the order given, not in the random
  one of the paper: for two tasks there is only one other.

  Args:
    gradients: of T tasks, trees of arrays of one structure.

  Returns:
    The sum of the projected gradients, a tree alike. Zero gradients conflict
    with none.
  """
  squares = [inner_product(g, g) for g in gradients]
  projected = list(gradients)
  for i in range(len(gradients)):
    for j, other in enumerate(gradients):
      if i == j:
        continue
      dot = inner_product(projected[i], other)
      # A square may underflow where the product does not.
      conflict = (dot < 0) & (squares[j] > 0)
      share = jnp.where(conflict, dot, 0) / jnp.where(conflict, squares[j], 1)
      projected[i] = _without(projected[i], share, other)
  return jax.tree.map(lambda *leaves: sum(leaves), *projected)


def cosine(a: Any, b: Any) -> Array:
  """Cosine of the angle between two trees of arrays; 0 where one is zero."""
  lengths = jnp.sqrt(inner_product(a, a)) * jnp.sqrt(inner_product(b, b))
  return inner_product(a, b) / jnp.where(lengths > 0, lengths, 1)


def inner_product(a: Any, b: Any) -> Array:
  """Sum of the products of all entries of two trees of arrays; a scalar."""
  # Not `vdot`, which flattens: leaves may be split over devices.
  products = jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)
  return jax.tree.reduce(jnp.add, products, jnp.zeros(()))


def _without(tree: Any, share: Array, other: Any) -> Any:
  """tree - share * other."""
  return jax.tree.map(lambda x, y: x - share * y, tree, other)
