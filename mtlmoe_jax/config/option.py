"""The declaration of one option: default, reason, values."""

import dataclasses
from typing import Any

from mtlmoe_jax import errors
from mtlmoe_jax.config import kinds
from mtlmoe_jax.config.allowed import ANY, Allowed


class WrongTypeError(errors.InputError, TypeError):
  """A value of a type that an option does not take."""


@dataclasses.dataclass(frozen=True)
class Option:
  """One option.

  Attributes:
    path: its name, such as `model.token_moe.k`.
    default: as it is stored.
    why: what it does and why it is as it is.
    allowed: what it may be.
    kind: what it can be set to; None: as the default's type says.
  """

  path: str
  default: Any
  why: str
  allowed: Allowed = ANY
  kind: kinds.Kind | None = None

  @property
  def takes(self) -> kinds.Kind:
    """The kind of its values."""
    return self.kind or kinds.OF_TYPE[type(self.default)]

  def convert(self, value: Any, text: bool = False) -> Any:
    """A value as the config stores it.

    Args:
      value: of any type.
      text: whether a string is text of a command line, for every type.

    Raises:
      WrongTypeError: it is of no type that this option takes.
    """
    kind, parse = self.takes, text and isinstance(value, str)
    try:
      return kind.convert(kind.parse(value) if parse else value)
    except (TypeError, ValueError) as error:
      reason = f": {error}" if isinstance(error, errors.InputError) else ""
      raise WrongTypeError(
        f"config.{self.path}={value!r} is not of type {kind.python}{reason}"
      ) from None

  def check(self, value: Any) -> None:
    """Refuses a value that this option may not have.

    Args:
      value: from a config, which may be a plain ConfigDict or be made with
        `ignore_type`.

    Raises:
      InputError: naming it, its value and what it may be.
    """
    if not self.allowed.test(self.convert(value)):
      raise errors.InputError(
        f"config.{self.path}={value!r}: must be {self.allowed.text}"
      )
