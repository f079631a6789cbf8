"""How every verb starts: its flags, then one call, then an exit code.

Exit codes: 0 done, 2 bad usage or input (one line on stderr, no traceback),
143 after a checkpointed stop by SIGTERM. JAX is not imported here, so that help
and a mistake among the flags are told at once.
"""

import contextlib
import importlib
import itertools
import keyword
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import NoReturn

from absl import app, flags, logging

from mtlmoe_jax import errors
from mtlmoe_jax.cli import config_files
from mtlmoe_jax.devices import huge_pages

_HELP = {"--help", "-help", "--helpshort", "-helpshort", "-h", "-?"}


def run(
  verb: str, arguments: Sequence[str] | None = None, program: str = ""
) -> NoReturn:
  """Runs a verb and exits with its code.

  Args:
    verb: name of its module in `mtlmoe_jax.cli`.
    arguments: its flags and words; None: those of this process.
    program: how a user calls it, for the help; default: as its launch script.
  """
  module = importlib.import_module(f"mtlmoe_jax.cli.{verb}")
  program = program or f"python launch/{verb}.py"
  if arguments is None:
    arguments = sys.argv[1:]
  arguments = expanded(module, arguments)
  # Orbax reports every decision it takes as a warning.
  logging.set_verbosity(logging.ERROR)

  def parsed(argv: Sequence[str]) -> list[str]:
    if _HELP.intersection(itertools.takewhile(lambda x: x != "--", argv)):
      print(_help(module, verb, program))
      sys.exit(0)
    return parse(argv)

  def guarded(argv: Sequence[str]) -> NoReturn:
    huge_pages.restart_with_huge_pages()
    _cache_compiled_programs()
    try:
      sys.exit(module.main(argv) or 0)
    except errors.InputError as error:
      fail(error)
    except RuntimeError as error:
      if not _of_another_process(error):
        raise
      fail(
        "another process of this run has stopped, so that all stop: start the "
        f"same command on all of them to go on ({_first_line(error)})",
        1,
      )
    except KeyboardInterrupt:
      fail("interrupted: start the same command again to go on", 130)

  # ml_collections looks for --config.KEY among the arguments of the process.
  with flags_of(module), _arguments([sys.argv[0], *arguments]):
    app.run(guarded, argv=sys.argv, flags_parser=parsed)
  raise AssertionError("app.run does not return")


def expanded(module: ModuleType, arguments: Sequence[str]) -> list[str]:
  """The arguments, and those that they stand for where a verb has such."""
  return list(getattr(module, "expanded", list)(arguments))


@contextlib.contextmanager
def flags_of(module: ModuleType) -> Iterator[None]:
  """Absl's flags with those of a verb, which end with the block."""
  before = set(flags.FLAGS)
  try:
    module.define()
    yield
  finally:
    for name in set(flags.FLAGS) - before:
      delattr(flags.FLAGS, name)


@contextlib.contextmanager
def _arguments(argv: list[str]) -> Iterator[None]:
  before, sys.argv = sys.argv, argv
  try:
    yield
  finally:
    sys.argv = before


def _help(module: ModuleType, verb: str, program: str) -> str:
  """A verb's docstring, with the command as it was called, and its flags."""
  text = (module.__doc__ or "").replace(f"mtlmoe {verb}", program).strip()
  _, _, listing = flags.FLAGS.module_help(module).strip().partition("\n")
  return f"{text}\n\nflags:\n{listing}\n\n--helpfull lists absl's flags too."


def _cache_compiled_programs() -> None:
  """Keeps compiled programs, so that the second start is a quick one.

  In JAX_COMPILATION_CACHE_DIR where that is set, else in the user's cache.
  """
  home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  folder = pathlib.Path(home) / "mtlmoe_jax" / "jax"
  # JAX reads the variable when a verb imports it: not before it is needed.
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))


def parse(argv: Sequence[str]) -> list[str]:
  """Absl's parsing, with every mistake of the user in one line."""
  try:
    _refuse_keywords(argv)
    return flags.FLAGS(list(argv))
  except FileNotFoundError as error:
    fail(f"no such config file: {error.filename}")
  except errors.InputError as error:
    fail(error)
  except flags.Error as error:
    # An error inside a config file comes as the text of a traceback, whose
    # last line is the error itself.
    last = str(error).strip().splitlines()[-1]
    message = re.sub(r"^mtlmoe_jax[\w.]+: ", "", last)
    fail(_config_mistake(argv, message) or f"{message}; see --help")
  # ml_collections raises what its look-up raised: a key that is not there, a
  # value of another type.
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    fail(" ".join(str(error).split()))
  except OSError:  # Its text is that of several attempts.
    fail(config_files.missing(argv))


def _config_options(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
  """(path, text) of each `--config.PATH=TEXT`, or `--config.PATH TEXT`."""
  for word, following in itertools.zip_longest(argv, argv[1:], fillvalue=""):
    name, equals, text = word.partition("=")
    if match := re.fullmatch(r"--?config\.(.+)", name):
      yield match[1], text if equals else following


def _refuse_keywords(argv: Sequence[str]) -> None:
  """Names with a Python keyword, which ml_collections cannot parse.

  Raises:
    InputError: naming the option that has another name now.
  """
  for path, text in _config_options(argv):
    if any(map(keyword.iskeyword, path.split("."))):
      from mtlmoe_jax.config import names

      new = names.current(path)
      raise errors.InputError(
        f"--config.{path}={text}: the option is --config.{new} now"
        if new != path
        else f"--config.{path}: there is no such option (all are in "
        f"{names.PAGE})"
      )


def _config_mistake(argv: Sequence[str], message: str) -> str:
  """Absl's word on a `--config.` flag in the config's own; "" for others."""
  from mtlmoe_jax import config as config_lib

  for path, text in _config_options(argv):
    if f"--config.{path}=" in message:
      try:
        config_lib.set_path(config_lib.default_config(), path, text)
      except errors.InputError as error:
        return str(error)
  return ""


def _of_another_process(error: RuntimeError) -> bool:
  """Whether an error may be that of a step that others no longer take."""
  import jax

  return isinstance(error, jax.errors.JaxRuntimeError) and (
    jax.process_count() > 1
  )


def _first_line(error: Exception) -> str:
  return str(error).strip().splitlines()[0][:200]


def fail(message: object, code: int = 2) -> NoReturn:
  """Prints `error: MESSAGE` and exits."""
  print(f"error: {message}", file=sys.stderr, flush=True)
  if "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized():
    # A usual exit would wait for the other processes.
    os._exit(code)
  sys.exit(code)
