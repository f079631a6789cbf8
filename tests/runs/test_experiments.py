"""Suites: cells that resume, paired statistics, the page."""

import contextlib
import pathlib
import xml.etree.ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax import errors
from mtlmoe_jax.experiments import ablation, cells, collect, comparison, suite
from mtlmoe_jax.metrics import intervals
from mtlmoe_jax.reports.suite import page
from mtlmoe_jax.training import loop, workdir
from mtlmoe_jax.utils import files
from tests.support import tiny
from tests.support.suites import write

BASE = cells.Train(cells.BASE, {}, "base")
ONE = cells.Train(
  "one", {"model.experts": 1, "model.k": "1"}, "a single expert", "experts"
)
SMALL = cells.Reevaluate(
  "batches", {"eval.batch_size": 2}, "small batches", "evaluation"
)


def test_cells_go_seed_by_seed(tmp_path):
  made = cells.make_cells([BASE, ONE], 2, tmp_path)
  assert [(c.variation.name, c.seed) for c in made] == [
    ("base", 0), ("one", 0), ("base", 1), ("one", 1),
  ]  # fmt: skip
  assert made[1].folder == tmp_path / "one" / "seed_0"
  assert len({c.folder for c in made}) == 4
  with pytest.raises(errors.InputError, match="--seeds=0: must be at least 1"):
    cells.make_cells([BASE], 0, tmp_path)


def test_the_base_is_always_chosen():
  chosen = cells.choose([BASE, ONE, SMALL], " batches ")
  assert [v.name for v in chosen] == ["base", "batches"]
  assert cells.choose([BASE, ONE], "") == [BASE, ONE]
  with pytest.raises(errors.InputError, match="unknown variation 'two'; kno"):
    cells.choose([BASE, ONE], "one,two")


def test_what_trains(tmp_path):
  made = cells.make_cells([BASE, ONE, SMALL], 1, tmp_path)
  assert [cell.trains for cell in made] == [True, True, False]
  both = {"eval.step": "best", "model.k": "1"}
  train = cells.Train("x", both, "")
  assert cells.make_cells([train], 1, tmp_path)[0].trains
  with pytest.raises(ValueError, match=r"x: .'model\.k'. must be trained with"):
    cells.Reevaluate("x", both, "")


def test_a_suite_of_before_goes_on(tmp_path):
  """Where each kind of variation has had its results."""
  variations = [
    BASE,
    SMALL,
    cells.Train("then", {}, "", after=cells.BASE),
    cells.Ensemble("two", cells.BASE, 2, ""),
  ]
  made = cells.make_cells(variations, 1, tmp_path)
  for path in (
    "base/seed_0/result.json",
    "base/seed_1000/result.json",
    "batches/seed_0/eval/test/metrics.json",
    "two/seed_0/eval/test/metrics.json",
  ):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("{}")
  missing = [cell.name for cell in made if not cells.is_done(cell)]
  assert len(made) == 5 and missing == ["then, seed 0"]
  needed = tmp_path / "base" / "seed_0"
  assert [cell.needs for cell in made] == [
    (), (needed,), (needed,), (), (needed, tmp_path / "base" / "seed_1000"),
  ]  # fmt: skip


def test_a_cells_config(tmp_path):
  cell = cells.make_cells([BASE, ONE], 2, tmp_path)[3]
  base = tiny.config()
  made = cells.config_of(cell, base)
  assert (made.seed, made.model.experts, made.model.k) == (1, 1, "1")
  assert made.features.cache == str(tmp_path / "features")
  assert base.model.experts == 3
  wrong = cells.Train("wrong", {"model.gate": "nothing"}, "")
  with pytest.raises(errors.InputError, match=r"config.model.gate='nothing'"):
    cells.config_of(cells.make_cells([wrong], 1, tmp_path)[0], base)


