"""Several processes of one machine: one run, one death, one restart."""

import contextlib
import json
import os
import signal
import socket
import time

import jax
import numpy as np
import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import restore
from mtlmoe_jax.data import pipeline
from mtlmoe_jax.devices import processes
from mtlmoe_jax.training import loop, metric_log, workdir
from tests.support import tiny

OPTIONS = (
  "batch_size=8",
  "eval.batch_size=8",
  "eval.every_epochs=6",
  "eval.report=False",
  "checkpoint.every_steps=4",
)
STEPS = 24


def arguments(folder, *options):
  made = [f"--config.{o}" for o in (*OPTIONS, f"steps={STEPS}", *options)]
  return ["--config=tests/support/tiny.py", f"--workdir={folder}", *made]


def free_port():
  with contextlib.closing(socket.socket()) as found:
    found.bind(("localhost", 0))
    return found.getsockname()[1]


def start(count, folder, *options):
  """The processes of a run, and the files of what they say."""
  port, out = free_port(), []
  for index in range(count):
    log = folder.parent / f"{folder.name}_{index}.log"
    process = tiny.quick_start(
      "train.py",
      *arguments(folder, *options),
      f"--coordinator=localhost:{port}",
      f"--processes={count}",
      f"--process={index}",
      log=log,
    )
    out.append((process, log))
  return out


def assert_running(started):
  for process, log in started:
    assert process.exitcode is None, log.read_text()


def finish(started, seconds=400):
  """Exit codes and what was said."""
  end = time.monotonic() + seconds
  try:
    for process, _ in started:
      process.join(max(1, end - time.monotonic()))
    codes = [process.exitcode for process, _ in started]
  finally:
    for process, _ in started:
      process.kill()
  return codes, [path.read_text() for _, path in started]


def variables(folder):
  return restore.restore_for_eval(folder, "latest").variables


def assert_same_bits(one, other):
  jax.tree.map(np.testing.assert_array_equal, variables(one), variables(other))


def losses(folder):
  rows = metric_log.read(folder)
  return [r["loss"] for r in rows if r["split"] == "train"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  """A finished run of two processes."""
  folder = tmp_path_factory.mktemp("pair") / "run"
  codes, said = finish(start(2, folder))
  assert codes == [0, 0], said
  assert "2 device(s) of 2 processes" in said[0]
  assert "written:" not in said[1]
  return folder


@pytest.mark.slow
def test_two_processes_train_as_one(pair, tmp_path):
  alone = tiny.launch("train.py", *arguments(tmp_path))
  assert alone.returncode == 0, alone.stderr
  np.testing.assert_allclose(losses(pair), losses(tmp_path), rtol=1e-5)
  one, two = (
    json.loads((f / "result.json").read_text()) for f in (tmp_path, pair)
  )
  assert one["n"] == two["n"]
  np.testing.assert_allclose(one["miou"], two["miou"], atol=1e-3)


@pytest.mark.slow
# Each process compiles the step for itself: four of them on two cores need two
# to three minutes a run when another test runs beside them.
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("count", [2, 4])
def test_one_dies_all_stop_and_go_on_with_the_same_bits(pair, tmp_path, count):
  whole = pair
  if count == 4:
    whole = tmp_path / "whole"
    codes, said = finish(start(4, whole))
    assert codes == [0] * 4, said
    np.testing.assert_allclose(losses(whole), losses(pair), rtol=1e-5)
  folder = tmp_path / "run"
  started = start(count, folder)
  while not workdir.has_checkpoint(folder):
    assert_running(started)
    time.sleep(0.02)
  victim = started[-1][0]
  os.kill(victim.pid, signal.SIGKILL)
  codes, said = finish(started, 200)
  assert codes[-1] == -signal.SIGKILL
  assert all(codes), codes
  if not any("another process" in text for text in said[:-1]):
    assert "another task died" in said[0], said
  assert not (folder / "result.json").exists()
  codes, said = finish(start(count, folder))
  assert codes == [0] * count, said
  assert "resumed at step" in said[0]
  assert_same_bits(whole, folder)
  assert losses(folder) == losses(whole)


@pytest.mark.slow
def test_sigterm_to_one_stops_all_at_one_step(pair, tmp_path):
  folder = tmp_path / "run"
  started = start(2, folder)
  while not metric_log.read(folder):
    assert_running(started)
    time.sleep(0.02)
  os.kill(started[1][0].pid, signal.SIGTERM)
  codes, said = finish(started)
  if codes == [0, 0]:
    pytest.skip("the run ended before the signal arrived")
  assert codes == [loop.STOPPED] * 2, said
  codes, said = finish(start(2, folder))
  assert codes == [0, 0], said
  assert_same_bits(pair, folder)


@pytest.mark.slow
def test_a_run_of_two_is_evaluated_and_continued_by_one(pair, tmp_path):
  got = tiny.launch("evaluate.py", f"--workdir={pair}", "--step=best")
  assert got.returncode == 0, got.stderr
  result = json.loads((pair / "result.json").read_text())
  again = json.loads((pair / "eval/test/metrics.json").read_text())
  assert again["top1"] == result["top1"]
  np.testing.assert_allclose(again["miou"], result["miou"], atol=1e-6)


def test_shares_are_the_rows_of_one_batch():
  config = tiny.config()
  row = lambda i: {"index": i, "label": i % 3}  # noqa: E731

  def batches(share, state=None, count=5):
    made = pipeline.TrainBatches(row, config, 12, share)
    if state is not None:
      made.set_state(state)
    return [next(made)["index"] for _ in range(count)], made.get_state()

  whole, state = batches(pipeline.ProcessSlice())
  assert state == {"batches": 5}
  for count in (2, 3, 4, 6, 12):
    parts = [batches(pipeline.ProcessSlice(i, count))[0] for i in range(count)]
    joined = [np.concatenate(rows) for rows in zip(*parts)]
    np.testing.assert_array_equal(joined, whole)
    # The state of one process is that of any number of them.
    on, _ = batches(pipeline.ProcessSlice(1, count), state, 1)
    size = 12 // count
    np.testing.assert_array_equal(on[0], 60 + size + np.arange(size))
  with pytest.raises(errors.InputError, match=r"batch_size=12 .* 5 processes"):
    pipeline.TrainBatches(row, config, 12, pipeline.ProcessSlice(0, 5))


@pytest.mark.parametrize(
  ("environment", "expected"),
  [
    ({}, False),
    ({"SLURM_NTASKS": "1"}, False),
    ({"SLURM_NTASKS": "4"}, True),
    ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
    ({"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"}, True),
  ],
)
def test_schedulers_say_how_many_there_are(environment, expected):
  assert processes.several(environment) == expected


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (dict(mode="maybe"), "--distributed='maybe'"),
    (dict(processes=2), "belong together"),
    (dict(coordinator="a:1", process=0), "belong together"),
    (dict(coordinator="a:1", processes=2, process=2), "must be 0 ... 1"),
  ],
)
def test_bad_flags_are_named(options, message):
  with pytest.raises(errors.InputError, match=message):
    processes.join(**options)


def test_alone_there_is_nothing_to_join():
  processes.join(environ={})
  assert processes.count() == 1
  assert processes.is_first()
  assert processes.should_stop(3, flag=True)
  assert not processes.should_stop(3, flag=False)
  processes.wait_for_all("here")
