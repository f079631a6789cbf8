"""`benchmarks/start.py`: processes, their turns and ratios."""

import pathlib

import pytest

from tests.support import tiny


@pytest.fixture
def start(monkeypatch):
  monkeypatch.syspath_prepend(tiny.ROOT / "benchmarks")
  import start

  return start


def script(code, text):
  (code / "launch").mkdir(parents=True)
  (code / "launch" / "predict.py").write_text(text)
  return code


def contestants(start, tmp_path, text):
  code = script(tmp_path / "code", text)
  run = tmp_path / "given"
  (run / "exported").mkdir(parents=True)
  (run / "config.json").write_text("{}")
  return start.contestants(code, run, tmp_path / "work")


def test_each_has_a_run_of_its_own_without_what_was_exported(start, tmp_path):
  found = contestants(start, tmp_path, "")
  assert [one.name for one in found] == [
    *("before", "checkpoint", "untraced", "exported"),
  ]
  for one in found:
    assert [p.name for p in (one.folder / "run").iterdir()] == ["config.json"]


def test_a_start_is_timed_and_forgets(start, tmp_path):
  text = "import os, sys; open('seen', 'a').write(os.environ['PYTHONPATH'])"
  one = contestants(start, tmp_path, text)[0]
  one = start.dataclasses.replace(one, forgets=("run/exported",))
  (one.folder / "run" / "exported").mkdir()
  spent = one.predict(tmp_path)
  assert spent.cpu > 0 and spent.wall > 0 and spent.memory > 1
  assert not (one.folder / "run" / "exported").exists()
  seen = (one.folder / "seen").read_text()
  assert seen.startswith(str(one.code)) and str(start.ROOT) not in seen


def test_a_start_that_fails_is_told(start, tmp_path):
  one = contestants(start, tmp_path, "import sys; sys.exit('no such thing')")[0]
  with pytest.raises(SystemExit, match="before ended with 1:\nno such thing"):
    one.predict(tmp_path)


def test_the_order_turns_and_ratios_are_of_one_round(start, tmp_path):
  found = contestants(start, tmp_path, "")[:2]
  order = []

  def measure(one):
    order.append(one.name)
    before = one.name == "before"
    factor = len(order)
    return start.Spent(4.0 * factor if before else 1.0 * factor, 2.0, 100.0)

  spent = start.rounds_of(found, 2, measure)
  assert order == ["before", "checkpoint", "checkpoint", "before"]
  text = start.table(spent)
  assert "| before | 10.00 | 2.00 | 100 | 1.00 (1.00 ... 1.00)" in text
  # 2 / 4 and 3 / 16.
  assert "| checkpoint | 2.50 | 2.00 | 100 | 0.34 (" in text


def test_the_other_build_is_a_commit_or_a_folder(start, tmp_path):
  assert start.code_of(str(tiny.ROOT), tmp_path) == tiny.ROOT
  if not (tiny.ROOT / ".git").exists():
    pytest.skip("not a checkout")
  with pytest.raises(SystemExit, match="--before=no-such-commit"):
    start.code_of("no-such-commit", tmp_path)
  assert isinstance(start.ROOT, pathlib.Path)
