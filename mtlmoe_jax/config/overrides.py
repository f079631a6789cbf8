"""Options set by name from text: `:k=v,k=v` and suites of runs."""

from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections

from mtlmoe_jax import errors
from mtlmoe_jax.config import names
from mtlmoe_jax.config.defaults import BY_PATH


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
        f"use one of {near or 'the options'} (all are in {names.PAGE})"
      )
    set_path(config, options[0], value)
    keep(config, options[:1])
  return config


def keep(config: ml_collections.ConfigDict, paths: Iterable[str]) -> None:
  """Notes options that were named, where the others are yet to be chosen.

  Args:
    config: changed in place, at `fit.keep`; not without `fit.budget`.
    paths: of the options; those of `fit` itself are left out.
  """
  if config.fit.budget:
    named = {names.current(path) for path in paths} - {"fit.budget", "fit.keep"}
    config.fit.keep = tuple(sorted({*config.fit.keep, *named}))


def apply_arm(
  config: ml_collections.ConfigDict,
  arms: Mapping[str, Mapping[str, Any]],
  text: str,
) -> ml_collections.ConfigDict:
  """Applies `ARM`, `ARM,k=v` or `k=v` as in `--config=FILE.py:one,epochs=3`.

  Args:
    config: the config to change, in place.
    arms: what sets each arm of a comparison apart, by dotted key.
    text: an arm or none, then as `apply_overrides` has it.

  Returns:
    The same config.

  Raises:
    InputError: neither an arm nor an assignment, or as `apply_overrides`.
  """
  arm, _, rest = text.partition(",")
  if not arm or "=" in arm:
    return apply_overrides(config, text)
  if arm not in arms:
    raise errors.InputError(
      f"config argument {arm!r} is no arm of this file: use {', '.join(arms)} "
      "or KEY=VALUE"
    )
  for path, value in arms[arm].items():
    set_path(config, path, value)
  return apply_overrides(config, rest)


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


def set_path(config: ml_collections.ConfigDict, path: str, value: Any) -> None:
  """Sets one option by its name, also by an earlier one.

  Args:
    config: the config to change, in place.
    path: such as `model.k`.
    value: of a type that the option takes, or text as on a command line.

  Raises:
    InputError: an unknown name, or a value of the wrong type.
  """
  path = names.current(path)
  *groups, last = path.split(".")
  node = config
  for group in groups:
    node = node[group]
  if path in BY_PATH:
    value = BY_PATH[path].convert(value, text=True)
  node[last] = value