@pytest.mark.parametrize("variation", ablation.VARIATIONS, ids=lambda v: v.name)
def test_each_ablation_changes_something_that_exists(variation, tmp_path):
  cell = cells.make_cells([variation], 1, tmp_path)[0]
  base = tiny.config()
  made = cells.config_of(cell, base)
  changed = (
    made.to_dict()
    != cells.config_of(cells.make_cells([BASE], 1, tmp_path)[0], base).to_dict()
  )
  assert changed == bool(variation.overrides)


def test_ablations_have_names_of_their_own():
  names = [v.name for v in ablation.VARIATIONS]
  assert names[0] == cells.BASE
  assert len(set(names)) == len(names)


def naive_interval(differences, level, seed):
  """The same with loops: each resample drawn row by row."""
  s, n = differences.shape
  random = np.random.default_rng(seed)
  rows = random.multinomial(s, np.full(s, 1 / s), intervals.RESAMPLES)
  columns = random.multinomial(n, np.full(n, 1 / n), intervals.RESAMPLES)
  if s > 1:
    rows = 1 + (rows - 1) * (s / (s - 1)) ** 0.5
  found = []
  for row, column in zip(rows, columns):
    total = 0.0
    for i in range(s):
      for j in range(n):
        total += row[i] * column[j] * differences[i, j]
    found.append(total / (s * n))
  ends = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
  return differences.mean(), *ends


