"""The poster's suites: which runs they are, what they tell, kill and resume."""

import dataclasses
import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.experiments import (
  cells,
  claims,
  collect,
  costs,
  reproduce,
  reproduction,
)
from mtlmoe_jax.metrics import intervals
from mtlmoe_jax.reports.suite import poster
from mtlmoe_jax.reports.suite.findings import Curve, VariationResult
from mtlmoe_jax.utils import files
from tests.support import tiny
from tests.support.models import native_convolutions
from tests.support.suites import write

CUB = "CUB_200_2011"


@pytest.fixture(scope="module", autouse=True)
def counted_once():
  """A model's parameters are counted once, however many suites ask."""
  count, known = models.count_parameters, {}

  def remembered(config, classes):
    key = config.to_json_best_effort(), classes
    if key not in known:
      with native_convolutions():
        known[key] = count(config, classes)
    return known[key]

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(models, "count_parameters", remembered)
    yield


def suite(name, data="synthetic", preset="cpu", gates="pixels"):
  """(base, variations) of a suite."""
  path = "" if data == "synthetic" else CUB
  base = reproduction.base_config(data, preset, path, "", gates)
  return base, reproduction.variations(name, data, preset, base, "crops")


@pytest.mark.parametrize(
  ("preset", "gates"),
  [("paper", "pixels"), ("cpu", "pixels"), ("cpu", "informed")],
)
@pytest.mark.parametrize("data", reproduction.DATA)
def test_each_cell_is_a_run_that_differs(data, preset, gates, tmp_path):
  base, found = suite("all", data, preset, gates)
  names = [v.name for v in found]
  assert len(set(names)) == len(names)
  made = cells.make_cells(found, 1, tmp_path)
  configs = {
    c.variation.name: cells.config_of(c, base).to_json_best_effort()
    for c in made
    if c.trains and not c.extra
  }
  assert len(set(configs.values())) == len(configs)
  for cell in made:
    if cell.trains:
      config_lib.check_config(cells.config_of(cell, base))
  for name in poster.REPORTED:
    assert name in names
  # What a run builds on comes before it.
  place = {c.folder: i for i, c in enumerate(made)}
  for i, cell in enumerate(made):
    assert all(place[folder] < i for folder in cell.needs)


def test_all_questions_are_of_variations_that_exist():
  attempts = set()
  for data in reproduction.DATA:
    _, found = suite("all", data, gates="informed")
    names = {v.name for v in found}
    for claim in claims.claim_specs(data):
      for question in (*claim.questions, *claim.controls):
        assert {question.one, question.other} <= names, question
    _, before = suite("all", data)
    theirs = {v.name for v in before}
    for claim in claims.claim_specs(data):
      for question in claim.questions:
        assert {question.one, question.other} <= theirs, question
    attempts |= (names | theirs) & set(claims.ATTEMPTS)
  assert attempts == set(claims.ATTEMPTS)


def test_informed_gates_are_as_the_experts_can_have_them():
  base, found = suite("all", gates="informed")
  model = base.model
  assert (model.gate_input, model.tower_sees_gate) == ("stem", 6)
  assert model.upcycle_epochs == base.epochs / 4
  by_name = {v.name: v.overrides for v in found if isinstance(v, cells.Train)}
  for name, told, copied in (
    ("single", 0, 0),
    ("single_told", 6, 0),
    ("mtl_1", 0, 0),
    ("mtl_1_told", 6, 0),
    ("mtl_3", 3, 2),
    ("mtl_6", 6, 2),
    ("uniform", 6, 0),
    ("random", 6, 2),
    ("transfer_base", 6, 1.25),
    ("transfer_unfrozen", 6, 0),
    ("moe_pixels", 0, 0),
    ("pixels", 0, 0),
    ("matched", 0, 0),
  ):
    changes = by_name[name]
    assert changes.get("model.tower_sees_gate", 6) == told, name
    assert changes.get("model.upcycle_epochs", 2) == copied, name


