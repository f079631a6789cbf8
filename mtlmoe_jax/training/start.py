"""The weights that a new run's backbone starts from."""

import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
from flax import traverse_util

from mtlmoe_jax import errors, models, pretrained
from mtlmoe_jax.ops import pixels
from mtlmoe_jax.training import checkpoint


def weights(config: ml_collections.ConfigDict) -> pretrained.Weights:
  """The weights that `config.model.pretrained` names: a file or a run.

  Raises:
    InputError: they cannot be read, are of another backbone, or expect pixels
      that are normalised otherwise.
  """
  spec, backbone = config.model.pretrained, config.model.backbone
  if pathlib.Path(spec).is_dir() and spec != "lite":
    found = _of_run(spec, backbone)
  else:
    found = pretrained.load(spec, backbone)
  if found.preprocessing:
    check_preprocessing(found.source, found.preprocessing, config)
  return found


def _of_run(workdir: str, backbone: str) -> pretrained.Weights:
  """The backbone of a run's best checkpoint."""
  restored = checkpoint.restore_for_eval(workdir)
  theirs = restored.config.model.backbone
  if theirs != backbone:
    raise errors.InputError(
      f"config.model.pretrained={workdir!r} is a run of {theirs}: set "
      f"config.model.backbone={theirs!r}, not {backbone!r}"
    )
  return pretrained.of_model(
    traverse_util.flatten_dict(restored.variables, sep="/"),
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
