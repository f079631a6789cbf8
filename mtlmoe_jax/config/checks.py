"""Checks of all values, before anything is opened or built.

What one option may be is in its declaration (`defaults`); here is what depends
on several of them.
"""

import ml_collections

from mtlmoe_jax import errors
from mtlmoe_jax.config.defaults import BY_PATH, OPTIONS
from mtlmoe_jax.config.typed import (
  gate_starts_of,
  k_of,
  named_tasks,
  tasks_of,
)
from mtlmoe_jax.config.words import CONTROLS, SCORES, TASKS, TOKEN_GATES
from mtlmoe_jax.moe import strategies


def check_config(config: ml_collections.ConfigDict) -> None:
  """Checks every value, and what some values need of others.

  Raises:
    InputError: naming the option, its value and what it may be.
  """
  _check_gate_of_images(config)
  for option in OPTIONS:
    option.check(config[option.path])
  _check_tasks(config)
  _check_length(config)
  _check_gate_noise(config)
  _check_k(config)
  _check_gate_input(config)
  _check_upcycling(config)
  _check_token_moe(config)
  check_dispatch(config)
  check_mixup(config)
  _check_data(config)


def _check_gate_of_images(config: ml_collections.ConfigDict) -> None:
  if config.model.gate in TOKEN_GATES:
    raise errors.InputError(
      f"config.model.gate={config.model.gate!r}: over images a prediction "
      "would depend on the other images of its batch; use noisy_top_k, top_k "
      "or dense (over patch tokens: config.model.token_moe)"
    )


def _check_tasks(config: ml_collections.ConfigDict) -> None:
  named, tasks = named_tasks(config), config.model.tasks
  if any(t not in TASKS for t in named) or len(set(named)) != len(named):
    raise _refused(config, "model.tasks")
  if "zoom" in config.eval.views and "box" not in named:
    raise errors.InputError(
      f"config.eval.views={config.eval.views!r}: a closer view needs the box "
      f"task, config.model.tasks is {tasks!r}"
    )
  if config.data.shuffle_boxes and "box" not in named:
    raise errors.InputError(
      f"config.data.shuffle_boxes={config.data.shuffle_boxes!r}: shuffles the "
      f"targets of the box task, config.model.tasks is {tasks!r}; add 'box' or "
      "leave the boxes alone"
    )
  if config.loss.weighting == "pcgrad" and len(named) < 2:
    raise errors.InputError(
      f"config.loss.weighting={config.loss.weighting!r}: compares the "
      f"gradients of two tasks, config.model.tasks is {tasks!r}; use "
      "'class,box' or weighting 'fixed'"
    )


def _check_length(config: ml_collections.ConfigDict) -> None:
  if not (config.epochs > 0 or config.steps > 0):
    raise _refused(config, "epochs")


def _check_gate_noise(config: ml_collections.ConfigDict) -> None:
  model = config.model
  changes = model.gate_noise_schedule != "constant"
  if changes and not 0 <= model.gate_noise_end <= model.gate_noise:
    raise _refused(config, "model.gate_noise_end", f"={model.gate_noise}")


def _check_k(config: ml_collections.ConfigDict) -> None:
  model = config.model
  try:
    ks = k_of(config)
  except ValueError:
    ks = ()
  if len(ks) != len(tasks_of(config)) or any(
    not 1 <= k <= model.experts for k in ks
  ):
    raise _refused(config, "model.k", f"={model.experts}")
  if model.shared_experts and model.shared_experts >= min(ks):
    raise _refused(config, "model.shared_experts", f"={model.k!r}")
  if model.shared_experts and model.gate in ("dense", *CONTROLS):
    raise errors.InputError(
      f"config.model.shared_experts={model.shared_experts}: beside gates that "
      f"choose; config.model.gate={model.gate!r} does not; use noisy_top_k or "
      "top_k, or 0"
    )
  if len(set(ks)) == 1:
    return
  for path, needs in (
    ("model.share_gate", model.share_gate),
    ("model.select='joint'", model.select == "joint"),
  ):
    if needs:
      raise errors.InputError(
        f"config.model.k={model.k!r}: {path} needs the same k for every task"
      )


def _check_gate_input(config: ml_collections.ConfigDict) -> None:
  model, sees = config.model, config.model.gate_input
  if sees == "stem" and not model.shared_stages:
    raise errors.InputError(
      "config.model.gate_input='stem' with config.model.shared_stages=0: there "
      "is no stem; share stages, or use 'all' or 'pixels'"
    )
  if sees == "all" and not (model.pretrained or config.transfer.source):
    raise errors.InputError(
      "config.model.gate_input='all': the backbone that gates see never "
      "learns, so it needs weights (config.model.pretrained); or use 'stem' or "
      "'pixels'"
    )
  informed = [word for word in gate_starts_of(config) if word != "zeros"]
  if sees == "pixels" and informed:
    raise errors.InputError(
      f"config.model.gate_start={model.gate_start!r}: gates that see pixels "
      "can only start at zeros; set config.model.gate_input to 'stem' or 'all'"
    )
  if model.share_gate and len(set(model.gate_start.split(","))) > 1:
    raise errors.InputError(
      f"config.model.gate_start={model.gate_start!r}: config.model.share_gate "
      "is one gate; name one start"
    )