def test_a_suite_is_a_part_of_all():
  _, every = suite("all")
  for name in reproduction.SUITES:
    _, some = suite(name)
    assert some
    assert {v.name for v in some} <= {v.name for v in every}


def test_experiments_of_the_whole_data_set_have_the_posters_classes():
  base, found = suite("all", "cub", "paper")
  assert base.data.classes == "last:10"
  assert base.data.split_scheme == "poster"
  by_name = {v.name: v for v in found}
  assert by_name["mtl_6"].overrides["data.classes"] == "all"
  assert by_name["one_tower"].overrides["model.tasks"] == "class"
  assert by_name["transfer_base"].overrides["data.classes"] == "except_last:10"
  assert by_name["mtl_6_half_batch"].overrides["batch_size"] == 8
  assert base.batch_size == 16


def test_the_single_expert_has_as_many_parameters():
  for data, preset in (("synthetic", "cpu"), ("cub", "paper")):
    base, found = suite("exp1", data, preset)
    one = base.copy_and_resolve_references()
    matched = next(v for v in found if v.name == "matched")
    for key, value in matched.overrides.items():
      config_lib.set_path(one, key, value)
    six, _ = models.count_parameters(base, 10)
    alone, _ = models.count_parameters(one, 10)
    assert alone == pytest.approx(six, rel=0.01)


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (("cub11", "cpu", CUB), "--data='cub11': must be one of cub, cub10"),
    (("cub", "gpu", CUB), "--preset='gpu': must be one of paper, cpu"),
    (("cub10", "cpu", ""), "--data.path is missing: --data=cub10 needs"),
    (("cub", "paper", CUB, "", "informed"), "--gates='informed': must be one"),
  ],
)
def test_a_wrong_base_is_refused(arguments, said):
  with pytest.raises(errors.InputError, match=said):
    reproduction.base_config(*arguments)


def test_each_backbone_starts_from_its_own_weights():
  weights = "hf:timm/{backbone}.in1k"
  base = reproduction.base_config("cub", "paper", CUB, weights)
  assert base.model.pretrained == "hf:timm/tf_efficientnet_b1.in1k"
  found = reproduction.variations("exp1", "cub", "paper", base, "", weights)
  matched = next(v for v in found if v.name == "matched")
  assert matched.overrides["model.pretrained"] == (
    "hf:timm/tf_efficientnet_b6.in1k"
  )


def test_a_wrong_suite_is_refused():
  base = reproduction.base_config("cub10", "cpu", CUB)
  with pytest.raises(errors.InputError, match="--suite='exp3': must be one of"):
    reproduction.variations("exp3", "cub10", "cpu", base)
  with pytest.raises(errors.InputError, match="--base_path is missing"):
    reproduction.variations("all", "cub10", "cpu", base)
  assert reproduction.variations("exp1", "cub10", "cpu", base)


def test_members_of_an_ensemble_have_seeds_of_their_own(tmp_path):
  single = cells.Train("single", {"model.k": "1"}, "")
  three = cells.Ensemble("three", "single", 3, "")
  made = cells.make_cells([single, three], 2, tmp_path)
  assert [(c.variation.name, c.seed, c.extra) for c in made] == [
    ("single", 0, False), ("single", 1000, True), ("single", 2000, True),
    ("three", 0, False),
    ("single", 1, False), ("single", 1001, True), ("single", 2001, True),
    ("three", 1, False),
  ]  # fmt: skip
  assert not made[3].trains and made[3].variation is three
  assert [f.parent.name for f in made[3].needs] == ["single"] * 3
  assert [f.name for f in made[3].needs] == [
    "seed_0", "seed_1000", "seed_2000",
  ]  # fmt: skip


def test_a_run_starts_from_another_of_its_seed(tmp_path):
  first = cells.Train("first", {"model.k": "1"}, "")
  then = cells.Train("then", {}, "", after="first")
  made = cells.make_cells([first, then], 2, tmp_path)
  config = cells.config_of(made[3], tiny.config())
  assert config.transfer.source == str(tmp_path / "first" / "seed_1")
  assert config.transfer.step == "latest"
  assert cells.config_of(made[2], tiny.config()).transfer.source == ""


