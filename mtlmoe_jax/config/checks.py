"""Checks of all values, before anything is opened or built."""

import re
from collections.abc import Callable
from typing import Any

import ml_collections

from mtlmoe_jax import errors
from mtlmoe_jax.config.typed import k_of, tasks_of
from mtlmoe_jax.config.words import (
  CLASSIFIERS,
  COMPUTES,
  CONDENSES,
  DATA_NAMES,
  DISPATCHES,
  EXTRA_NAMES,
  GATES,
  MOE_GATES,
  MOE_GROUPS,
  NOISE_SCHEDULES,
  NORMS,
  OPTIMIZERS,
  PRECISIONS,
  SCHEDULES,
  SELECTS,
  SPLIT_SCHEMES,
  TASKS,
  TOKEN_GATES,
  VIEWS,
  WEIGHTINGS,
)
from mtlmoe_jax.ops import pixels


def check_config(config: ml_collections.ConfigDict) -> None:
  """Checks every value that has a bounded range.

  Raises:
    InputError: naming the key, its value and what it may be.
  """
  c, model, data = config, config.model, config.data

  def among(path: str, allowed: tuple[str, ...]) -> None:
    value = _get(c, path)
    if value not in allowed:
      raise errors.InputError(
        f"config.{path}={value!r}: must be one of {', '.join(allowed)}"
      )

  def number(path: str, ok: Callable[[Any], bool], what: str) -> None:
    value = _get(c, path)
    if not ok(value):
      raise errors.InputError(f"config.{path}={value!r}: must be {what}")

  among("data.name", DATA_NAMES)
  among("data.split_scheme", SPLIT_SCHEMES)
  among("data.extra.name", EXTRA_NAMES)
  if model.gate in TOKEN_GATES:
    raise errors.InputError(
      f"config.model.gate={model.gate!r}: over images a prediction would "
      "depend on the other images of its batch; use noisy_top_k, top_k or "
      "dense (over patch tokens: config.model.token_moe)"
    )
  among("model.gate", GATES)
  among("model.gate_noise_schedule", NOISE_SCHEDULES)
  among("model.select", SELECTS)
  among("model.compute", COMPUTES)
  among("model.dispatch", DISPATCHES)
  among("model.norm", NORMS)
  if model.normalization:
    among("model.normalization", tuple(pixels.NORMALISATIONS))
  among("model.condense", CONDENSES)
  among("model.classifier", CLASSIFIERS)
  among("optimizer.name", OPTIMIZERS)
  among("optimizer.schedule", SCHEDULES)
  among("loss.weighting", WEIGHTINGS)
  among("precision", PRECISIONS)
  among("eval.step", ("best", "latest"))
  among("eval.views", VIEWS)
  named = [t.strip() for t in model.tasks.split(",")]
  if (
    not named
    or any(t not in TASKS for t in named)
    or len(set(named)) != len(named)
  ):
    raise errors.InputError(
      f"config.model.tasks={model.tasks!r}: must be 'class', 'box' or "
      "'class,box'"
    )
  if "zoom" in c.eval.views and "box" not in named:
    raise errors.InputError(
      f"config.eval.views={c.eval.views!r}: a closer view needs the box task, "
      f"config.model.tasks is {model.tasks!r}"
    )
  if data.shuffle_boxes and "box" not in named:
    raise errors.InputError(
      f"config.data.shuffle_boxes={data.shuffle_boxes!r}: shuffles the targets "
      f"of the box task, config.model.tasks is {model.tasks!r}; add 'box' or "
      "leave the boxes alone"
    )
  if c.loss.weighting == "pcgrad" and len(named) < 2:
    raise errors.InputError(
      f"config.loss.weighting={c.loss.weighting!r}: compares the gradients of "
      f"two tasks, config.model.tasks is {model.tasks!r}; use 'class,box' or "
      "weighting 'fixed'"
    )
  number("batch_size", lambda v: v >= 1, "at least 1")
  number("epochs", lambda v: v > 0 or c.steps > 0, "above 0")
  number("steps", lambda v: v >= 0, "0 (use epochs) or more")
  number("data.image_size", lambda v: v >= 32, "at least 32 pixels")
  number("data.validation_fraction", lambda v: 0 <= v < 1, "in [0, 1)")
  number("features.views", lambda v: v >= 0, "0 (off) or more")
  number("model.grid", lambda v: 0 <= v <= 32, "0 (the backbone's) ... 32")
  number("data.cache_gib", lambda v: v >= 0, "0 or more")
  number("data.threads", lambda v: v >= 1, "at least 1")
  number("data.extra.share", lambda v: 0 < v < 1, "in (0, 1)")
  number("data.augment.crop_area_min", lambda v: 0 < v <= 1, "in (0, 1]")
  number("data.augment.crop_aspect_max", lambda v: v >= 1, "at least 1")
  number("data.augment.min_visible", lambda v: 0 <= v <= 1, "in [0, 1]")
  number("data.augment.flip", lambda v: 0 <= v <= 1, "in [0, 1]")
  for name in ("brightness", "contrast", "saturation"):
    number(f"data.augment.{name}", lambda v: 0 <= v < 1, "in [0, 1)")
  number("data.augment.mixup", lambda v: 0 <= v <= 1, "in [0, 1]")
  number("data.augment.mixup_alpha", lambda v: v > 0, "above 0")
  number("data.synthetic.classes", lambda v: v >= 2, "at least 2")
  number("data.synthetic.train_per_class", lambda v: v >= 2, "at least 2")
  number("data.synthetic.test_per_class", lambda v: v >= 1, "at least 1")
  number("data.synthetic.size", lambda v: v >= 32, "at least 32 pixels")
  number("model.experts", lambda v: v >= 1, "at least 1")
  for name in ("condense_dim", "tower_dim", "gate_width"):
    number(f"model.{name}", lambda v: v >= 1, "at least 1")
  for name in ("dropout", "drop_path"):
    number(f"model.{name}", lambda v: 0 <= v < 1, "in [0, 1)")
  number("model.gate_noise", lambda v: v >= 0, "0 (none) or more")
  if model.gate_noise_schedule != "constant":
    number(
      "model.gate_noise_end",
      lambda v: 0 <= v <= model.gate_noise,
      f"from 0 to model.gate_noise={model.gate_noise}",
    )
  number("model.gate_temperature", lambda v: v > 0, "above 0")
  number("model.bias_rate", lambda v: v >= 0, "0 (off) or more")
  number("model.capacity_factor", lambda v: v >= 0, "0 (dropless) or more")
  number("model.shared_stages", lambda v: 0 <= v <= 8, "in 0 ... 8")
  number("model.break_symmetry", lambda v: v >= 0, "0 or more")
  try:
    ks = k_of(c)
  except ValueError:
    ks = ()
  if len(ks) != len(tasks_of(c)) or any(
    not 1 <= k <= model.experts for k in ks
  ):
    raise errors.InputError(
      f"config.model.k={model.k!r}: must be one number or one per task, each "
      f"from 1 to model.experts={model.experts}"
    )
  if model.share_gate and len(set(ks)) > 1:
    raise errors.InputError(
      f"config.model.k={model.k!r}: model.share_gate needs the same k for "
      "every task"
    )
  if model.select == "joint" and len(set(ks)) > 1:
    raise errors.InputError(
      f"config.model.k={model.k!r}: model.select='joint' needs the same k for "
      "every task"
    )
  _check_token_moe(model.token_moe, among, number)
  check_dispatch(c)
  check_mixup(c)
  if data.extra.path and c.features.views:
    raise errors.InputError(
      f"config.data.extra.path={data.extra.path!r}: features are computed of "
      f"the main images alone (config.features.views={c.features.views}); use "
      "one of them"
    )
  number("optimizer.lr", lambda v: v > 0, "above 0")
  number("optimizer.pretrained_lr", lambda v: v >= 0, "0 or more")
  number("optimizer.layer_decay", lambda v: 0 < v <= 1, "in (0, 1]")
  number("optimizer.warmup_epochs", lambda v: v >= 0, "0 or more")
  number("optimizer.clip", lambda v: v >= 0, "0 (off) or more")
  number("optimizer.ema", lambda v: 0 <= v < 1, "in [0, 1)")
  number("optimizer.max_bad_steps", lambda v: v >= 1, "at least 1")
  number("loss.label_smoothing", lambda v: 0 <= v < 1, "in [0, 1)")
  number("checkpoint.keep", lambda v: v >= 1, "at least 1")
  number("checkpoint.every_steps", lambda v: v >= 0, "0 (each epoch) or more")
  number("log.every_steps", lambda v: v >= 1, "at least 1")
  number("eval.batch_size", lambda v: v >= 1, "at least 1")
  number("eval.every_epochs", lambda v: v >= 1, "at least 1")
  number("eval.crop_share", lambda v: 0.5 <= v < 1, "in [0.5, 1)")
  number("eval.zoom_margin", lambda v: 1 <= v <= 2, "in [1, 2]")
  number("micro_batches", lambda v: v >= 1, "at least 1")
  number("mesh.expert", lambda v: v >= 1, "at least 1")
  number("mesh.fsdp", lambda v: v >= 1, "at least 1")
  number("mesh.data", lambda v: v == -1 or v >= 1, "-1 (the rest) or more")
  if data.name != "synthetic" and not data.path:
    raise errors.InputError(
      f"config.data.path is empty: data.name={data.name!r} needs the folder "
      "of the data set (--config.data.path=DIR)"
    )


