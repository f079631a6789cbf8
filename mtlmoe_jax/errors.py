"""The one error type that stands for a user's mistake."""


class InputError(ValueError):
  """A bad input: path, file, key, value or checkpoint.

  The message is one line that names the thing, the value and the mend. The
  launch scripts print it without a traceback and exit with code 2.
  """
