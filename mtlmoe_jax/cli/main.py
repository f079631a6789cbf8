"""The command `mtlmoe`: its verbs, and the one that is called.

Nothing but the standard library is imported before a verb is known.
"""

import ast
import difflib
import pathlib
import sys
from collections.abc import Sequence

VERBS = (
  "train",
  "evaluate",
  "predict",
  "verify",
  "ensemble",
  "export",
  "weights",
  "check_data",
  "prepare_cub",
  "draw_samples",
  "ablate",
  "reproduce",
  "plan",
)

# Shorter names.
ALIASES = {"check": "check_data"}


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs a verb; returns only where there is none to run.

  Args:
    arguments: the verb and its own; None: those of this process.

  Returns:
    Exit code: 0, 2 for a mistake, which is told in one line, or 130 after
    Ctrl-C.
  """
  words = list(sys.argv[1:] if arguments is None else arguments)
  first = words[0] if words else "--help"
  if first in ("--help", "-help", "-h", "help"):
    print(overview())
    return 0
  if first == "--version":
    from mtlmoe_jax import version

    print(f"mtlmoe_jax {version.__version__}")
    return 0
  verb = ALIASES.get(first, first.replace("-", "_"))
  if verb not in VERBS:
    return _mistake(first)
  try:
    from mtlmoe_jax.cli import start

    called = first if first in ALIASES else verb
    start.run(verb, words[1:], program=f"mtlmoe {called}")
  except KeyboardInterrupt:  # Before the verb had begun.
    print("error: interrupted", file=sys.stderr)
    return 130


def overview() -> str:
  """The help of the command itself: each verb with its first line."""
  width = max(map(len, VERBS))
  lines = [f"  {verb:{width}}  {summary(verb)}" for verb in VERBS]
  return "\n".join(
    (
      "Multi-task mixture-of-experts image models: what an image shows, where.",
      "",
      "usage: mtlmoe VERB [--FLAG=VALUE ...]",
      "",
      *lines,
      "",
      *(f"  {name} is {verb}." for name, verb in ALIASES.items()),
      "mtlmoe VERB --help lists the flags of a verb; mtlmoe --version.",
    )
  )


def summary(verb: str) -> str:
  """The first line of a verb's help, read without importing its module."""
  text = pathlib.Path(__file__).with_name(f"{verb}.py").read_text("utf-8")
  return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def _mistake(word: str) -> int:
  near = difflib.get_close_matches(word.replace("-", "_"), VERBS, 1)
  mend = f"did you mean {near[0]}?" if near else "mtlmoe --help lists all"
  print(f"error: mtlmoe {word}: there is no such verb; {mend}", file=sys.stderr)
  return 2
