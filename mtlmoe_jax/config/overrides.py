"""Options set by name from text: `:k=v,k=v` and suites of runs."""

from typing import Any

import ml_collections

from mtlmoe_jax import errors
from mtlmoe_jax.config import names


def apply_overrides(
  config: ml_collections.ConfigDict, text: str
) -> ml_collections.ConfigDict:
  """Applies `k=v,k=v` as in `--config=configs/cub.py:experts=3`.

  A key is a full path (`model.token_moe.experts`) or the last name alone
  (`experts`) of an option: of those with that name the one that lies least
  deep (`model.experts`), where there is only one.

  Args:
    config: the config to change, in place.
    text: comma-separated assignments; empty changes nothing.

  Returns:
    The same config.

  Raises:
    InputError: an unknown or ambiguous key, or a value of the wrong type.
  """
  paths = flat_keys(config)
  for item in filter(None, text.split(",") if text else ()):
    key, sign, value = item.partition("=")
    if not sign:
      raise errors.InputError(
        f"config argument {item!r} has no '=': write KEY=VALUE, for example "
        "experts=3"
      )
    options = names.matches(key, paths)
    if len(options) != 1:
      near = ", ".join(options) or names.closest(key, paths)
      raise errors.InputError(
        f"config key {key!r} is {'ambiguous' if options else 'unknown'}: "
        f"use one of {near}"
      )
    set_path(config, options[0], value)
  return config


def flat_keys(config: ml_collections.ConfigDict, prefix: str = "") -> list[str]:
  """Dotted paths of all leaves."""
  out = []
  for key in config:
    value = config[key]
    if isinstance(value, ml_collections.ConfigDict):
      out += flat_keys(value, f"{prefix}{key}.")
    else:
      out.append(prefix + key)
  return out


def set_path(config: ml_collections.ConfigDict, path: str, text: Any) -> None:
  """Sets one leaf from text (or a value), converted to the leaf's type."""
  *parents, last = names.current(path).split(".")
  node = config
  for parent in parents:
    node = node[parent]
  node[last] = _convert(path, text, node[last])


def _convert(path: str, value: Any, old: Any) -> Any:
  if not isinstance(value, str) or isinstance(old, str):
    return str(value) if isinstance(old, str) else value
  try:
    if isinstance(old, bool):
      return {"true": True, "1": True, "false": False, "0": False}[
        value.lower()
      ]
    if isinstance(old, tuple):
      return tuple(v for v in value.strip("()[]").split("+") if v)
    return type(old)(value)
  except (KeyError, ValueError):
    raise errors.InputError(
      f"config.{path}={value!r} is not of type {type(old).__name__}"
    ) from None
