"""How every script in `launch/` starts: flags, then one call, then a code.

Exit codes: 0 done, 2 bad usage or input (one line on stderr, no traceback),
143 after a checkpointed stop by SIGTERM.
"""

import itertools
import keyword
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging

from mtlmoe_jax import errors
from mtlmoe_jax.devices import huge_pages, processes

# What is defined here is listed by --help as the script's own.
flags.disclaim_key_flags()


def run(main: Callable[[Sequence[str]], int | None]) -> None:
  """Parses the flags, calls `main(argv)` and exits with its code."""

  def guarded(argv: Sequence[str]) -> None:
    huge_pages.restart_with_huge_pages()
    _cache_compiled_programs()
    try:
      sys.exit(main(argv) or 0)
    except errors.InputError as error:
      _fail(error)
    except RuntimeError as error:
      if not _of_another_process(error):
        raise
      _fail(
        "another process of this run has stopped, so that all stop: start the "
        f"same command on all of them to go on ({_first_line(error)})",
        1,
      )
    except KeyboardInterrupt:
      _fail("interrupted: start the same command again to go on", 130)

  # Orbax reports every decision it takes as a warning.
  logging.set_verbosity(logging.ERROR)
  app.run(guarded, flags_parser=_parse)


def _cache_compiled_programs() -> None:
  """Keeps compiled programs, so that the second start is a quick one.

  In JAX_COMPILATION_CACHE_DIR where that is set, else in the user's cache.
  """
  # Here, not above: --help and a mistyped flag should not wait for JAX.
  import jax

  if jax.config.jax_compilation_cache_dir is None:
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(home) / "mtlmoe_jax" / "jax"
    jax.config.update("jax_compilation_cache_dir", str(folder))


def required(name: str) -> str:
  """The value of a string flag that must be given.

  Raises:
    InputError: the flag is missing or empty.
  """
  value = flags.FLAGS[name].value
  if not value:
    raise errors.InputError(f"--{name} is missing: see --help")
  return value


def define_step() -> None:
  """Defines --step: which checkpoint of a run."""
  flags.DEFINE_string(
    "step", "best", "Checkpoint: best (on validation), latest, or a step."
  )


def define_asking() -> None:
  """Defines --step, --batch_size and --views: how a trained model is asked."""
  define_step()
  flags.DEFINE_integer(
    "batch_size",
    0,
    "Images at a time; default: config.eval.batch_size. Changes no result.",
    lower_bound=0,
  )
  flags.DEFINE_string(
    "views",
    "",
    "What is seen of each image: whole, flip, crops, crops+flip, each also "
    "with +zoom, or zoom; default: config.eval.views.",
  )


def define_split() -> None:
  """Defines --split and --data.path: the images that a model is asked."""
  flags.DEFINE_string("split", "test", "test, validation or train.")
  flags.DEFINE_string(
    "data.path", "", "Where the data set is now; default: as in training."
  )


def define_processes() -> None:
  """Defines --distributed, --coordinator, --processes and --process."""
  flags.DEFINE_enum(
    "distributed",
    "auto",
    processes.MODES,
    "Whether this is one of several processes: auto (Slurm, Open MPI and TPU "
    "slices say so themselves), on or off.",
  )
  flags.DEFINE_string(
    "coordinator", "", "HOST:PORT of the first process, elsewhere."
  )
  flags.DEFINE_integer("processes", 0, "Their number, elsewhere.")
  flags.DEFINE_integer("process", -1, "Which one this is, from 0, elsewhere.")


def join_processes() -> None:
  """Makes this one of several processes, as the flags say.

  Raises:
    InputError: see `processes.join`.
  """
  given = values("distributed", "coordinator", "processes", "process")
  processes.join(given.pop("distributed"), **given)


def values(*names: str) -> dict[str, Any]:
  """Flags as keyword arguments: a dot in a name becomes an underscore."""
  return {n.replace(".", "_"): flags.FLAGS[n].value for n in names}


def config(holder: Any) -> Any:
  """The config of a `DEFINE_config_file` flag.

  Raises:
    InputError: its file is not there or cannot be read.
  """
  try:
    holder.value.to_dict()
  except OSError as error:
    # ml_collections lists its attempts over several lines.
    raise errors.InputError(
      f"--{holder.name}: {' '.join(str(error).split())}; give a file such as "
      "configs/demo.py"
    ) from None
  return holder.value


def no_arguments(argv: Sequence[str]) -> None:
  """Refuses words that are no flags.

  Raises:
    InputError: naming them.
  """
  if len(argv) > 1:
    raise errors.InputError(
      f"unexpected argument {' '.join(argv[1:])!r}: options start with --"
    )


def _parse(argv: Sequence[str]) -> list[str]:
  """absl's parsing, with every user mistake told in one line."""
  try:
    _refuse_keywords(argv)
    return flags.FLAGS(list(argv))
  except FileNotFoundError as error:
    _fail(f"no such config file: {error.filename}")
  except errors.InputError as error:
    _fail(error)
  except flags.Error as error:
    # An error inside a config file comes as the text of a traceback, whose
    # last line is the error itself.
    said = re.sub(
      r"^mtlmoe_jax[\w.]+: ", "", str(error).strip().splitlines()[-1]
    )
    _fail(_config_mistake(argv, said) or f"{said}; see --help")
  # ml_collections raises what its look-up raised: a key that is not there, a
  # value of another type.
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    _fail(" ".join(str(error).split()))


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


def _config_mistake(argv: Sequence[str], said: str) -> str:
  """Absl's word on a `--config.` flag in the config's own; "" for others."""
  from mtlmoe_jax import config as config_lib

  for path, text in _config_options(argv):
    if f"--config.{path}=" in said:
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


def _fail(message: object, code: int = 2) -> NoReturn:
  print(f"error: {message}", file=sys.stderr, flush=True)
  if "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized():
    # A usual exit would wait for the other processes.
    os._exit(code)
  sys.exit(code)
