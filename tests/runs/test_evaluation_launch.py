"""The scripts: help for a newcomer, one line for a mistake."""

import pytest

from tests.support import tiny


def launch(script, *arguments):
  return tiny.quick_launch(f"{script}.py", *arguments)


@pytest.mark.parametrize(
  ("script", "words"),
  [
    (
      "evaluate",
      (
        "--workdir",
        "--data.path",
        "--split",
        "--step",
        "--views",
        "calibrate",
        "report.html",
      ),
    ),
    ("ensemble", ("--out", "--split", "--step", "--views", "runs/best")),
    (
      "predict",
      ("--workdir", "--out", "IMAGE", "overlay", "--views", "exit code is 2"),
    ),
  ],
)
def test_help(script, words):
  text = launch(script, "--help").stdout
  for word in words:
    assert word in text


def test_a_mistake_is_one_line_and_code_2():
  done = launch("predict", "--workdir=/nowhere/x", "--out=/nowhere/y", "a.png")
  assert done.returncode == 2
  assert "/nowhere/x" in done.stderr
  assert len(done.stderr.strip().splitlines()) == 1
  assert not done.stdout


@pytest.mark.parametrize("runs", [[], ["/nowhere/x"]])
def test_an_ensemble_of_fewer_than_two_is_one_line(tmp_path, runs):
  done = launch("ensemble", f"--out={tmp_path / 'out'}", *runs)
  assert done.returncode == 2
  assert "two or more" in done.stderr
  assert len(done.stderr.strip().splitlines()) == 1
  assert not (tmp_path / "out").exists()