def test_tasks_wait_for_what_they_build_on(tmp_path, monkeypatch):
  done, order = set(), []

  def task(name, needs=()):
    def run():
      order.append(name)
      done.add(name)
      return 0

    return cells.Task(
      name,
      tmp_path / f".{name}.lock",
      lambda: name in done,
      lambda: set(needs) <= done,
      run,
    )

  tasks = [task("c", ["b"]), task("b", ["a"]), task("a")]
  assert cells.share(tasks) == 0
  assert order == ["a", "b", "c"]
  stopped = dataclasses.replace(
    task("d"), run=lambda: 143, is_done=lambda: False
  )
  assert cells.share([stopped]) == 143


def test_verdicts():
  assert claims.verdict(0.001, 0.2) == claims.CONFIRMED
  assert claims.verdict(-0.2, -0.001) == claims.REFUTED
  # What gain there may be is not worth having.
  assert claims.verdict(-0.02, claims.MARGIN / 2) == claims.REFUTED
  assert claims.verdict(-0.02, 0.02) == claims.OPEN
  assert claims.verdict(-np.inf, np.inf) == claims.OPEN


def row(name, curve=None):
  curves = {} if curve is None else {"top1": curve}
  nan = float("nan")
  return VariationResult(
    name, name, "", {}, {}, {}, {}, nan, nan, nan, nan, curves
  )


def test_answers_are_paired():
  rows = {n: row(n) for n in ("one", "other")}
  one = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], float)
  other = np.array([[0, 1, 0, 1], [0, 1, 0, 0]], float)
  values = {"one": {"top1": one}, "other": {"top1": other}}
  got = claims.answer(claims.Question("?", "one", "other"), rows, values)
  assert got.difference == pytest.approx(0.25)
  assert got.counts == ((2, 1), (1, 0))
  assert got.p_values == (1.0, 1.0)
  assert (got.low, got.high) == intervals.crossed_interval(one - other)[1:]
  assert (
    claims.answer(claims.Question("?", "one", "third"), rows, values) is None
  )
  missing = {"one": {"miou": one}, "other": {"miou": other * np.nan}}
  question = claims.Question("?", "one", "other", "miou")
  assert claims.answer(question, rows, missing) is None


def test_transfer_is_told_in_epochs():
  epochs = np.array([1.0, 2.0, 3.0, 4.0])
  quick = Curve(epochs, epochs, np.array([[0.8, 0.9, 0.9, 0.9]] * 2))
  slow = Curve(
    epochs, epochs, np.array([[0.1, 0.5, 0.9, 0.9], [0.1, 0.2, 0.3, 0.9]])
  )
  rows = {
    "transfer_unfrozen": row("transfer_unfrozen", quick),
    "moe": row("moe", slow),
  }
  question = claims.claim_specs("synthetic")[1].questions[0]
  got = claims.answer(question, rows, {})
  # The goal is 95 % of .9, .855: reached at 1.55, and at 2.8875 and 3.925.
  assert got.unit == "epochs"
  expected = intervals.student_interval(np.array([2.8875, 3.925]) - 1.55)
  np.testing.assert_allclose((got.difference, got.low, got.high), expected)
  # A goal that is never reached counts as reached at the end.
  assert claims.reached(epochs, slow.values[1], 2.0) == 4.0
  assert claims.reached(epochs, quick.values[0], 0.5) == 1.0


def judged(low, high):
  """Claim 1 with values whose answer has such an interval, roughly."""
  rows = {n: row(n) for n in ("moe", "single")}
  n = 4000
  other = np.zeros((3, n))
  one = np.zeros((3, n))
  share = (low + high) / 2
  one[:, : int(abs(share) * n)] = np.sign(share)
  values = {"moe": {"top1": one}, "single": {"top1": other}}
  return claims.judge(claims.claim_specs("synthetic")[0], rows, values)


