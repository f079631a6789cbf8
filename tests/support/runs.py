"""Finished tiny runs, each trained once for all workers of a session.

Nobody writes into them: a test that does takes a copy.
"""

import fcntl
import os
import pathlib
import shutil

import pytest

from tests.support import tiny

# Of the promised checkpoints there are several: of steps 3, 6 and 8.
ARGUMENTS = ("--config=tests/support/tiny.py:checkpoint.every_steps=3",)


def finished(factory: pytest.TempPathFactory) -> pathlib.Path:
  """Workdir of an uninterrupted tiny run, of a process of its own."""
  base = factory.getbasetemp()
  if "PYTEST_XDIST_WORKER" in os.environ:
    base = base.parent  # Of all workers.
  folder = base / "finished_tiny_run"
  with (base / "finished_tiny_run.lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not (folder / "result.json").exists():
      got = tiny.launch("train.py", *ARGUMENTS, f"--workdir={folder}")
      assert got.returncode == 0, got.stderr
  return folder


def copy(folder: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
  """A copy that a test may change."""
  return pathlib.Path(shutil.copytree(folder, to))
