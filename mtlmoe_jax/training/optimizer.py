"""The optimizer: which parameters learn, how fast, and for how long.

Parameters are handled as a flat dict {"experts/condense/kernel": array}, so
that masks and rules are plain functions of names, and frozen parameters never
reach the optimizer at all (no gradient, no moments).
"""

import re
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from mtlmoe_jax import errors, models
from mtlmoe_jax.training import depth
from mtlmoe_jax.utils.trees import Flat, matching

# The gates of V-MoE layers are in no published weights.
BACKBONE = re.compile(r"(stem|experts/backbone)/(?!.*/moe/gate/)")


def frozen_names(
  names: Iterable[str], config: ml_collections.ConfigDict
) -> frozenset[str]:
  """Parameters that stay as they are.

  Those that `optimizer.frozen` or `transfer.freeze` name, and the backbone
  that only gates see.

  Raises:
    InputError: a pattern that is no regular expression or matches nothing.
  """
  names = list(names)
  out = frozenset(n for n in names if n.startswith("gate_backbone/"))
  for key, patterns in (
    ("optimizer.frozen", config.optimizer.frozen),
    ("transfer.freeze", config.transfer.freeze),
  ):
    for pattern in patterns:
      try:
        matched = matching(names, [pattern])
      except re.error as error:
        raise errors.InputError(
          f"config.{key}: {pattern!r} is no regular expression ({error})"
        ) from None
      if not matched:
        tops = sorted({n.split("/")[0] for n in names})
        raise errors.InputError(
          f"config.{key}: {pattern!r} matches no parameter; names start with "
          f"{', '.join(tops)}"
        )
      out |= matched
  return out


def make_schedule(
  config: ml_collections.ConfigDict, peak: float, steps: int, warmup: int
) -> optax.Schedule:
  """Linear warm-up to `peak`, then cosine to 0 (or constant)."""
  warmup = min(warmup, max(steps - 1, 0))
  if config.optimizer.schedule == "cosine":
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps)
  # Optax reads a ramp of no steps as "stay at the start": 0.
  if not warmup:
    return optax.constant_schedule(peak)
  return optax.warmup_constant_schedule(0.0, peak, warmup)


def make_optimizer(
  config: ml_collections.ConfigDict,
  names: Iterable[str],
  steps: int,
  steps_per_epoch: int,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """The optimizer of the trainable parameters.

  Backbone parameters (`stem/`, `experts/backbone/`) that start from weights or
  from another run learn at `optimizer.pretrained_lr`, those of unit u of 0 ...
  U at `optimizer.layer_decay`^(U - u) of it (Clark et al. 2020, "ELECTRA",
  appendix A); all others at `optimizer.lr`. Weight decay acts on kernels only.

  Args:
    config: the whole config.
    names: flat names of the trainable parameters.
    steps: length of training.
    steps_per_epoch: to turn warm-up epochs into steps.

  Returns:
    (transformation over the flat dict, the schedule of new parameters).
  """
  opt = config.optimizer
  started = bool(config.model.pretrained or config.transfer.source)
  names = list(names)
  labels = {
    n: "pretrained" if started and BACKBONE.match(n) else "new" for n in names
  }
  warmup = round(opt.warmup_epochs * steps_per_epoch)

  def rule(peak: float) -> optax.GradientTransformation:
    schedule = make_schedule(config, peak, steps, warmup)

    def mask(tree: Flat) -> Flat:
      # By path: a rule sees the other rules' leaves as empty nodes.
      return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key.endswith("/kernel"), tree
      )

    if opt.name == "adamw":
      return optax.adamw(schedule, weight_decay=opt.weight_decay, mask=mask)
    return optax.chain(
      optax.add_decayed_weights(opt.weight_decay, mask),
      optax.sgd(schedule, momentum=0.9, nesterov=True),
    )

  clip = optax.clip_by_global_norm(opt.clip) if opt.clip else optax.identity()
  rates = {"new": opt.lr, "pretrained": opt.pretrained_lr}
  transform = optax.partition(
    {label: rule(rates[label]) for label in sorted(set(labels.values()))},
    labels,
  )
  parts = [clip, transform]
  if opt.layer_decay < 1:
    pretrained = [n for n in names if labels[n] == "pretrained"]
    parts.append(scaled(layer_factors(config, pretrained)))
  return optax.chain(*parts), make_schedule(config, opt.lr, steps, warmup)


def layer_factors(
  config: ml_collections.ConfigDict, names: Iterable[str]
) -> dict[str, float]:
  """What multiplies the rate of each backbone parameter.

  Args:
    config: the whole config.
    names: flat names below `stem/` or `experts/backbone/`.

  Returns:
    name -> `optimizer.layer_decay`^(U - u), which is 1 in the last unit.
  """
  sizes = models.get_backbone(config.model.backbone).sizes
  decay = config.optimizer.layer_decay
  return {
    n: decay ** (sizes.last - depth.unit_of(sizes, BACKBONE.sub("", n, 1)))
    for n in names
  }


def scaled(factors: dict[str, float]) -> optax.GradientTransformation:
  """Multiplies the updates that `factors` names; the others stay.

  Behind a whole optimizer this is another learning rate: its schedules are
  proportional to their peaks.
  """
  return optax.stateless(
    lambda updates, _: {
      n: u * factors[n] if n in factors else u for n, u in updates.items()
    }
  )


def ema_update(average: Flat, new: Flat, decay: float, step: Any) -> Flat:
  """Exponential moving average with a warm-up of the decay.

  The decay is min(decay, (1 + t) / (10 + t)) at step t, so that the average
  does not remember the initial values of a short run.
  """
  d = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
  return {n: a * d + new[n] * (1.0 - d) for n, a in average.items()}
