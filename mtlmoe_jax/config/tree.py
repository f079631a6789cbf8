"""The config itself: a ConfigDict that takes natural values by name."""

from typing import Any

import ml_collections
from ml_collections import config_dict

from mtlmoe_jax import errors
from mtlmoe_jax.config import names
from mtlmoe_jax.config.defaults import BY_PATH, OPTIONS
from mtlmoe_jax.config.option import WrongTypeError


class UnknownOptionError(errors.InputError, AttributeError, KeyError):
  """A name that no option has."""

  def __str__(self) -> str:
    # KeyError would show its message as a quoted string.
    return str(self.args[0])


class Options(ml_collections.ConfigDict):
  """A group of options.

  Beyond `ml_collections.ConfigDict`: an option takes every type that its
  declaration names (`config.model.k = (2, 1)`, `config.epochs = 5`), an
  earlier name of an option is that option, and an unknown name or a wrong type
  is told in one line.
  """

  def __init__(self, *args: Any, **kwargs: Any) -> None:
    # Path of this group and a dot: "model.token_moe.". Known once this is put
    # into the config, not while a copy is made from the inside out.
    object.__setattr__(self, "_prefix", "")
    super().__init__(*args, **kwargs)

  def _place(self, prefix: str) -> None:
    object.__setattr__(self, "_prefix", prefix)
    for key, value in self._fields.items():
      if isinstance(value, Options):
        value._place(f"{prefix}{key}.")

  def _today(self, key: Any) -> Any:
    if not isinstance(key, str):
      return key
    return names.current(self._prefix + key).removeprefix(self._prefix)

  def __getitem__(self, key: str) -> Any:
    # Read a dozen times for each image: what is there needs no other look.
    field = self._fields.get(key)
    if field is not None and not isinstance(field, config_dict.FieldReference):
      return field
    key = self._today(key)
    try:
      return super().__getitem__(key)
    except UnknownOptionError:
      raise
    except KeyError:
      raise self._unknown(key) from None

  def __getattr__(self, attribute: str) -> Any:
    if attribute.startswith("_"):
      raise AttributeError(attribute)
    return self[attribute]

  def __setattr__(self, attribute: str, value: Any) -> None:
    try:
      super().__setattr__(attribute, value)
    except AttributeError as error:
      # ConfigDict wraps what it takes for a KeyError alone.
      (cause,) = error.args or (None,)
      raise (
        cause if isinstance(cause, UnknownOptionError) else error
      ) from None

  def __setitem__(self, key: str, value: Any) -> None:
    key = self._today(key)
    if key not in self._fields:
      self._add(key, value)
      return
    field = self._fields[key]
    if isinstance(field, Options):
      value = self._group(key, value)
    elif self._type_safe and not isinstance(value, config_dict.FieldReference):
      option = BY_PATH.get(self._prefix + key)
      value = option.convert(value) if option else value
    super().__setitem__(key, value)

  def _add(self, key: str, value: Any) -> None:
    """A new key: in a config that is made or copied, or unlocked."""
    if self.is_locked and "." not in str(key):
      raise self._unknown(key)
    super().__setitem__(key, value)
    if isinstance(value, Options):
      value._place(f"{self._prefix}{key}.")

  def _group(self, key: str, value: Any) -> "Options":
    """A group that replaces one: options that it lacks stay as they are."""
    path, group = self._prefix + key, self._fields[key]
    if isinstance(value, Options):
      value._place(f"{path}.")
      return value
    if not isinstance(value, (dict, ml_collections.ConfigDict)):
      raise WrongTypeError(
        f"config.{path}={value!r}: is a group of options; set one of them, "
        f"such as config.{path}.{next(iter(group))}"
      )
    group.update(value)
    return group

  def get_type(self, key: str) -> type:
    """Type of an option, as flags parse it."""
    return super().get_type(self._today(key))

  def _unknown(self, key: Any) -> UnknownOptionError:
    path = f"{self._prefix}{key}"
    near = names.closest(path, list(BY_PATH))
    return UnknownOptionError(
      f"config.{path}: there is no such option"
      f"{near and f'; the nearest: {near}'} (all are in {names.PAGE})"
    )


def default_config() -> Options:
  """Returns a new config with every option at its default."""
  config = Options()
  for option in OPTIONS:
    *groups, name = option.path.split(".")
    node = config
    for group in groups:
      if group not in node:
        node[group] = Options()
      node = node[group]
    node[name] = option.default
  return config.lock()
