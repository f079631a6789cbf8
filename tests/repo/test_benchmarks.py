"""The benchmark programs: their statistics, turns, flags and processes."""

import argparse
import ast
import dataclasses
import importlib
import itertools
import json
import os
import subprocess
import sys
import time

import pytest
from PIL import Image

from mtlmoe_jax.utils import files
from tests.support import tiny

FOLDER = tiny.ROOT / "benchmarks"
PARTS = (
  "moe_layer",
  "train_step",
  "input_pipeline",
  "gpu",
  "convolution",
  "forward",
)
PROGRAMS = (*PARTS, "all")

HERE = {
  "processor": "one, 2 CPUs", "versions": "jax 1", "precision": "float32",
  "threads": "2", "shapes": "full", "commit": "abc1234", "date": "2026-01-02",
}  # fmt: skip

# Contestants whose repetitions take known times.
FAKES = """
import os, sys, time

def sleeper(seconds, log=""):
  def run():
    time.sleep(seconds)
    if log:
      with open(log, "a") as file:
        file.write(f"{seconds}\\n")
  return run, {"bytes": seconds * 1000, "threads": len(os.sched_getaffinity(0)),
    "omp": os.environ["OMP_NUM_THREADS"],
    "tunables": os.environ["GLIBC_TUNABLES"]}

def spinner(log):
  import threading
  def spin():
    while True:
      with open(log, "a") as file:
        file.write("x")
  threading.Thread(target=spin, daemon=True).start()
  return lambda: time.sleep(0.01), {}

def talker():
  print("not an answer")
  return lambda: print("nor this"), {}

def broken(code=3):
  print("the cause of it", file=sys.stderr)
  sys.exit(code)

def dies_later():
  runs = []
  def run():
    runs.append(1)
    if len(runs) > 3:
      raise MemoryError("in the burst")
  return run, {}

def both():
  sys.modules["jax"] = sys.modules["torch"] = None
  return (lambda: None), {}
"""


@pytest.fixture(autouse=True)
def _path(monkeypatch, tmp_path):
  """Programs import each other by bare names; workers find the fakes."""
  monkeypatch.syspath_prepend(FOLDER)
  (tmp_path / "fakes.py").write_text(FAKES)
  monkeypatch.setenv(
    "PYTHONPATH", os.pathsep.join([str(tmp_path), str(tiny.ROOT)])
  )


@pytest.fixture
def harness(monkeypatch):
  import harness

  # Two or three repetitions a burst.
  monkeypatch.setattr(harness, "BURST_SECONDS", 0.1)
  return harness


def _fake(harness, label, build, needs=(), optional=False, env=(), **options):
  return harness.Contestant(
    label, f"fakes:{build}", options, needs, optional, dict(env)
  )


def _row(harness, name="row", ours=0.03, peer=0.06, **how):
  return harness.Row(
    name,
    "sleeps",
    _fake(harness, "ours", "sleeper", seconds=ours),
    (_fake(harness, "peer", "sleeper", seconds=peer),),
    **how,
  )


def test_spread_is_quartiles_and_median(harness):
  spread = harness.results.spread
  assert spread([4.0, 1.0, 3.0, 2.0, 5.0]) == [2.0, 3.0, 4.0]
  assert spread([1.0, 2.0, 3.0, 4.0]) == [1.75, 2.5, 3.25]
  assert spread([7.0]) == [7.0, 7.0, 7.0]


def test_a_round_gives_the_ratio_of_medians(harness):
  peer = [[2.0, 9.0, 4.0], [3.0]]
  ours = [[1.0, 2.0], [6.0, 5.0, 1.0]]
  assert harness.results.round_ratios(peer, ours) == [4.0 / 1.5, 3.0 / 5.0]


