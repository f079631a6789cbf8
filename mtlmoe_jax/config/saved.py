"""Configs as JSON, of this version and of earlier ones."""

import json
import re
from typing import Any

import ml_collections

from mtlmoe_jax import errors
from mtlmoe_jax.config import names
from mtlmoe_jax.config.tree import default_config
from mtlmoe_jax.version import __version__


def update_from_dict(
  config: ml_collections.ConfigDict, values: dict[str, Any], prefix: str = ""
) -> ml_collections.ConfigDict:
  """Sets leaves from a nested dict (a saved config.json), in place.

  Earlier names are today's options, keys that this version does not know are
  refused, missing ones keep their defaults.

  Raises:
    InputError: an unknown key.
  """
  for key, value in values.items():
    key = names.current(f"{prefix}{key}").removeprefix(prefix)
    if key not in config:
      raise errors.InputError(
        f"unknown config key {prefix}{key}: the file was written by another "
        "version of mtlmoe_jax"
      )
    if isinstance(value, dict):
      update_from_dict(config[key], value, f"{prefix}{key}.")
    else:
      config[key] = tuple(value) if isinstance(value, list) else value
  return config


def to_saved(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """A config as plain JSON values, with the version that wrote them."""
  values = json.loads(config.to_json_best_effort())
  return {"version": __version__, **values}


def from_saved(values: dict[str, Any]) -> ml_collections.ConfigDict:
  """The config of `to_saved`, of this version or an earlier one.

  Options that came later have their defaults. Before 0.2.0, when no version
  was written, `efficientnet_*` were the networks that are `tf_efficientnet_*`
  now (and in timm).

  Raises:
    InputError: a key that this version does not know.
  """
  values = dict(values)
  version = values.pop("version", "0.1.0")
  config = update_from_dict(default_config(), values)
  if tuple(map(int, version.split(".")[:2])) < (0, 2):
    config.model.backbone = re.sub(
      r"^efficientnet_(?=(b|lite)\d)", "tf_efficientnet_", config.model.backbone
    )
  return config
