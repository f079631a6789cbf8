"""Predicting thousands of files: killed at any moment, and how much memory.

MTLMOE_LARGE=1 takes 3,000 files and 20 kills, and 20,000 files.
"""

import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from mtlmoe_jax.predicting import journal
from tests.support import golden_run, tiny

pytestmark = pytest.mark.slow
DISTINCT = 50
IS_LARGE = bool(os.environ.get("MTLMOE_LARGE"))
FILES, KILLS = (3000, 20) if IS_LARGE else (600, 5)
MANY = 20000 if IS_LARGE else 4000


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  return golden_run.unpacked(tmp_path_factory.mktemp("run"))


def photographs(folder, count):
  """Many names of a few files, one of which cannot be read."""
  draws = np.random.default_rng(0)
  for i in range(count):
    path = folder / f"{i // 1000}" / f"{i:05d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    if i >= DISTINCT:
      first = folder / "0" / f"{i % DISTINCT:05d}.jpg"
      os.link(first, path)
      continue
    pixels = draws.integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    if i == 7:
      path.write_bytes(path.read_bytes()[:99])
  return folder


def started(workdir, photos, out, *options):
  return subprocess.Popen(
    [
      *(sys.executable, "launch/predict.py", f"--workdir={workdir}"),
      *(f"--out={out}", *options, str(photos)),
    ],
    cwd=tiny.ROOT,
    env=tiny.environment(),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )


def contents(out):
  return {
    str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(out.rglob("*"))
    if path.is_file()
  }


def rows(out):
  """Complete rows of the journal."""
  path = out / journal.FOLDER / "rows.jsonl"
  return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_at_any_moment(workdir, tmp_path, capsys):
  photos = photographs(tmp_path / "in", FILES)
  whole, out = tmp_path / "whole", tmp_path / "out"
  begun = time.monotonic()
  options = ("--overlays=jpeg", "--thumbnails")
  assert started(workdir, photos, whole, *options).wait() == 2
  seconds = time.monotonic() - begun
  expected = contents(whole)
  draws = random.Random(0)
  seen = []
  for _ in range(KILLS):
    process = started(workdir, photos, out, *options)
    # Each comes some way further.
    begun, before = time.monotonic(), rows(out)
    while rows(out) <= before and time.monotonic() - begun < seconds:
      time.sleep(0.02)
    time.sleep(draws.uniform(0, seconds / (KILLS + 5)))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run was over too soon"
    seen.append(rows(out))
    assert not (out / "predictions.csv").exists()
  # Once more while the last files are being made.
  process = started(workdir, photos, out, *options)
  while not (out / journal.FOLDER / "files").exists():
    time.sleep(0.001)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert started(workdir, photos, out, *options).wait() == 2
  with capsys.disabled():
    print(f"\nrows at each kill: {seen}")
  assert seen == sorted(seen) and seen[-1] < FILES
  assert contents(out) == expected
  assert len(expected) == 2 * FILES * (DISTINCT - 1) // DISTINCT + 4


def resident(process):
  """Memory of a process, MB."""
  text = pathlib.Path(f"/proc/{process.pid}/statm").read_text()
  return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_memory_is_flat(workdir, tmp_path, capsys):
  photos = photographs(tmp_path / "in", MANY)
  out = tmp_path / "out"
  process = started(workdir, photos, out, "--overlays=none")
  first, most = 0.0, 0.0
  while process.poll() is None:
    try:
      now = resident(process)
    except (IndexError, OSError):
      break
    done = rows(out)
    if done >= 500:
      first = first or now
      most = max(most, now)
    time.sleep(0.25)
  assert process.wait() == 2
  with capsys.disabled():
    print(
      f"\n{first:.0f} MB after 500 rows, at most {most:.0f} MB until {MANY}"
    )
  assert 0 < most < 1.05 * first
