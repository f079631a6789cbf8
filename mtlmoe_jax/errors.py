"""The one error type that stands for a user's mistake, and its words."""

from collections.abc import Sequence


class InputError(ValueError):
  """A bad input: path, file, key, value or checkpoint.

  The message is one line that names the thing, the value and the mend. The
  launch scripts print it without a traceback and exit with code 2.
  """


def listed(names: Sequence[str], most: int = 8) -> str:
  """Names for a message: all of a few, else the first and how many."""
  if len(names) <= most:
    return ", ".join(names)
  return f"{', '.join(names[:most])}, ... ({len(names)} in all)"


def shown(name: object, most: int = 1000) -> str:
  """A name that may hold anything (line ends, other bytes), for a message."""
  text = str(name)
  if not text or not text.isprintable():
    text = repr(text)
  return text if len(text) <= most else f"{text[:most]}..."
