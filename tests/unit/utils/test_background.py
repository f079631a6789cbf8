"""Threads that are waited for at the end, and the collector kept away."""

import gc
import subprocess
import sys
import threading

from mtlmoe_jax.utils import background, garbage
from tests.support import tiny


def test_finish_waits():
  done = []
  may_end = threading.Event()

  def work(name):
    may_end.wait(10)
    done.append(name)

  for name in "ab":
    background.start(work, name)
  assert not done
  may_end.set()
  background.finish()
  assert sorted(done) == ["a", "b"]


def test_a_process_ends_when_its_work_has(tmp_path):
  code = """
import pathlib, sys, time
from mtlmoe_jax.utils import background

def work():
  time.sleep(0.2)
  pathlib.Path(sys.argv[1]).write_text("done")

background.start(work)
"""
  path = tmp_path / "file"
  command = [sys.executable, "-c", code, str(path)]
  subprocess.run(command, check=True, cwd=tiny.ROOT)
  assert path.read_text() == "done"


def test_the_collector_is_as_it_was():
  assert gc.isenabled()
  with garbage.paused():
    assert not gc.isenabled()
    with garbage.paused():
      assert not gc.isenabled()
    assert not gc.isenabled()
  assert gc.isenabled()