def test_crossed_interval_equals_loops(monkeypatch):
  monkeypatch.setattr(intervals, "RESAMPLES", 50)
  values = np.random.default_rng(0).normal(size=(3, 7))
  got = intervals.crossed_interval(values, 0.9, 5)
  np.testing.assert_allclose(got, naive_interval(values, 0.9, 5), rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(
  seeds=st.integers(1, 4),
  images=st.integers(1, 30),
  shift=st.floats(-2, 2),
  seed=st.integers(0, 99),
)
def test_crossed_interval_moves_with_the_values(seeds, images, shift, seed):
  values = np.random.default_rng(seed).normal(size=(seeds, images))
  mean, low, high = intervals.crossed_interval(values)
  assert low <= high
  moved = intervals.crossed_interval(values + shift)
  np.testing.assert_allclose(moved, np.add((mean, low, high), shift), atol=1e-9)
  flipped = intervals.crossed_interval(-values)
  np.testing.assert_allclose(flipped, (-mean, -high, -low), atol=1e-9)


def test_crossed_interval_is_wide_enough():
  """Of 200 experiments without a difference few claim one."""
  random = np.random.default_rng(1)
  claimed = 0
  for _ in range(200):
    of_seed = random.normal(0, 0.3, (3, 1))
    of_image = random.normal(0, 1.0, (1, 40))
    values = of_seed + of_image + random.normal(0, 1.0, (3, 40))
    _, low, high = intervals.crossed_interval(values)
    claimed += low > 0 or high < 0
  assert claimed <= 24  # 10 and, in 99.9 % of tries, no more than 20 at 5 %
  # And a real difference is seen.
  _, low, _ = intervals.crossed_interval(values - values.mean() + 2.0)
  assert low > 0


def test_images_without_a_figure_are_left_out():
  values = np.array([[1.0, np.nan, 3.0], [1.0, 9.0, 3.0]])
  assert intervals.crossed_interval(values)[0] == 2.0
  with pytest.raises(ValueError, match="no image"):
    intervals.crossed_interval(np.full((2, 3), np.nan))


def test_comparison_of_finished_runs(tmp_path):
  made = cells.make_cells([BASE, ONE], 2, tmp_path)
  write(made[0], [1, 0, 1, 1], [0.9, 0.4, 0.6, 0.7], 60)
  write(made[1], [1, 1, 1, 1], [0.9, 0.4, 0.6, 0.7], 20)
  write(made[2], [1, 0, 1, 0], [0.8, 0.4, 0.6, 0.7], 80)
  write(made[3], [1, 1, 1, 1], [0.8, 0.4, 0.6, 0.7], 40)
  findings = collect.compare(made, data="cub", command="python x")
  base, one = findings.rows
  answers = {a.figure: a for a in findings.answers}
  assert {a.one for a in findings.answers} == {"one"}
  assert {a.other for a in findings.answers} == {"base"}
  assert base.figures["top1"].mean == pytest.approx(0.625)
  assert base.figures["top1"].deviation == pytest.approx(0.125 * 2**0.5)
  assert base.figures["acc_iou_50"].mean == 0.75
  assert base.figures["top1_loc"].mean == pytest.approx(0.625)
  assert answers["top1"].difference == pytest.approx(0.375)
  assert answers["miou"].difference == 0
  assert not answers["miou"].is_clear
  assert one.figures["top1_loc"].mean == 0.75
  assert (base.seconds, one.seconds) == (70, 30)
  assert len(one.figures["top1"].per_seed) == 2
  text = page.text(findings, "x")
  assert "| base (`base`) | 62.5 ± 17.7 | 63" in text
  assert " ± 1.8 | 75.0 ± 0.0 |" in text
  assert "| a single expert (`one`) | 100.0 ± 0.0<br>" in text
  assert "+37.5" in text
  assert "| **experts** |" in text
  assert "| 1:10 |" in text
  assert "](x_differences.svg)" in text


def test_comparison_tells_what_is_missing(tmp_path):
  made = cells.make_cells([BASE, ONE], 2, tmp_path)
  with pytest.raises(errors.InputError, match="base has not run with all"):
    collect.compare(made, data="cub", command="c")
  for cell in made[:3]:
    write(cell, [1, 0], [0.5, np.nan])
  # A variation with a seed missing is not half a line.
  findings = collect.compare(made, data="cub", command="c")
  assert [row.name for row in findings.rows] == ["base"]
  write(made[3], [1, 0], [0.5, 0.5], ids=["x", "y"])
  with pytest.raises(errors.InputError, match="is of other images than"):
    collect.compare(made, data="cub", command="c")


def test_a_task_that_is_not_there_has_no_figures(tmp_path):
  made = cells.make_cells([BASE, ONE], 1, tmp_path)
  write(made[0], [1, 0], [0.5, 0.6])
  write(made[1], [1, 1], ["", ""])
  findings = collect.compare(made, data="cub", command="c")
  base, one = findings.rows
  assert set(one.figures) == {"top1"}
  assert set(base.figures) == set(comparison.METRICS)
  text = page.text(findings, "x")
  assert "| 100.0<br>" in text
  assert "| a single expert (`one`) | 100.0<br>+50.0" in text


def trained(config, folder, started):
  """In place of `loop.train`: leaves what a run of a moment leaves."""
  folder = pathlib.Path(folder)
  started.append("/".join(folder.parts[-2:]))
  if len(started) == 3:  # as a SIGTERM does
    return loop.STOPPED
  workdir.prepare(str(folder), config)
  cell = cells.Cell(BASE, config.seed, folder)
  right = [1, 0, config.model.experts == 1]
  write(cell, map(int, right), [0.9, 0.4, 0.6 + config.seed / 10])
  return 0


@pytest.fixture
def small_suite(tmp_path, monkeypatch):
  """A suite of four runs, stopped once."""
  started = []
  monkeypatch.setattr(
    loop, "train", lambda config, folder: trained(config, folder, started)
  )
  options = dict(
    seeds=2,
    only="",
    dry_run=False,
    out=tmp_path / "page.md",
    command="python launch/ablate.py",
  )

  def run(variations=(BASE, ONE), base=None, **changed):
    base = base or tiny.config()
    return suite.run(variations, base, tmp_path, **{**options, **changed})

  return tmp_path, run, started


def test_a_suite_stops_and_goes_on(small_suite):
  root, run, started = small_suite
  assert run() == loop.STOPPED
  assert not (root / "page.md").exists()
  assert run() == 0
  assert run() == 0
  assert started == [
    "base/seed_0", "one/seed_0",
    "base/seed_1", "base/seed_1", "one/seed_1",
  ]  # fmt: skip
  text = (root / "page.md").read_text("utf-8")
  assert "| a single expert (`one`) | 66.7 ± 0.0<br>" in text
  picture = (root / "page_differences.svg").read_bytes()
  assert xml.etree.ElementTree.fromstring(picture).tag.endswith("svg")


def test_processes_take_what_nobody_has(small_suite, monkeypatch, capfd):
  root, run, started = small_suite
  other_process = contextlib.ExitStack()
  lock = root / "base" / ".seed_0.lock"
  assert other_process.enter_context(files.claim(lock))
  waited = []

  def wait(seconds):
    waited.append(list(started))
    other_process.close()  # as when it is killed

  def evaluated(cell, config):
    started.append("/".join(cell.folder.parts[-2:]))
    write(cell, [1, 1, 0], [0.9, 0.4, 0.7])

  monkeypatch.setattr(cells.time, "sleep", wait)
  monkeypatch.setattr(cells, "_evaluate", evaluated)
  flips = cells.Reevaluate("flips", {"eval.views": "flip"}, "flips")
  assert run([BASE, ONE, flips]) == loop.STOPPED
  assert run([BASE, ONE, flips]) == 0
  assert started == [
    "one/seed_0", "base/seed_1", "one/seed_1",
    # Stopped, and started again. Flips of seed 0 have no base yet.
    "one/seed_1", "flips/seed_1",
    "base/seed_0", "flips/seed_0",
  ]  # fmt: skip
  assert [len(w) for w in waited] == [5]
  assert capfd.readouterr().err.count("waiting for the runs of other") == 1
  assert "`flips`" in (root / "page.md").read_text("utf-8")


def test_a_suite_of_the_base_alone_has_no_picture(small_suite):
  root, run, _ = small_suite
  assert run([BASE]) == 0
  text = (root / "page.md").read_text("utf-8")
  assert "| base (`base`) |" in text
  assert "deviation over seeds, per cent.\n" in text
  assert not list(root.glob("page*.svg"))


def test_a_real_run_and_its_evaluation_with_other_options(tmp_path):
  options = {"data.validation_fraction": 0.0, "eval.report": False}
  base = tiny.config(**{"steps": 4, **options})
  made = cells.make_cells([BASE, SMALL], 1, tmp_path)
  assert cells.run(made, base) == 0
  assert sorted(p.name for p in made[1].folder.iterdir()) == ["eval"]
  one, other = map(cells.read_result, made)
  assert other["top1"] == one["top1"]
  assert other["miou"] == pytest.approx(one["miou"], abs=1e-6)
  findings = collect.compare(made, data="synthetic", command="c")
  base, batches = findings.rows
  assert base.seconds > 0
  assert np.isnan(batches.seconds)
  (miou,) = [a for a in findings.answers if a.figure == "miou"]
  assert abs(miou.difference) < 1e-6


def test_a_suite_refuses_another_base(small_suite):
  root, run, _ = small_suite
  assert run([BASE]) == 0
  (root / "base" / "seed_0" / "checkpoints" / "4").mkdir(parents=True)
  other = tiny.config(**{"model.tower_dim": 8})
  with pytest.raises(
    errors.InputError, match=r"model\.tower_dim .there 16, no"
  ):
    run([BASE], other)


def test_dry_run_lists(small_suite, capsys):
  _, run, started = small_suite
  assert run([BASE]) == 0
  more = [BASE, cells.Train("k1", {"model.k": "1"}, "k 1")]
  assert run(more, dry_run=True) == 0
  assert len(started) == 2
  told = capsys.readouterr().out.splitlines()
  assert told[0].split() == ["done", "base,", "seed", "0"]
  assert told[1].split() == ["missing", "k1,", "seed", "0", "model.k=1"]


def test_the_script(tmp_path):
  run = tiny.quick_launch(
    "ablate.py",
    "--config=tests/support/tiny.py",
    f"--workdir={tmp_path}",
    "--only=one_expert",
    "--dry_run",
  )
  assert run.returncode == 0, run.stderr
  assert len(run.stdout.splitlines()) == 6
  run = tiny.quick_launch("ablate.py", "--config=tests/support/tiny.py")
  assert run.returncode == 2
  assert "--workdir is missing" in run.stderr