def test_the_ratio_is_against_the_quickest_peer(harness):
  bursts = [
    [[1.0], [1.0], [2.0], [1.0]],
    [[2.0], [3.0], [4.0], [9.0]],  # the median of 2, 3, 4, 9 is 3.5
    [[3.0], [3.0], [3.0], [3.0]],
  ]
  result = harness.result_of(
    _row(harness, at_least=2.5), ["ours", "slow", "quick"], bursts, {}, HERE
  )
  assert result.peer == "quick"
  medians = {label: result.median(label) for label in result.values}
  assert medians == {"ours": 1.0, "slow": 3.5, "quick": 3.0}
  # Ratios by round 3, 3, 1.5, 3; against the slow one 2, 3, 2, 9.
  assert (result.low, result.ratio, result.high) == (2.625, 3.0, 3.0)
  assert result.ratios == {
    "slow": [2.0, 2.5, 4.5],
    "quick": [2.625, 3.0, 3.0],
  }
  assert (result.name, result.rounds, result.at_least) == ("row", 4, 2.5)
  counted, other = result.line().splitlines()
  assert counted.startswith("row ")
  assert counted.endswith("against quick  (at least 2.5)")
  assert other.split() == ["2.50", "[2.00", "...", "4.50]", "against", "slow"]


def test_turns_alternate_and_turn_round(harness):
  turns = []

  class Fake:
    def __init__(self, name):
      self.name = name

    def burst(self):
      turns.append(self.name)
      return [len(turns)]

  seen = []
  bursts = harness.alternate(
    [Fake("a"), Fake("b"), Fake("c")], 3, lambda *told: seen.append(told)
  )
  assert turns == list("abccbaabc")
  assert bursts == [[[1], [6], [7]], [[2], [5], [8]], [[3], [4], [9]]]
  assert seen[1] == (1, [[6], [5], [4]])


def test_workers_take_turns_one_at_a_time(harness, tmp_path):
  log = tmp_path / "log"
  row = harness.Row(
    "row",
    "sleeps",
    _fake(harness, "ours", "sleeper", seconds=0.02, log=str(log)),
    (_fake(harness, "peer", "sleeper", seconds=0.05, log=str(log)),),
  )
  result = harness.measure(row, 4, 1, HERE)
  assert 1.5 < result.ratio < 3.5
  assert result.low <= result.ratio <= result.high
  assert result.rounds == 4
  assert result.infos["ours"]["threads"] == 1
  assert result.infos["peer"]["omp"] == "1"
  order = [line.split()[0] for line in log.read_text().splitlines()]
  # Warm-ups, then a b | b a | a b | b a.
  turns = [name for name, _ in itertools.groupby(order)]
  assert turns == ["0.02", "0.05"] * 3 + ["0.02"]


def test_a_contestant_has_an_environment_of_its_own(harness):
  found = []
  for env in ({}, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}):
    contestant = _fake(harness, "ours", "sleeper", env=env, seconds=0.01)
    worker = harness.Worker(contestant, threads=1)
    found.append(worker.info["tunables"])
    worker.close()
  assert found == ["glibc.malloc.hugetlb=1", "glibc.malloc.hugetlb=0"]


def test_an_idle_worker_does_not_spin(harness, tmp_path):
  log = tmp_path / "cpu"
  worker = harness.Worker(
    _fake(harness, "ours", "spinner", log=str(log)), threads=2
  )
  try:
    worker.burst()
    time.sleep(0.1)
    before = log.stat().st_size
    time.sleep(0.3)
    assert log.stat().st_size == before
    worker.burst()
    assert log.stat().st_size > before
  finally:
    worker.close()


def test_prints_of_a_library_are_no_answers(harness):
  worker = harness.Worker(_fake(harness, "ours", "talker"), threads=1)
  try:
    assert len(worker.burst()) == harness.MAX_REPEATS
  finally:
    worker.close()