def _check_token_moe(
  token: ml_collections.ConfigDict,
  among: Callable[[str, tuple[str, ...]], None],
  number: Callable[[str, Callable[[Any], bool], str], None],
) -> None:
  number(
    "model.token_moe.blocks",
    lambda v: re.fullmatch(r"((last|every):[1-9]\d*|\d+(,\d+)*)?", v),
    "'' (none), 'last:N', 'every:N' or numbers of blocks such as '9,11'",
  )
  among("model.token_moe.gate", MOE_GATES)
  among("model.token_moe.group", MOE_GROUPS)
  if token.group == "batch" and token.gate in TOKEN_GATES:
    raise errors.InputError(
      f"config.model.token_moe.group='batch': with gate={token.gate!r} a "
      "prediction would depend on the other images of its batch; use 'image'"
    )
  for name in ("experts", "slots"):
    number(f"model.token_moe.{name}", lambda v: v >= 1, "at least 1")
  number(
    "model.token_moe.k",
    lambda v: 1 <= v <= token.experts,
    f"from 1 to model.token_moe.experts={token.experts}",
  )
  for name in ("capacity_factor", "eval_capacity_factor"):
    number(f"model.token_moe.{name}", lambda v: v >= 0, "0 (dropless) or more")


def check_dispatch(config: ml_collections.ConfigDict) -> None:
  """Checks that the dispatch can have the statistics that the norm takes.

  Raises:
    InputError: batch statistics over images that an expert sees in parts.
  """
  model = config.model
  pairs = model.compute == "sparse" and model.dispatch == "pairs"
  if pairs and model.norm == "batch":
    raise errors.InputError(
      "config.model.norm='batch': needs all images of an expert at once, which "
      "config.model.dispatch='pairs' does not have; use dispatch 'auto' or "
      "'gather', or norm 'frozen' or 'group'"
    )


def check_mixup(config: ml_collections.ConfigDict) -> None:
  """Checks that mixup has what it needs.

  Raises:
    InputError: no class task.
  """
  told = f"config.data.augment.mixup={config.data.augment.mixup!r}"
  if not config.data.augment.mixup:
    return
  if "class" not in tasks_of(config):
    raise errors.InputError(
      f"{told}: mixes labels, and mixed images have no box; it needs 'class' "
      f"in config.model.tasks={config.model.tasks!r}"
    )


def _get(config: ml_collections.ConfigDict, path: str) -> Any:
  for part in path.split("."):
    config = config[part]
  return config
