"""Several processes that are one program, and the one that speaks for them.

Every process runs the same program over the same steps and holds a part of the
arrays. The first one alone prints and writes; checkpoints are written by all.
"""

import os
import sys
from typing import Any

from mtlmoe_jax import errors

# How a scheduler says how many processes there are. JAX finds out the rest
# (the address of the first, and which one this is) by itself.
_COUNTS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
_TPU_HOSTS = "TPU_WORKER_HOSTNAMES"
MODES = ("auto", "on", "off")


def join(
  mode: str = "auto",
  coordinator: str = "",
  processes: int = 0,
  process: int = -1,
  environ: Any = os.environ,
) -> None:
  """Makes this process one of several; to be called before JAX computes.

  Args:
    mode: "auto" joins where a scheduler (Slurm, Open MPI, a TPU slice with its
      hosts in the environment) says that there are several processes, or where
      the other arguments do; "on" always, and asks the platform for what the
      other arguments leave open (a TPU VM knows its slice); "off" never.
    coordinator: HOST:PORT on which the first process listens for the others.
    processes: how many there are.
    process: which one this is, from 0.
    environ: the environment.

  Raises:
    InputError: an unknown mode, some of the three arguments without the others,
      or processes that do not find each other.
  """
  given = (bool(coordinator), processes > 0, process >= 0)
  if mode not in MODES:
    raise errors.InputError(
      f"--distributed={mode!r}: must be one of {', '.join(MODES)}"
    )
  if any(given) and not all(given):
    raise errors.InputError(
      "--coordinator=HOST:PORT, --processes=COUNT and --process=INDEX belong "
      f"together: got {coordinator!r}, {processes} and {process}"
    )
  if all(given) and process >= processes:
    raise errors.InputError(
      f"--process={process}: must be 0 ... {processes - 1}, as "
      f"--processes={processes}"
    )
  wanted = mode == "on" or any(given) or several(environ)
  if mode == "off" or not wanted:
    return
  import jax

  options: dict[str, Any] = {}
  if all(given):
    options = dict(
      coordinator_address=coordinator,
      num_processes=processes,
      process_id=process,
    )
  try:
    jax.distributed.initialize(**options)
  except (RuntimeError, ValueError) as error:
    raise errors.InputError(
      "the processes did not find each other "
      f"({' '.join(str(error).split())}): check --coordinator, and that all "
      "are started"
    ) from None


def several(environ: Any = os.environ) -> bool:
  """Whether the environment names more processes than this one."""
  counts = [environ.get(name, "") for name in _COUNTS]
  hosts = environ.get(_TPU_HOSTS, "").split(",")
  return len(hosts) > 1 or any(c.isdigit() and int(c) > 1 for c in counts)


def count() -> int:
  """How many there are."""
  import jax

  return jax.process_count()


def index() -> int:
  """Which one this is."""
  import jax

  return jax.process_index()


def is_first() -> bool:
  """Whether this is the one that prints and writes."""
  return index() == 0


def say(text: str) -> None:
  """One message on stderr, beside the progress bar; of the first process."""
  if is_first():
    print(text, file=sys.stderr, flush=True)


def wait_for_all(name: str) -> None:
  """Returns once all processes have come here."""
  from jax.experimental import multihost_utils

  if count() > 1:
    multihost_utils.sync_global_devices(name)


def of_first(number: float) -> float:
  """The number that the first process has, in all of them."""
  import numpy as np
  from jax.experimental import multihost_utils

  if count() == 1:
    return number
  return float(multihost_utils.broadcast_one_to_all(np.float32(number)))


def should_stop(step: int, flag: bool) -> bool:
  """Whether all are to save and stop after this step.

  A signal reaches one process or all of them, not at the same step; with
  several processes JAX takes the signal and they agree on a step.

  Args:
    step: of this process; all call this with the same steps in turn.
    flag: whether this process, being alone, has got a SIGTERM.
  """
  from jax.experimental import multihost_utils

  if count() == 1:
    return flag
  return multihost_utils.reached_preemption_sync_point(step)
