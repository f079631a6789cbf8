"""Gradients of a batch: in parts, and without the conflicts of its tasks.

Letters: B images, T tasks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mtlmoe_jax.ops import losses
from mtlmoe_jax.utils.trees import Flat

Batch = dict[str, jax.Array]
# (trainable, stats, part of a batch, key) -> (loss, (metrics, stats))
LossFn = Callable[[Flat, Any, Batch, jax.Array], tuple[jax.Array, Any]]
# The same arguments -> (gradients, (metrics, stats))
Gradient = Callable[[Flat, Any, Batch, jax.Array], tuple[Flat, Any]]


def accumulate(
  gradient: Gradient,
  trainable: Flat,
  stats: Any,
  batch: Batch,
  key: jax.Array,
  count: int,
) -> tuple[tuple[dict[str, jax.Array], Any], Flat]:
  """The mean gradient over equal parts of a batch, one after another.

  Each part has rows of every device. Its losses are means over its own images,
  its mixture is balanced by itself, and batch statistics are its own, the next
  part going on from those stored.

  Args:
    gradient: (trainable, stats, part, key) -> (gradients, (metrics, stats)).
    trainable: parameters.
    stats: batch statistics.
    batch: arrays [B, ...].
    key: random; with one part as it is.
    count: of parts, a divisor of B.

  Returns:
    ((metrics, stats), gradients); metrics and gradients are means.
  """
  if count == 1:
    grads, measured_and_stats = gradient(trainable, stats, batch, key)
    return measured_and_stats, grads

  def part_of(index: jax.Array) -> dict[str, jax.Array]:
    return jax.tree.map(
      lambda x: x.reshape(-1, count, *x.shape[1:])[:, index], batch
    )

  def body(carry: Any, index: jax.Array) -> tuple[Any, Any]:
    stats, total = carry
    own = jax.random.fold_in(key, index)
    grads, (measured, stats) = gradient(trainable, stats, part_of(index), own)
    return (stats, jax.tree.map(jnp.add, total, grads)), measured

  zeros = jax.tree.map(jnp.zeros_like, trainable)
  (stats, total), measured = jax.lax.scan(
    body, (stats, zeros), jnp.arange(count)
  )
  grads = jax.tree.map(lambda g: g / count, total)
  return (jax.tree.map(lambda m: jnp.mean(m, 0), measured), stats), grads


def surgical_gradient(loss_fn: LossFn, tasks: Sequence[str]) -> Gradient:
  """In place of `jax.grad`: task gradients without their conflicts, summed.

  The conflicts are those in shared parameters (of Yu et al. 2020 the theta):
  what only one task has, its tower and gate, has the gradient of that task,
  whose length would else hide how much of the shared one conflicts. Nothing is
  projected of the auxiliary losses' gradient, nor against it.

  Args:
    loss_fn: (trainable, stats, part, key) -> (losses, (metrics, stats)), with
      the losses of `separate_losses`.
    tasks: two, in the order of the losses.

  Returns:
    (trainable, stats, part, key) -> (gradients, (metrics, stats)); the metrics
    have `gradient_cosine` besides, of the two tasks and shared parameters.
  """
  own = tuple(f"{part}_{task}/" for part in ("gate", "tower") for task in tasks)

  def gradient(trainable: Flat, *rest: Any) -> tuple[Flat, Any]:
    values, pull_back, (measured, stats) = jax.vjp(
      lambda params: loss_fn(params, *rest), trainable, has_aux=True
    )
    # One after another: mapped over rows, all would be in memory at once.
    grads = [pull_back(row)[0] for row in jnp.eye(len(values))]
    shared = [
      {n: g for n, g in task_grads.items() if not n.startswith(own)}
      for task_grads in grads[: len(tasks)]
    ]
    cosine = losses.cosine(*shared)
    total = jax.tree.map(lambda *leaves: sum(leaves), *grads)
    repaired = losses.gradient_surgery(shared)
    total |= {n: g + grads[-1][n] for n, g in repaired.items()}
    return total, ({**measured, "gradient_cosine": cosine}, stats)

  return gradient