def test_a_claim_is_as_good_as_its_questions():
  assert judged(0.09, 0.11).verdict == claims.CONFIRMED
  assert judged(-0.11, -0.09).verdict == claims.REFUTED
  assert "+10.0 points" in judged(0.09, 0.11).reason
  assert claims.judge(claims.claim_specs("synthetic")[3], {}, {}) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_sum_of_what_is_as_rare(one, other):
  from math import comb

  n = one + other
  weights = [comb(n, k) for k in range(n + 1)]
  rare = sum(w for w in weights if w <= weights[one])
  assert intervals.mcnemar(one, other) == pytest.approx(rare / 2**n)
  assert intervals.mcnemar(one, other) == intervals.mcnemar(other, one)


def test_students_interval():
  # t(0.975, 2) = 4.302653; mean 2, deviation 1.
  mean, low, high = intervals.student_interval(np.array([1.0, 2.0, 3.0]))
  assert mean == 2
  assert high - mean == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
  assert mean - low == pytest.approx(high - mean)
  assert intervals.student_interval(np.array([5.0])) == (5, -np.inf, np.inf)
  assert intervals.student_interval(np.array([5.0, 5.0])) == (5, 5, 5)


def logged(cell, test, validation):
  """The curves of a finished run."""
  lines = []
  for i, (t, v) in enumerate(zip(test, validation)):
    both = dict(step=i + 1, epoch=i + 1, seconds=i, train_seconds=2.0 * i)
    lines.append({**both, "split": "test", "top1": t})
    lines.append({**both, "split": "validation", "top1": v, "score": v})
  text = "".join(json.dumps(line) + "\n" for line in lines)
  files.write_text(cell.folder / "metrics.jsonl", text)
  files.write_json(
    cell.folder / "result.json",
    {
      "wall_seconds": 60.0,
      "parameters": 10,
      "parameters_active": 5,
      "device": "1 x cpu",
      "commit": "",
    },
  )


def test_a_row_has_the_last_and_the_best_epochs(tmp_path):
  variation = cells.Train("moe", {}, "six experts", "group")
  made = cells.make_cells([variation], 2, tmp_path)
  for cell, test in zip(made, ([0.2, 0.9, 0.5], [0.4, 0.3, 0.75])):
    write(cell, [1, 0, 1, 1 - cell.seed], [0.9, 0.2, 0.6, 0.7])
    logged(cell, test, [0.5, 0.1, 0.5])
  found = collect.collect(
    made,
    tiny.config(),
    suite="exp1",
    data="synthetic",
    preset="cpu",
    command="x",
  )
  (line,) = found.rows
  assert line.figures["top1"].mean == pytest.approx(0.625)
  assert line.figures["top1"].per_seed == (0.75, 0.5)
  assert line.best_on_validation == {"top1": pytest.approx(0.625)}
  assert line.best_on_test == {"top1": pytest.approx(0.825)}
  assert line.curves["top1"].values.tolist() == [
    [0.2, 0.9, 0.5], [0.4, 0.3, 0.75],
  ]  # fmt: skip
  assert line.curves["top1"].seconds.tolist() == [0, 2, 4]
  assert line.seconds == 60
  assert line.flops > 0
  low, high = line.wilson["top1"]
  assert low < 0.75 < high
  assert found.claims == ()
  assert any("2 seeds, 4 test images of 2 classes" in f for f in found.facts)


def test_costs_grow_with_the_experts_an_image_meets():
  config = tiny.config()
  flops = {}
  for k in (1, 2, 3):
    config.model.k = str(k)
    flops[k] = costs.forward_flops(config, 3)
  # Two gates: k = 1 meets up to two experts, k = 2 and 3 all three.
  assert flops[1] < flops[2] == flops[3]
  config.model.tasks, config.model.k = "class", "1"
  one = costs.forward_flops(config, 3)
  config.model.k = "2"
  assert one < costs.forward_flops(config, 3)
  assert models.active_experts(config) == 2
  config.model.gate = "uniform"
  assert models.active_experts(config) == 3