def _check_upcycling(config: ml_collections.ConfigDict) -> None:
  model = config.model
  if not model.upcycle_epochs:
    return
  for path in ("model.break_symmetry", "transfer.source"):
    if config[path]:
      raise errors.InputError(
        f"config.model.upcycle_epochs={model.upcycle_epochs}: all experts "
        f"become copies of one, and what config.{path}={config[path]!r} gave "
        "them is lost; use one of them"
      )


def _check_token_moe(config: ml_collections.ConfigDict) -> None:
  token = config.model.token_moe
  if token.group == "batch" and token.gate in TOKEN_GATES:
    raise errors.InputError(
      f"config.model.token_moe.group='batch': with gate={token.gate!r} a "
      "prediction would depend on the other images of its batch; use 'image'"
    )
  if not 1 <= token.k <= token.experts:
    raise _refused(config, "model.token_moe.k", f"={token.experts}")


def check_dispatch(config: ml_collections.ConfigDict) -> None:
  """Checks that the dispatch can have the statistics that the norm takes.

  Raises:
    InputError: batch statistics over images that an expert sees in parts.
  """
  model = config.model
  if model.compute != "sparse" or model.norm != "batch":
    return
  strategy = strategies.STRATEGIES.get(model.dispatch)  # None: "auto"
  if strategy is not None and not strategy.shows_all:
    raise errors.InputError(
      "config.model.norm='batch': needs all images of an expert at once, which "
      f"config.model.dispatch={model.dispatch!r} does not have; use dispatch "
      "'auto' or 'gather', or norm 'frozen' or 'group'"
    )


def check_mixup(config: ml_collections.ConfigDict) -> None:
  """Checks that mixup has what it needs.

  Raises:
    InputError: no class task.
  """
  mixup = config.data.augment.mixup
  if mixup and "class" not in tasks_of(config):
    raise errors.InputError(
      f"config.data.augment.mixup={mixup!r}: mixes labels, and mixed images "
      "have no box; it needs 'class' in "
      f"config.model.tasks={config.model.tasks!r}"
    )


def check_best(config: ml_collections.ConfigDict) -> None:
  """Checks that a metric of the tasks can choose a checkpoint.

  Raises:
    InputError: it is none, or less of it is better.
  """
  key, tasks = config.checkpoint.best, set(tasks_of(config))
  known = [name for name, needs in SCORES.items() if tasks >= set(needs)]
  if key not in known:
    raise errors.InputError(
      f"config.checkpoint.best={key!r}: must be a metric of "
      f"config.model.tasks={config.model.tasks!r} of which more is better: "
      f"{', '.join(known)}"
    )


def is_drawn(config: ml_collections.ConfigDict) -> bool:
  """Whether the data set is that of drawn birds."""
  data = config.data
  return data.name == "synthetic" or (data.name == "auto" and not data.path)


def _check_data(config: ml_collections.ConfigDict) -> None:
  data = config.data
  if data.extra.path and config.features.views:
    raise errors.InputError(
      f"config.data.extra.path={data.extra.path!r}: features are computed of "
      f"the main images alone (config.features.views={config.features.views}); "
      "use one of them"
    )
  if data.objects == "each" and data.shuffle_boxes:
    raise errors.InputError(
      "config.data.shuffle_boxes=True: shuffles the boxes of whole images, and "
      "config.data.objects='each' cuts windows around them; use one of them"
    )
  if data.split_scheme == "poster":
    for key in ("group_by", "split_file"):
      if data[key]:
        raise errors.InputError(
          f"config.data.{key}={data[key]!r}: the scheme 'poster' takes every "
          "tenth image of a class; use config.data.split_scheme='official'"
        )
  if data.name not in ("synthetic", "auto") and not data.path:
    raise errors.InputError(
      f"config.data.path is empty: data.name={data.name!r} needs the folder "
      "of the data set (--config.data.path=DIR)"
    )


def _refused(
  config: ml_collections.ConfigDict, path: str, more: str = ""
) -> errors.InputError:
  """The error of a value that its declaration's words do not allow."""
  allowed = BY_PATH[path].allowed.text
  return errors.InputError(
    f"config.{path}={config[path]!r}: must be {allowed}{more}"
  )
