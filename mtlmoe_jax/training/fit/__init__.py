"""What a config leaves open, chosen from its data and machine."""

import json
import pathlib

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.devices.processes import say
from mtlmoe_jax.training import workdir as workdir_lib
from mtlmoe_jax.training.fit import choices, facts

__all__ = ["fitted"]


def fitted(
  config: ml_collections.ConfigDict, workdir: str
) -> ml_collections.ConfigDict:
  """A config in which nothing is left to choose.

  Args:
    config: the whole config.
    workdir: of the run. Where one has begun there, its choices stay: what is
      given now and differs is refused as in every run that goes on.

  Returns:
    `config` itself without `fit.budget`, else a copy with all that was chosen,
    which is told.

  Raises:
    InputError: anything wrong with options or data; no pretrained weights.
  """
  if not config.fit.budget:
    return config
  config_lib.check_config(config)
  if config.data.name == "auto" and not config.data.path:
    raise errors.InputError(
      "config.data.path is empty: name the folder of your photographs, as in "
      "mtlmoe train PHOTOS"
    )
  folder = pathlib.Path(workdir)
  saved = folder / "config.json"
  if saved.is_file() and workdir_lib.has_checkpoint(folder):
    say(f"chosen: as when the run of {workdir} began")
    return _resumed(config, saved)
  known = facts.look(config, workdir)
  say(f"your data: {known.text()}")
  choice = choices.choose(config, known)
  for line in choice.reasons:
    say(f"chosen: {line}")
  say(f"takes about {choice.cost.text()}")
  return choice.config


def _resumed(
  config: ml_collections.ConfigDict, saved: pathlib.Path
) -> ml_collections.ConfigDict:
  """The run's own config, with what is given now."""
  there = config_lib.from_saved(json.loads(saved.read_text("utf-8")))
  for path in choices.kept_of(config):
    config_lib.set_path(there, path, config[path])
  return there
