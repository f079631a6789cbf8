"""Commands that texts name, and the flags of the scripts that they call."""

import ast
import contextlib
import dataclasses
import importlib
import pathlib
import re
import shlex

from absl import flags

from mtlmoe_jax.cli import main
from tests.support import tiny

_COMMAND = re.compile(
  r"python launch/(?P<script>\w+)\.py(?P<first>[^\n`]*)"
  r"|(?:^ *|`|do )mtlmoe (?P<verb>\w+)(?P<second>[^\n`]*)",
  re.MULTILINE,
)
# What ends a command for a shell, and what a text says of it.
_END = re.compile(r"\s[#|&>;]|[;&]|\)\s*$")


@dataclasses.dataclass(frozen=True)
class Command:
  """A command and the file that names it."""

  file: str
  verb: str
  arguments: tuple[str, ...]

  def __str__(self) -> str:
    return f"{self.file}: {shlex.join((self.verb, *self.arguments))}"


def in_text(file: str, text: str) -> list[Command]:
  """All commands of a text, each line that is continued as one."""
  found = []
  for match in _COMMAND.finditer(re.sub(r"\\\n\s*", " ", text)):
    words = _END.split(match["first"] or match["second"] or "")[0]
    # A loop's variable is a number in all that we document.
    words = re.sub(r"\$\w+", "0", words)
    verb = match["script"] or match["verb"]
    verb = main.ALIASES.get(verb, verb)
    found.append(Command(file, verb, tuple(shlex.split(words))))
  return found


def documented() -> list[Command]:
  """The commands of all pages, and of the docstrings that are pages too."""
  root, found = tiny.ROOT, []
  for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
    found += in_text(str(path.relative_to(root)), path.read_text("utf-8"))
  for folder in ("configs", "launch", "mtlmoe_jax/cli"):
    for path in sorted((root / folder).rglob("*.py")):
      text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
      found += in_text(str(path.relative_to(root)), text)
  return found


def script(verb: str) -> pathlib.Path:
  """The file that defines a verb's flags."""
  return tiny.ROOT / "mtlmoe_jax" / "cli" / f"{verb}.py"


@contextlib.contextmanager
def flags_of(verb: str):
  """absl's flags as the script of a verb alone defines them, then as before."""
  kept = dict(vars(flags.FLAGS))
  vars(flags.FLAGS).update(vars(flags.FlagValues()))
  try:
    importlib.import_module(f"mtlmoe_jax.cli.{verb}").define()
    yield flags.FLAGS
  finally:
    vars(flags.FLAGS).clear()
    vars(flags.FLAGS).update(kept)
