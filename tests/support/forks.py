"""Scripts run by copies of a process that has imported the package.

To start Python and import JAX takes seconds of each script that a test runs; a
copy of a process that has done so starts in a tenth of one. The copies have
memory, environment and exit code of their own, as real processes have.
"""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

_IMPORTED = ("mtlmoe_jax.training.loop", "mtlmoe_jax.planning.forecast")


def start(
  command: Sequence[str],
  cwd: pathlib.Path,
  environ: Mapping[str, str],
  out: pathlib.Path,
  err: pathlib.Path,
) -> multiprocessing.context.ForkServerProcess:
  """Starts a script, or the text of a program after "-c".

  Args:
    command: the script's file or ("-c", text), and its arguments.
    cwd: where it runs.
    environ: all that is in its environment; XLA's flags count, too.
    out: file for its standard output.
    err: the same for its errors; it may be `out`.
  """
  context = multiprocessing.get_context("forkserver")
  context.set_forkserver_preload(list(_IMPORTED))
  process = context.Process(
    target=_child,
    args=(list(command), str(cwd), dict(environ), str(out), str(err)),
  )
  process.start()
  return process


def run(
  command: Sequence[str],
  cwd: pathlib.Path,
  environ: Mapping[str, str],
  seconds: float = 400,
) -> subprocess.CompletedProcess:
  """`start` to its end, as `subprocess.run` with captured text."""
  with tempfile.TemporaryDirectory() as folder:
    out, err = (pathlib.Path(folder) / name for name in ("out", "err"))
    process = start(command, cwd, environ, out, err)
    process.join(seconds)
    if process.exitcode is None:
      process.kill()
      process.join()
      raise subprocess.TimeoutExpired(command, seconds)
    return subprocess.CompletedProcess(
      command, process.exitcode, out.read_text(), err.read_text()
    )


def _child(
  command: list[str], cwd: str, environ: dict[str, str], out: str, err: str
) -> None:
  for path, descriptor in ((out, 1), (err, 2)):
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    file = os.open(path, flags)
    os.dup2(file, descriptor)
    os.close(file)
  os.environ.clear()
  # To start again with large pages would be to import all again.
  pages = ":".join(
    filter(None, (environ.get("GLIBC_TUNABLES"), "glibc.malloc.hugetlb=0"))
  )
  os.environ.update(environ, GLIBC_TUNABLES=pages)
  os.chdir(cwd)
  import jax

  # As the environment has it, which JAX reads when it is imported.
  jax.config.update(
    "jax_compilation_cache_dir", environ["JAX_COMPILATION_CACHE_DIR"]
  )
  jax.config.update(
    "jax_persistent_cache_min_compile_time_secs",
    float(environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]),
  )
  sys.orig_argv = [sys.executable, *command]
  sys.path[:0] = environ["PYTHONPATH"].split(os.pathsep)
  try:
    if command[0] == "-c":
      sys.argv = ["-c", *command[2:]]
      exec(command[1], {"__name__": "__main__"})
    else:
      sys.argv = command
      sys.path.insert(0, str(pathlib.Path(command[0]).parent))
      runpy.run_path(command[0], run_name="__main__")
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