def test_a_dead_worker_is_named_with_its_last_words(harness):
  with pytest.raises(harness.WorkerError) as caught:
    harness.Worker(_fake(harness, "peer", "broken"), threads=1)
  message = str(caught.value)
  assert "peer (fakes:broken) ended with code 3" in message
  assert "the cause of it" in message
  worker = harness.Worker(_fake(harness, "peer", "dies_later"), threads=1)
  with pytest.raises(harness.WorkerError, match="MemoryError: in the burst"):
    worker.burst()
  worker.close()


def test_both_frameworks_in_one_process_are_refused(harness):
  with pytest.raises(harness.WorkerError, match="both JAX and torch"):
    harness.Worker(_fake(harness, "ours", "both"), threads=1)


def test_a_failing_variant_leaves_the_others(harness, capsys):
  row = harness.Row(
    "row",
    "sleeps",
    _fake(harness, "ours", "sleeper", seconds=0.02),
    (
      _fake(harness, "compile", "broken", optional=True),
      _fake(harness, "eager", "sleeper", seconds=0.02),
    ),
  )
  assert harness.measure(row, 1, 1, HERE).peer == "eager"
  assert "left out: compile" in capsys.readouterr().err


def test_json_holds_every_row_and_the_code_is_0(harness, tmp_path, capsys):
  path = tmp_path / "out.json"
  rows = [
    _row(harness, "slower", ours=0.05, peer=0.02, at_least=9.0),
    _row(harness, "bytes", peer=0.12, at_least=4.0, quantity="bytes"),
  ]
  arguments = ["--json", str(path), "--rounds", "2"]
  code = harness.main(harness.parser("."), lambda _: rows, argv=arguments)
  assert code == 0  # Though a bar is missed.
  entries = json.loads(path.read_text())
  keys = {"name", "ratio", "low", "high", "rounds", "at_least"}
  assert all(keys < set(entry) for entry in entries)
  assert entries[0]["name"] == "slower"
  assert entries[0]["ratio"] < 1
  assert entries[0]["rounds"] == 2
  assert entries[1]["ratio"] == pytest.approx(4.0)
  assert not list(tmp_path.glob(".out*"))  # The temporary name is gone.
  told = capsys.readouterr()
  assert "slower: round 2/2" in told.err
  assert "slower" in told.out
  assert "(at least 9)" in told.out


def test_a_failed_row_is_told_and_the_rest_measured(harness, tmp_path, capsys):
  path = tmp_path / "out.json"
  bad = harness.Row(
    "bad", "breaks", _fake(harness, "ours", "broken"), (_row(harness).ours,)
  )
  rows = [bad, _row(harness, "good", ours=0.01, peer=0.01)]
  arguments = ["--json", str(path), "--rounds", "1"]
  assert harness.main(harness.parser("."), lambda _: rows, argv=arguments) == 1
  assert [entry["name"] for entry in json.loads(path.read_text())] == ["good"]
  assert "bad: ours (fakes:broken) ended with code 3" in capsys.readouterr().err