def test_a_list_tells_what_runs_cost(tmp_path, capsys):
  base = tiny.config()
  found = [v for v in suite("exp1")[1] if v.name in ("moe", "ensemble")]
  found = [
    cells.Train("single", {"model.experts": 1, "model.k": "1"}, ""),
    *found,
  ]
  made = cells.make_cells(found, 1, tmp_path)
  options = reproduce.Options("exp1", "synthetic", "cpu", 1)
  assert reproduce.run_cells(made, base, options, "", dry_run=True) == 0
  said = capsys.readouterr().out.splitlines()
  assert len(said) == 9
  assert "6 x single together" in said[7]
  assert said[8].startswith("8 of 8 cells missing: about ")
  seconds = reproduce.expected_seconds(made, base)
  assert set(seconds) == {"single", "moe"}
  assert 0 < seconds["single"] < seconds["moe"]


def test_the_command_names_no_paths():
  options = reproduce.Options("all", "cub10", "cpu", 3, "/a/b", "/c/d")
  said = reproduce.command(options)
  assert "--suite=all --data=cub10 --preset=cpu --seeds=3" in said
  assert "/a" not in said
  assert "--base_path=CROPS" in said


def test_the_script(tmp_path):
  flags = ["--suite=exp1", "--data=synthetic", f"--workdir={tmp_path}"]
  run = tiny.quick_launch("reproduce.py", *flags, "--seeds=0", "--dry_run")
  assert run.returncode == 2
  assert "--seeds=0: must be at least 1" in run.stderr
  run = tiny.quick_launch("reproduce.py", *flags[1:])
  assert run.returncode == 2
  assert "--suite is missing" in run.stderr


# A suite of moments: what is killed below.
PROGRAM = """
import sys
from mtlmoe_jax.experiments import cells, reproduce
from tests.support import tiny

base = tiny.config(**{"eval.watch_test": True, "eval.step": "latest"})
base.data.synthetic.classes = 4
base.data.classes = "last:2"
base.eval.report = False
base.checkpoint.every_steps = 3
base.model.tasks = "class"
V = cells.Train
variations = [
  V("single", {"model.experts": 1, "model.k": "1"}, "single"),
  V("moe", {}, "moe"),
  cells.Ensemble("together", "single", 2, "together"),
  V("transfer_base", {"data.classes": "first:2"}, "base"),
  V("transfer_unfrozen", {}, "unfrozen", after="transfer_base"),
]
made = cells.make_cells(variations, 1, sys.argv[1])
options = reproduce.Options("all", "synthetic", "cpu", 1)
sys.exit(reproduce.run_cells(made, base, options, sys.argv[1] + "/page.md"))
"""


def start(folder):
  return subprocess.Popen(
    [sys.executable, "-c", PROGRAM, str(folder)],
    env=tiny.environment(PYTHONPATH=str(tiny.ROOT)),
    cwd=tiny.ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


def told(folder):
  """All numbers of a page but those of time."""
  found = json.loads((pathlib.Path(folder) / "page.json").read_text("utf-8"))
  for line in found["rows"]:
    line.pop("seconds")
    for curve in line["curves"].values():
      curve.pop("seconds")
  found.pop("facts")
  return found


@pytest.mark.slow
def test_killed_twice_the_tables_are_the_same(tmp_path):
  whole = start(tmp_path / "whole")
  assert whole.wait(1200) == 0, whole.stderr.read()
  # Not hash(): it differs from process to process.
  chance = random.Random(6)
  folder = tmp_path / "killed"
  for done in (chance.randint(0, 2), chance.randint(3, 4)):
    killed = start(folder)
    while len(list(folder.glob("*/*/result.json"))) < done:
      assert killed.poll() is None, killed.stderr.read()
      time.sleep(0.05)
    time.sleep(chance.uniform(0, 3))
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
  assert not (folder / "page.json").exists()
  last = start(folder)
  assert last.wait(1200) == 0, last.stderr.read()
  assert told(folder) == told(tmp_path / "whole")
