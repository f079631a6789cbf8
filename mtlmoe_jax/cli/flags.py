"""Flags that several verbs share, and their values."""

import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from mtlmoe_jax import errors
from mtlmoe_jax.cli import config_files
from mtlmoe_jax.devices import processes

# What is defined here is listed by --help as the verb's own.
flags.disclaim_key_flags()


class _ConfigFile(config_flags.config_flags.ConfigFileFlagParser):
  """As the parser it extends; knows the configs of the package as well."""

  def parse(self, path: str) -> Any:
    """The config of a file, or of a config of the package."""
    return super().parse(config_files.locate(path))


def define_config(text: str) -> None:
  """Defines --config and, with it, --config.KEY.

  Args:
    text: for the help.
  """
  config_flags.DEFINE_config_file("config", None, text)
  flags.FLAGS["config"].parser = _ConfigFile("config")


def config() -> ml_collections.ConfigDict:
  """The config of --config; what --config.KEY named is not chosen anew.

  Raises:
    InputError: its file is not there or cannot be read.
  """
  value: Any = flags.FLAGS["config"].value
  try:
    value.to_dict()
  except OSError:
    # Its text is that of several attempts.
    raise errors.InputError(config_files.missing(sys.argv)) from None
  from mtlmoe_jax import config as config_lib

  named = config_flags.get_override_values(flags.FLAGS["config"])
  config_lib.keep(value, named)
  return value


def define_step() -> None:
  """Defines --step: which checkpoint of a run."""
  flags.DEFINE_string(
    "step", "best", "Checkpoint: best (on validation), latest, or a step."
  )


def define_prediction() -> None:
  """Defines --step, --batch_size and --views: how a trained model predicts."""
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
  """Defines --split and --data.path: the images of an evaluation."""
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
  values = flag_values("distributed", "coordinator", "processes", "process")
  processes.join(values.pop("distributed"), **values)


def flag_values(*names: str) -> dict[str, Any]:
  """Flags as keyword arguments: a dot in a name becomes an underscore."""
  return {n.replace(".", "_"): flags.FLAGS[n].value for n in names}


def required(name: str) -> str:
  """The value of a string flag that must be given.

  Raises:
    InputError: the flag is missing or empty.
  """
  value = flags.FLAGS[name].value
  if not value:
    raise errors.InputError(f"--{name} is missing: see --help")
  return value


def writable(*names: str) -> None:
  """Refuses flags whose files could not be written, before long work.

  Args:
    names: of string flags that name files; "" is none.

  Raises:
    InputError: a folder, or a place where nothing can be written.
  """
  for name in names:
    value = flags.FLAGS[name].value
    path = pathlib.Path(value or "")
    reason = "a folder" if value and path.is_dir() else ""
    try:
      if value and not reason:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
      reason = f"cannot be written ({error.strerror})"
    if reason:
      raise errors.InputError(f"--{name}={value}: {reason}; name another file")


def workdir(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
  """The folder of a run, and the words that are left.

  Args:
    argv: the program and the words, of which the first is the folder where
      --workdir is not given.

  Raises:
    InputError: neither is given.
  """
  if not flags.FLAGS["workdir"].value and len(argv) > 1:
    return argv[1], argv[2:]
  return required("workdir"), argv[1:]


def no_arguments(argv: Sequence[str]) -> None:
  """Refuses words that are no flags.

  Args:
    argv: the program and the words.

  Raises:
    InputError: naming them.
  """
  if len(argv) > 1:
    raise errors.InputError(
      f"unexpected argument {' '.join(argv[1:])!r}: options start with --"
    )
