"""The scripts as a user meets them: help, and one clear line per mistake."""

import pathlib

import pytest

from mtlmoe_jax.cli import main
from tests.support import tiny

SCRIPTS = sorted(p.name for p in (tiny.ROOT / "launch").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script):
  # One of them as a process of its own.
  launch = tiny.launch if script == "train.py" else tiny.quick_launch
  got = launch(script, "--help")
  said = got.stdout + got.stderr
  assert "python launch/" + script in said
  assert "Traceback" not in said


@pytest.mark.parametrize(
  ("arguments", "named"),
  [
    ([], "--workdir is missing"),
    (["--workdir=x"], "--config is missing"),
    (["--workdir=x", "--config=configs/nothing.py"], "configs/nothing.py"),
    (
      ["--workdir=x", "--config=configs/demo.py:expertz=3"],
      "expertz",
    ),
    (
      ["--workdir=x", "--config=configs/demo.py", "--config.model.expertz=3"],
      "expertz",
    ),
    (
      [
        "--workdir=x",
        "--config=configs/demo.py",
        "--config.model.experts=many",
      ],
      "many",
    ),
    (
      ["--workdir=x", "--config=configs/demo.py", "--config.model.gate=hash"],
      "config.model.gate='hash'",
    ),
    (
      [
        "--workdir=x",
        "--config=configs/demo.py",
        "--config.data.name=cub",
        "--config.data.path=/no/where",
      ],
      "/no/where",
    ),
    (
      ["--workdir=/proc/none", "--config=configs/demo.py"],
      "/proc/none",
    ),
    (["--workdir=x", "--config=configs/demo.py", "oops"], "oops"),
    (["--workdir=x", "--confi=y"], "confi"),
  ],
)
def test_train_says_one_line_and_exits_2(arguments, named, tmp_path):
  arguments = [
    a.replace("--workdir=x", f"--workdir={tmp_path / 'run'}") for a in arguments
  ]
  launch = tiny.quick_launch if arguments else tiny.launch
  got = launch("train.py", *arguments)
  assert got.returncode == 2, got.stderr
  assert "Traceback" not in got.stderr
  (line,) = [x for x in got.stderr.splitlines() if x.startswith("error: ")]
  assert named in line
  assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_page_of_commands_names_every_script():
  page = (tiny.ROOT / "docs" / "cli.md").read_text()
  for script in SCRIPTS:
    assert f"launch/{script}" in page
  for verb in main.VERBS:
    assert f"| {main.summary(verb).rstrip('.')} |" in page


def test_verbs_are_thin():
  for script in SCRIPTS:
    path = tiny.ROOT / "mtlmoe_jax" / "cli" / script
    assert len(path.read_text().splitlines()) < 130, script
  assert pathlib.Path(tiny.ROOT / "configs" / "demo.py").exists()
