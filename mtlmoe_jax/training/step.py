"""One training step, as a pure function.

B images. The step is `(state, batch) -> (state, metrics)`; everything random in
it comes from the seed and the step's number, so that a resumed run repeats it
exactly. The seed may be given as a third argument: runs that differ in it alone
then are one compiled program.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.ops import boxes, losses, mixup
from mtlmoe_jax.training.gradients import (
  Batch,
  LossFn,
  accumulate,
  surgical_gradient,
)
from mtlmoe_jax.training.optimizer import ema_update
from mtlmoe_jax.training.state import TrainState
from mtlmoe_jax.utils import trees
from mtlmoe_jax.utils.trees import Flat

Step = Callable[..., tuple[TrainState, dict[str, jax.Array]]]


def make_train_step(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  schedule: optax.Schedule,
  frozen: frozenset[str],
  config: ml_collections.ConfigDict,
  steps: int | None = None,
) -> Step:
  """Builds the step of one run.

  A step whose loss or gradient is not finite changes nothing but the count of
  `bad_steps`; the loop stops the run when they come in a row.

  Args:
    model: the Linen model.
    optimizer: over the flat trainable parameters.
    schedule: the learning rate that is reported.
    frozen: names of parameters that are not trained.
    config: the whole config.
    steps: length of training; only a noise schedule needs it.

  Raises:
    ValueError: a noise schedule without `steps`.
  """
  noise = noise_schedule(config, steps)
  tasks = config_lib.resolve(config).tasks
  surgery = config.loss.weighting == "pcgrad"

  def step(
    state: TrainState,
    batch: Batch,
    seed: int | jax.Array = config.seed,
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    trainable, fixed = trees.split(state.params, frozen)
    # A function of the step alone, as the keys are.
    scheduled = {"gate_noise": noise(state.step)} if noise else {}
    loss_fn = make_loss(model, fixed, scheduled, config)
    (measured, stats), grads = accumulate(
      surgical_gradient(loss_fn, tasks)
      if surgery
      else jax.grad(loss_fn, has_aux=True),
      trainable,
      state.batch_stats,
      batch,
      key,
      config.micro_batches,
    )
    new, norm = apply_update(
      state, grads, measured["loss"], stats, optimizer, frozen, config
    )
    metrics = {
      **measured,
      **scheduled,
      "grad_norm": norm,
      "lr": schedule(state.step),
      "bad_steps": new.bad_steps,
    }
    return new, metrics

  return step


def make_loss(
  model: nn.Module,
  fixed: Flat,
  scheduled: Mapping[str, Any],
  config: ml_collections.ConfigDict,
) -> LossFn:
  """Builds the loss of part of a batch as a function of what learns.

  Args:
    model: the Linen model.
    fixed: parameters that do not learn.
    scheduled: arguments of the model that change from step to step.
    config: the whole config.

  Returns:
    (trainable, stats, part, key) -> (loss, (metrics, stats)). The loss is that
    of `separate_losses` where gradients are operated on.
  """
  augment = config.data.augment
  surgery = config.loss.weighting == "pcgrad"

  def loss_fn(
    trainable: Flat, stats: Any, part: Batch, key: jax.Array
  ) -> tuple[jax.Array, Any]:
    gating, dropout, mixing = jax.random.split(key, 3)
    if augment.mixup:
      part = mixup.mixup(mixing, part, augment.mixup, augment.mixup_alpha)
    params = trees.unflatten({**fixed, **trainable})
    outputs, changed = model.apply(
      {"params": params, "batch_stats": stats},
      part["image"],
      train=True,
      valid=part["valid"],
      features=part.get("features"),
      gate_features=part.get("gate_features"),
      **scheduled,
      rngs={"gating": gating, "dropout": dropout},
      mutable=["batch_stats"],
    )
    loss, parts = loss_of(outputs, part, config)
    measured = {"loss": loss, **parts, **train_metrics(outputs, part)}
    if surgery:
      loss = separate_losses(outputs, part, config)
    return loss, (measured, changed.get("batch_stats", stats))

  return loss_fn


def apply_update(
  state: TrainState,
  grads: Flat,
  loss: jax.Array,
  stats: Any,
  optimizer: optax.GradientTransformation,
  frozen: frozenset[str],
  config: ml_collections.ConfigDict,
) -> tuple[TrainState, jax.Array]:
  """One update of the optimizer, unless loss or gradient is not finite.

  Args:
    state: before the step.
    grads: of the trainable parameters.
    loss: of the batch.
    stats: the norms' statistics behind the batch.
    optimizer: over the flat trainable parameters.
    frozen: names of parameters that are not trained.
    config: the whole config.

  Returns:
    (the state behind the step, norm of the gradient).
  """
  trainable, fixed = trees.split(state.params, frozen)
  norm = optax.global_norm(grads)
  ok = jnp.isfinite(loss) & jnp.isfinite(norm)
  updates, opt_state = optimizer.update(grads, state.opt_state, trainable)
  updated = optax.apply_updates(trainable, updates)
  ema = state.ema
  if ema:
    ema = ema_update(ema, updated, config.optimizer.ema, state.step)
  new = TrainState(
    step=state.step,
    bad_steps=jnp.zeros_like(state.bad_steps),
    params={**fixed, **updated},
    batch_stats=_keep_frozen(stats, state.batch_stats, config),
    opt_state=opt_state,
    ema=ema,
  )
  old = state.replace(bad_steps=state.bad_steps + 1)
  new = jax.tree.map(lambda n, o: jnp.where(ok, n, o), new, old)
  return new.replace(step=state.step + 1), norm


def noise_schedule(
  config: ml_collections.ConfigDict, steps: int | None
) -> optax.Schedule | None:
  """The scale of the gates' noise at a step, None where it never changes.

  From `model.gate_noise` at step 0 to `model.gate_noise_end` at step `steps`.

  Raises:
    ValueError: a schedule that changes, and no `steps`.
  """
  model = config.model
  if model.gate_noise_schedule == "constant" or not model.gate_noise:
    return None
  if steps is None:
    raise ValueError("model.gate_noise_schedule needs the length of training")
  start, end = model.gate_noise, model.gate_noise_end
  if model.gate_noise_schedule == "linear":
    return optax.linear_schedule(start, end, steps)
  return optax.cosine_decay_schedule(start, steps, end / start)


def separate_losses(
  outputs: Any, batch: Batch, config: ml_collections.ConfigDict
) -> jax.Array:
  """The weighted loss of each task, then all auxiliary ones: [T + 1]."""
  weights = config_lib.resolve(config).task_weights
  auxiliary, parts = loss_of(outputs, batch, config, dict.fromkeys(weights, 0))
  weighted = [
    # As in `total_loss`: a term of weight 0 cannot spoil anything.
    weight * parts[f"loss_{task}"] if weight else jnp.zeros(())
    for task, weight in weights.items()
  ]
  return jnp.stack([*weighted, auxiliary])


def loss_of(
  outputs: Any,
  batch: Batch,
  config: ml_collections.ConfigDict,
  task_weights: Mapping[str, float] | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """The training loss and its parts.

  Each task's loss is a mean over the images that have that target; auxiliary
  losses of the gates are averaged over tasks, those of V-MoE layers over
  layers. A batch may come from `mixup`. Task weights are those of the config
  unless they are given.
  """
  options = config.loss
  if task_weights is None:
    task_weights = config_lib.resolve(config).task_weights
  task_losses = {}
  if outputs.logits is not None:
    task_losses["class"] = losses.cross_entropy(
      outputs.logits,
      batch["label"],
      batch["has_label"] & batch["valid"],
      options.label_smoothing,
      batch.get("other_label"),
      batch.get("label_weight"),
    )
  if outputs.box is not None:
    task_losses["box"] = losses.box_loss(
      outputs.box, batch["box"], batch["has_box"] & batch["valid"]
    )
  return losses.total_loss(
    task_losses,
    {task: routing.losses for task, routing in outputs.routing.items()},
    token_losses={name: r.losses for name, r in outputs.tokens.items()},
    task_weights=task_weights,
    aux_weights={
      name: options[name]
      for name in ("importance", "load", "balance", "z", "information")
    },
    log_variance=outputs.log_variance,
  )


def train_metrics(outputs: Any, batch: Batch) -> dict[str, jax.Array]:
  """Accuracy, IoU and routing of the training batch.

  What a gate did is `<task>/<name>`, of a V-MoE layer `tokens/<block>/<name>`.
  The class of a mixed image is that of its larger part.
  """
  out = {}
  if outputs.logits is not None:
    right = jnp.argmax(outputs.logits, -1) == batch["label"]
    out["top1"] = losses.masked_mean(
      right.astype(jnp.float32), batch["has_label"] & batch["valid"]
    )
  if outputs.box is not None:
    out["miou"] = losses.masked_mean(
      boxes.iou(outputs.box, batch["box"]), batch["has_box"] & batch["valid"]
    )
  for gate, routing in (outputs.routing | outputs.tokens).items():
    for name, value in routing.metrics.items():
      if jnp.ndim(value) == 0:
        out[f"{gate}/{name}"] = value
  return out


def _keep_frozen(new: Any, old: Any, config: ml_collections.ConfigDict) -> Any:
  """Statistics of frozen parts stay as they were."""
  if not new or not (config.transfer.freeze or config.optimizer.frozen):
    return new
  flat_new, flat_old = trees.flatten(new), trees.flatten(old)
  still = trees.matching(
    flat_new, (*config.transfer.freeze, *config.optimizer.frozen)
  )
  return trees.unflatten(
    {n: flat_old[n] if n in still else v for n, v in flat_new.items()}
  )