def test_only_and_missing_libraries(harness, capsys):
  lacking = _fake(
    harness, "peer", "sleeper", needs=("no_such_module",), seconds=1
  )
  rows = [
    _row(harness, "a", ours=0.01, peer=0.01),
    harness.Row("b", "needs more", _row(harness).ours, (lacking,)),
  ]

  def run(*arguments):
    return harness.main(
      harness.parser("."), lambda _: rows, argv=["--rounds", "1", *arguments]
    )

  assert run() == 0
  told = capsys.readouterr()
  assert told.out.startswith("a ")
  assert "left out: b needs no_such_module" in told.err
  for arguments, message in (
    (["--only", "b"], "b needs no_such_module"),
    (["--only", "c"], "--only c: must be one of a, b"),
    (["--only", "a", "x*"], "--only x*: must be one of a, b"),
    (["--rounds", "0"], "at least 1"),
  ):
    with pytest.raises(SystemExit) as caught:
      run(*arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_only_takes_names_and_patterns(harness, capsys):
  rows = [_row(harness, name) for name in ("grow_a", "grow_b", "c", "d")]

  def listed(*arguments):
    argv = ["--list", *arguments]
    assert harness.main(harness.parser("."), lambda _: rows, argv=argv) == 0
    return [line.split()[0] for line in capsys.readouterr().out.splitlines()]

  assert listed() == ["grow_a", "grow_b", "c", "d"]
  assert listed("--only", "d", "grow_a") == ["grow_a", "d"]
  assert listed("--only", "d", "--only", "grow_*") == ["grow_a", "grow_b", "d"]


def test_a_run_cut_short_goes_on(harness, tmp_path, capsys):
  """The second run measures what the first did not, and keeps its figures."""
  path = tmp_path / "out.json"
  rows = [_row(harness, name, ours=0.01, peer=0.01) for name in "abc"]
  finished = []

  def run(*arguments):
    argv = ["--rounds", "1", "--json", str(path), *arguments]
    finish = lambda args, results: finished.append(results)  # noqa: E731
    return harness.main(harness.parser("."), lambda _: rows, finish, argv)

  assert run("--only", "b") == 0
  first = json.loads(path.read_text())
  capsys.readouterr()
  assert run("--merge", str(path)) == 0
  told = capsys.readouterr().err
  assert "b: round" not in told
  assert "a: round" in told
  assert {e["name"] for e in json.loads(path.read_text())} == {"a", "b", "c"}
  assert first[0] in json.loads(path.read_text())
  assert [r.name for r in finished[-1]] == ["a", "b", "c"]
  # Nothing is left: the page alone is written, on any machine.
  everything = json.loads(path.read_text())
  for entry in everything:
    entry["origin"]["processor"] = "another"
  path.write_text(json.dumps(everything))
  assert run("--merge", str(path)) == 0
  assert [r.name for r in finished[-1]] == ["a", "b", "c"]
  # But not beside rows of this one.
  path.write_text(json.dumps(everything[:1]))
  with pytest.raises(SystemExit) as caught:
    run("--merge", str(path))
  assert caught.value.code == 2
  assert "was measured with processor 'another'" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("key", "value", "refused"),
  [
    ("processor", "two", True),
    ("versions", "jax 2", True),
    ("versions", "flax 3, jax 2", True),
    ("versions", "jax 1, flax 3", False),
    ("threads", "4", True),
    ("shapes", "tiny", True),
    ("commit", "def5678", False),
    ("date", "2026-02-02", False),
  ],
)
def test_what_may_stand_on_one_page(harness, tmp_path, key, value, refused):
  from mtlmoe_jax.errors import InputError

  one = _result(harness, "a", 2.0)
  other = _result(harness, "b", 3.0)
  other = dataclasses.replace(other, origin={**HERE, key: value})
  paths = []
  for result in (one, other):
    paths.append(str(tmp_path / f"{result.name}.json"))
    files.write_json(paths[-1], [dataclasses.asdict(result)])
  if refused:
    with pytest.raises(InputError, match=f"b was measured with {key} '{value}"):
      harness.results.merge(paths, ["a", "b"], None)
  else:
    merged = harness.results.merge(paths, ["a", "b"], HERE)
    assert merged == {"a": one, "b": other}
  with pytest.raises(InputError, match="a is in another file too"):
    harness.results.merge(paths[:1] * 2, ["a", "b"], None)
  with pytest.raises(InputError, match="a is no row of this program"):
    harness.results.merge(paths, ["b"], None)
  old = tmp_path / "old.json"
  old.write_text('[{"name": "a", "ratio": 1.0}]')
  for path in (old, tmp_path / "absent.json"):
    with pytest.raises(InputError, match="use files that --json of this"):
      harness.results.read(str(path))


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_list_their_rows_without_any_framework(name):
  # Neither JAX nor torch in the process that starts the workers.
  code = (
    "import sys, runpy; sys.argv = [sys.argv[1], '--list']\n"
    "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    "except SystemExit as e: assert not e.code, e.code\n"
    "assert not {'jax', 'torch'} & sys.modules.keys()\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", code, str(FOLDER / f"{name}.py")],
    capture_output=True,
    text=True,
    env={**os.environ, "PYTHONPATH": f"{FOLDER}{os.pathsep}{tiny.ROOT}"},
  )
  assert done.returncode == 0, done.stderr
  names = [line.split()[0] for line in done.stdout.splitlines()]
  assert len(names) == len(set(names)) >= 2
  if name == "all":
    assert len(names) > 20


