"""What a run's parameters are before its first step.

New ones; or backbone weights of a file or of another run in their place
(`model.pretrained`); or all that fits of another run (`transfer.source`).
"""

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from mtlmoe_jax import errors, models, pretrained
from mtlmoe_jax.checkpoints import restore
from mtlmoe_jax.devices import sharding
from mtlmoe_jax.models.gates import FEATURE_INPUTS
from mtlmoe_jax.ops import pixels
from mtlmoe_jax.utils import trees

Variables = dict[str, Any]

# The one layer whose shape depends on the classes.
REPLACEABLE = "tower_class/"
# What may be new in a model that starts from another run.
NEW = re.compile(r"gate(?!_backbone)|tower|log_variance")
# Gates, the moments of what they see, routers of towers.
GATES = re.compile(r"(tower_)?gate(?!_backbone)")


def init_variables(
  model: nn.Module, config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> Variables:
  """New variables, created where they will live.

  What `start_from` takes from weights is 0: to compile draws that nobody sees
  takes seconds.

  Args:
    model: of the config.
    config: the whole config; its seed draws them.
    mesh: over the devices, whose rules split them.
  """
  key = jax.random.key(config.seed)
  draw = _init_of(model, config)
  given = bool(config.model.pretrained and not config.transfer.source)

  def init(key: jax.Array) -> Variables:
    return trees.unflatten(
      {
        name: jnp.zeros_like(x) if given and pretrained.fills(name) else x
        for name, x in trees.flatten(draw(key)).items()
      }
    )

  # One function for both: JAX traces it once.
  shapes = jax.eval_shape(init, key)
  # Compiling the draws takes far longer than making them, unless XLA:CPU is
  # told not to optimize what runs once.
  quick = {"xla_backend_optimization_level": 0}
  return jax.jit(
    init,
    out_shardings=sharding.tree_shardings(shapes, mesh),
    compiler_options=quick if jax.default_backend() == "cpu" else None,
  )(key)


def abstract_variables(
  model: nn.Module, config: ml_collections.ConfigDict
) -> Variables:
  """Shapes and dtypes of `init_variables`; nothing is computed."""
  return jax.eval_shape(_init_of(model, config), jax.random.key(config.seed))


def _init_of(
  model: nn.Module, config: ml_collections.ConfigDict
) -> Callable[[jax.Array], Variables]:
  """key -> variables."""
  size = config.data.image_size
  images = np.zeros((1, size, size, 3), np.uint8)

  def init(key: jax.Array) -> Variables:
    return dict(model.init({"params": key}, images, train=False))

  return init


def start_from(
  variables: Variables,
  config: ml_collections.ConfigDict,
  class_names: Sequence[str] = (),
) -> tuple[Variables, str]:
  """Pretrained weights, or another run's parameters, where a config names them.

  Args:
    variables: new ones.
    config: the whole config.
    class_names: those of the new run, for `transfer.gates`.

  Returns:
    (variables, lines for the log: what they are).

  Raises:
    InputError: what is named cannot be read or does not fit this model, or
      new parameters under a norm that needs stored statistics.
  """
  if config.transfer.source:
    restored = restore.restore_for_eval(
      config.transfer.source, config.transfer.step
    )
    check_preprocessing(
      f"config.transfer.source={config.transfer.source!r}",
      restored.meta["preprocessing"],
      config,
    )
    new_gates = has_new_gates(config, restored.class_names, class_names)
    return transfer(variables, restored, new_gates)
  if config.model.pretrained:
    return pretrained.insert(
      variables, weights(config), config.model.break_symmetry, config.seed
    )
  normed = models.get_backbone(config.model.backbone).sizes.epsilon is not None
  if config.model.norm == "frozen" and normed:
    raise errors.InputError(
      "config.model.norm='frozen' with new parameters normalises nothing: "
      "use group or batch, or load weights (config.model.pretrained, "
      "config.transfer.source)"
    )
  return variables, "new parameters"


def weights(config: ml_collections.ConfigDict) -> pretrained.Weights:
  """The weights that `config.model.pretrained` names: a file or a run.

  Raises:
    InputError: they cannot be read, are of another backbone, or expect pixels
      that are normalised otherwise.
  """
  spec, backbone = config.model.pretrained, config.model.backbone
  if pathlib.Path(spec).is_dir() and spec != "lite":
    loaded = _of_run(spec, backbone)
  else:
    loaded = pretrained.load(spec, backbone)
  if loaded.preprocessing:
    check_preprocessing(loaded.source, loaded.preprocessing, config)
  return loaded


def _of_run(workdir: str, backbone: str) -> pretrained.Weights:
  """The backbone of a run's best checkpoint."""
  restored = restore.restore_for_eval(workdir)
  theirs = restored.config.model.backbone
  if theirs != backbone:
    raise errors.InputError(
      f"config.model.pretrained={workdir!r} is a run of {theirs}: set "
      f"config.model.backbone={theirs!r}, not {backbone!r}"
    )
  return pretrained.of_model(
    trees.flatten(restored.variables),
    f"{workdir} (step {restored.step})",
    restored.meta["preprocessing"],
  )


def check_preprocessing(
  source: str, theirs: Mapping[str, Any], config: ml_collections.ConfigDict
) -> None:
  """Refuses parameters that were trained on pixels of another range.

  Args:
    source: of the parameters, for the message.
    theirs: their `mean` and `std`, as `models.preprocessing` gives them.
    config: of this run.

  Raises:
    InputError: they are not those of this run.
  """
  ours = models.preprocessing(config)
  if all(theirs[key] == ours[key] for key in ("mean", "std")):
    return
  names = [
    name
    for name, (mean, std) in pixels.NORMALIZATIONS.items()
    if (list(mean), list(std)) == (theirs["mean"], theirs["std"])
  ]
  raise errors.InputError(
    f"{source} was trained on pixels of mean {theirs['mean']} and deviation "
    f"{theirs['std']}, this run has {ours['mean']} and {ours['std']}: set "
    f"config.model.normalization={(names or ['...'])[0]!r}"
  )


def has_new_gates(
  config: ml_collections.ConfigDict,
  theirs: Sequence[str],
  ours: Sequence[str],
) -> bool:
  """What `transfer.gates` says of a run that starts from another.

  Args:
    config: the whole config.
    theirs: names of the other run's classes.
    ours: of the new run's.
  """
  if config.transfer.gates != "auto":
    return config.transfer.gates == "new"
  if config.model.gate_input not in FEATURE_INPUTS:
    return False
  # Frozen ones are meant as they are.
  gates = ("gate/", "gate_class/", "gate_box/")
  frozen = bool(trees.matching(gates, config.transfer.freeze))
  return tuple(theirs) != tuple(ours) and not frozen


def transfer(
  variables: Variables, restored: restore.Restored, new_gates: bool = False
) -> tuple[Variables, str]:
  """Copies a finished run's parameters and statistics into a new model.

  The class tower's output layer stays new when the number of classes differs;
  towers and gates of tasks that the other run did not have stay new.

  Args:
    variables: the new model's initial variables.
    restored: what `restore_for_eval` read.
    new_gates: whether gates, and moments of what they see, stay new.

  Returns:
    (variables, one line that says what was taken and what is new).

  Raises:
    InputError: an expert, condense or stem parameter is missing there or has
      another shape.
  """
  out: Variables = {}
  wrong: list[str] = []
  new: list[str] = []
  taken = 0
  for collection in ("params", "batch_stats"):
    source = trees.flatten(restored.variables[collection])
    target = trees.flatten(variables.get(collection, {}))
    for name, value in target.items():
      theirs = source.get(name)
      if new_gates and GATES.match(name):
        new.append(name)
      elif theirs is not None and theirs.shape == value.shape:
        target[name], taken = theirs, taken + 1
      elif name.startswith(REPLACEABLE) or (theirs is None and NEW.match(name)):
        new.append(name)
      else:
        there = "missing" if theirs is None else f"{tuple(theirs.shape)} there"
        wrong.append(f"{name} {tuple(value.shape)} ({there})")
    out[collection] = trees.unflatten(target)
  if wrong:
    shown = "; ".join(wrong[:5]) + (" ..." if len(wrong) > 5 else "")
    raise errors.InputError(
      f"config.transfer.source: {len(wrong)} parameters of that run do not fit "
      f"this model: {shown}. Use the same config.model there and here"
    )
  return out, f"took {taken} arrays; new: {', '.join(sorted(new)) or 'none'}"