@pytest.mark.parametrize("name", PARTS)
def test_every_contestant_can_be_found(harness, name):
  module = importlib.import_module(name)
  for row in (*module.rows(small=False), *module.rows(small=True)):
    for contestant in (row.ours, *row.peers):
      json.dumps(contestant.options)
      place, function = contestant.build.split(":")
      source = (FOLDER / f"{place.replace('.', '/')}.py").read_text()
      found = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == function
      ]
      assert found, contestant
      names = [a.arg for a in found[0].args.args]
      assert set(contestant.options) <= set(names), contestant
      required = names[: len(names) - len(found[0].args.defaults)]
      assert set(required) <= set(contestant.options), contestant
      # What needs torch says so, and nothing else imports it.
      if not place.startswith("peers."):
        assert contestant.needs == ()
      elif place in ("peers.layers", "peers.rate"):
        assert contestant.needs == ("torch",)
      elif place == "peers.runtimes":
        assert contestant.needs == (function, "onnx")
      else:
        assert set(contestant.needs) == {"torch", "timm", "torchvision"}


def test_sides_do_not_import_each_other():
  for side, other in (("ours", "torch"), ("peers", "jax")):
    for path in (FOLDER / side).glob("*.py"):
      for line in path.read_text().splitlines():
        assert not line.strip().startswith((f"import {other}", f"from {other}"))


def test_layers_measure_what_they_say(harness):
  """One real row, from the command line, in shapes that take no time."""
  done = subprocess.run(
    [
      sys.executable, str(FOLDER / "moe_layer.py"), "--small", "--rounds", "2",
      "--only", "conv_vs_dense",
    ],
    capture_output=True,
    text=True,
    env=tiny.environment(PYTHONPATH=str(tiny.ROOT)),
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith("conv_vs_dense ")


def test_strategies_of_the_layer_agree(harness):
  import jax
  import numpy as np

  from ours import layers
  from shapes import Mixture

  shape = Mixture(6, 4, 2, 8, 16, 5, activation="gelu")
  results = {}
  for strategy in ("dense", "gather", "einsum", "ragged"):
    layer, (params, x, noise), _ = layers._layer(
      shape, strategy, None, "float32"
    )
    gradient = jax.jit(layers._loss_gradient(layer))
    results[strategy] = jax.tree.leaves(gradient(params, x, noise[0]))
  for strategy, leaves in results.items():
    for found, expected in zip(leaves, results["dense"]):
      np.testing.assert_allclose(
        found, expected, rtol=1e-4, atol=1e-6, err_msg=strategy
      )


def test_drawn_files_are_a_folder_data_set(harness, tmp_path):
  import input_pipeline
  from mtlmoe_jax import config as config_lib
  from mtlmoe_jax import data

  folder = tmp_path / "jpeg"
  input_pipeline.draw_files(folder, 16)
  config = config_lib.default_config()
  config.data.name, config.data.path = "folder", str(folder)
  config.data.validation_fraction = 0.0
  opened = data.open_data(config)
  assert (len(opened.train), len(opened.test)) == (14, 2)
  record = opened.train[3]
  assert record["image"].shape == (375, 500, 3)
  assert record["has_box"]
  sizes = [p.stat().st_size for p in folder.glob("*/*/*.jpg")]
  # As photographs of this size and quality.
  assert all(30_000 < size < 150_000 for size in sizes)
  assert (folder / "boxes.csv").read_text().count("\n") == 17


def _result(harness, name, ratio, at_least=None, info=None, **others):
  """Ours takes 2 ms, quartiles 1 and 4; further peers by their ratio."""
  ratios = {"peer": ratio, **others}
  values = {p: [0.001 * r, 0.002 * r, 0.004 * r] for p, r in ratios.items()}
  return harness.Result(
    name=name,
    ratio=ratio,
    low=ratio / 2,
    high=ratio * 2,
    rounds=10,
    at_least=at_least,
    what="sleeps",
    quantity="seconds",
    ours="ours",
    peer="peer",
    ratios={p: [r / 2, r, r * 2] for p, r in ratios.items()},
    values={"ours": [0.001, 0.002, 0.004], **values},
    infos={"ours": info or {}, **{p: {} for p in ratios}},
    origin=HERE,
  )


STEP = {"images": 16, "model": "lite0, 112 px", "flops": 1}


def test_the_page_tells_bars_floors_and_growth(harness):
  page = importlib.import_module("page")
  flops = {"flops": 400_000_000}
  floor = {"flops": 100_000_000, "images": 4}
  met = _result(harness, "met", 3.0, 2.5, {"images": 16, "dropped": 0.005})
  text = page.page(
    [
      _result(harness, "matmul_vs_torch", 1.25, info=flops),
      dataclasses.replace(met, origin={**HERE, "commit": "def5678"}),
      _result(harness, "missed", 2.0, 2.5, floor, slow=5.0),
      _result(harness, "grow_sparse_n8", 0.8, info=STEP),
      _result(harness, "grow_sparse_k4", 0.5, info=STEP),
    ],
    missing=["absent"],
    picture="there/growth.png",
  )
  assert (
    "| **3.00** | 1.50 ... 6.00 | 2.5 (yes) | 2.0 ms | 6.0 ms (peer)" in text
  )
  assert "| 8000.0 / 2666.7 | 0.5% |" in text
  assert "2.5 (NO)" in text
  assert "Not measured: `absent`." in text
  assert "- processor: one, 2 CPUs" in text
  assert "def5678 (`met`)" in text
  assert "- date: 2026-01-02\n" in text
  # Every peer of the row that has several, and of no other.
  assert "| `missed` | peer | 2.00 | 1.00 ... 4.00 | 4.0 ms |" in text
  assert "| `missed` | slow | 5.00 | 2.50 ... 10.00 | 10.0 ms |" in text
  assert "| `met` | peer" not in text
  assert "200 GFLOP/s in JAX and 160 in PyTorch" in text
  assert "| `missed` | 0.1 | 0.50 ms | 2.00 ms | 25% | 2000.0 |" in text
  assert "lite0, 112 px, batch 16" in text
  assert "![Time over N and over k](there/growth.png)" in text
  base = "| 1.00 ... 1.00 | 2 | 1 ... 3 | 10000.0 | 5000.0 ... 20000.0 |"
  assert f"| sparse | 2 | 2 | **1.00** {base}" in text
  grown = "0.62 ... 2.50 | 2 | 1 ... 4 | 8000.0 | 4000.0 ... 16000.0 |"
  assert f"| sparse | 8 | 2 | **1.25** | {grown}" in text
  assert "| sparse | 8 | 4 | **2.00** |" in text
  assert "| sparse | 8 | 1 | **1.00** |" in text
  assert "| `grow_sparse_n8`" not in text
  tiny_shapes = {**HERE, "shapes": "tiny (--small)"}
  text = page.page([dataclasses.replace(met, origin=tiny_shapes)])
  assert "figures mean nothing" in text
  assert "How cost grows" not in text


def test_where_page_and_plot_go(harness, tmp_path):
  program = importlib.import_module("all")
  flags = harness.parser(".")
  flags.set_defaults(out=None, plot=None)

  def found(**how):
    return program.paths(
      argparse.Namespace(**{**vars(flags.parse_args([])), **how})
    )

  full = str(FOLDER / "RESULTS.md"), str(FOLDER / "growth.png")
  assert found() == full
  assert found(precision="bfloat16")[0] == str(FOLDER / "RESULTS_GPU.md")
  assert found(only=["x"]) == ("", "")
  assert found(small=True, out="a.md") == ("a.md", "")
  assert found(out="b/a.md") == ("b/a.md", "b/growth.png")
  args = argparse.Namespace(
    **{**vars(flags.parse_args(["--only", "x"])), "out": str(tmp_path / "p.md")}
  )
  args.plot = str(tmp_path / "drawn" / "growth.png")
  program.write(args, [_result(harness, "grow_dense_n4", 0.5, info=STEP)])
  text = (tmp_path / "p.md").read_text()
  assert "(drawn/growth.png)" in text
  assert "`dispatch_memory`" in text.split("Not measured")[1]
  assert (tmp_path / "drawn" / "growth.png").exists()


def test_growth_is_drawn(harness, tmp_path):
  growth = importlib.import_module("growth")
  results = [
    _result(harness, "grow_dense_n4", 0.5, info=STEP),
    _result(harness, "grow_dense_n1", 2.0, info=STEP),
  ]
  ours = (0.001, 0.002, 0.004)
  # The base: between 0.5 and 2 times ours.
  base = (0.00125, 0.0025, 0.005)
  assert growth.curves(results) == {
    "dense_n": [
      growth.Point(1, (0.25, 0.5, 1.0), ours, 16),
      growth.Point(2, (1.0, 1.0, 1.0), base, 16),
      growth.Point(4, (1.0, 2.0, 4.0), ours, 16),
    ]
  }
  flags = harness.parser(".")
  flags.add_argument("--plot")
  for path in (tmp_path / "new" / "plot.png", tmp_path / "plot.svg"):
    growth.plot(flags.parse_args(["--plot", str(path)]), results)
    assert path.stat().st_size > 5000
  with Image.open(tmp_path / "new" / "plot.png") as image:
    assert (image.mode, image.size) == ("P", (1350, 600))
  path = tmp_path / "none.png"
  growth.plot(flags.parse_args(["--plot", str(path)]), [])
  assert not path.exists()


def test_growth_covers_experts_and_selected_in_training_steps(harness):
  train_step = importlib.import_module("train_step")
  found = {}
  for row in train_step.rows(small=False):
    if row.name.startswith("grow_"):
      configs = [c.options["overrides"] for c in (row.ours, *row.peers)]
      for config in configs:
        assert config["model.backbone"] == "tf_efficientnet_lite0"
        assert config["data.image_size"] == 224
        assert config["batch_size"] == 16
        assert config["model.compute"] in row.name
      found[row.name] = [(c["model.experts"], c["model.k"]) for c in configs]
  expected = {f"grow_sparse_k{k}": [(8, k), (8, 1)] for k in (2, 4, 8)}
  for how in ("sparse", "dense"):
    expected[f"grow_{how}_n1"] = [(1, 1), (2, 2)]
    for n in (4, 8, 16):
      expected[f"grow_{how}_n{n}"] = [(n, 2), (2, 2)]
  assert found == expected


def test_huge_pages_differ_in_nothing_but_the_pages(harness):
  train_step = importlib.import_module("train_step")
  row = next(r for r in train_step.rows(False) if r.name == "huge_pages")
  (peer,) = row.peers
  assert row.ours.env == {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
  assert peer.env == {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
  assert (row.ours.build, row.ours.options) == (peer.build, peer.options)


def test_gpu_rows_need_one_unless_small(harness, monkeypatch):
  gpu = importlib.import_module("gpu")
  monkeypatch.setattr(
    gpu.subprocess,
    "run",
    lambda command, **_: subprocess.CompletedProcess(
      command, 1, "", "Traceback\nRuntimeError: none found\n"
    ),
  )
  gpu.need_gpu.cache_clear()
  assert all(row.prepare is gpu.need_gpu for row in gpu.rows(small=False))
  with pytest.raises(SystemExit, match=r"jax sees no GPU \(RuntimeError: none"):
    gpu.need_gpu()
  for row in gpu.rows(small=True):
    row.prepare()


def test_forced_convolutions_reach_the_model(harness, monkeypatch):
  import jax

  from mtlmoe_jax.models import convolution, layers
  from ours import training

  def forms(groups, forced):
    monkeypatch.setattr(layers, "conv2d", convolution.conv2d)
    if forced != "auto":
      training._force(forced)
    layer = layers.Conv(4, 3, groups=groups)
    x = jax.numpy.ones((1, 5, 5, 4))
    variables = layer.init(jax.random.key(0), x)
    traced = str(jax.make_jaxpr(layer.apply)(variables, x))
    return "conv_general_dilated" in traced, "dot_general" in traced

  for groups in (1, 4):
    assert forms(groups, "native") == (True, False)
  assert forms(1, "dot") == (False, True)
  assert forms(4, "dot") == (False, False)  # Shifted slices.


@pytest.mark.parity
@pytest.mark.parametrize("side", [0, 4])
def test_the_sparse_peer_computes_the_same(harness, side):
  torch = pytest.importorskip("torch", reason="make parity")
  import numpy as np

  from ours import layers
  from peers import moe
  from shapes import Mixture

  shape = Mixture(12, 4, 2, 8, 16, 8, side=side)
  layer, (params, x, noise), _ = layers._layer(shape, "gather", None, "float32")
  expected, aux, _ = layer(params, x, noise[0])
  weights = {
    name: torch.from_numpy(np.array(value))
    for name, value in params["experts"].items()
  }
  experts = []
  for i in range(shape.experts):
    one = {name: value[i] for name, value in weights.items()}
    if side:
      expert = moe.ConvExpert(shape.width, shape.hidden, shape.out)
      convs = [one[f"w{j}"].permute(3, 2, 0, 1) for j in (1, 2, 3)]
      values = dict(zip(("layers.0", "layers.2", "layers.4"), convs))
      state = {f"{name}.weight": value for name, value in values.items()}
    else:
      expert = moe.mlp_expert(shape.width, shape.hidden, shape.out, "relu")
      state = {
        "0.weight": one["w1"].T,
        "0.bias": one["b1"],
        "2.weight": one["w2"].T,
        "2.bias": one["b2"],
      }
    expert.load_state_dict(state)
    experts.append(expert)
  gate = moe.NoisyTopKGate(shape.width, shape.experts, shape.k)
  images = torch.from_numpy(np.array(x))
  if side:
    images = images.permute(0, 3, 1, 2)
  with torch.no_grad():
    found, losses = moe.SparseMoE(gate, experts)(
      images, torch.from_numpy(noise[0])
    )
  np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(float(losses), aux, rtol=1e-5)


@pytest.mark.parity
def test_the_mmoe_peer_is_the_papers():
  torch = pytest.importorskip("torch", reason="make parity")
  from peers import mmoe

  torch.manual_seed(0)
  model = mmoe.MMoE("efficientnet_lite0", 2, classes=5, grid=2).train()
  norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
  assert norms
  assert not any(norm.training for norm in norms)
  model.eval()
  images = torch.randn(3, 3, 64, 64)
  with torch.no_grad():
    logits, boxes = model(images)
    features = [expert(images) for expert in model.experts]
    weights = [gate(images) for gate in model.gates]
    combined = sum(
      w[:, None, None, None] * f for w, f in zip(weights[0].T, features)
    )
    expected = model.tower_class(combined)
  assert boxes.shape == (3, 4)
  assert (boxes[:, :2] <= boxes[:, 2:]).all()
  assert features[0].shape == (3, 2, 2, 256)
  torch.testing.assert_close(weights[0].sum(1), torch.ones(3))
  torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
