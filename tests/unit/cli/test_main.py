"""The command `mtlmoe`: its verbs, its own help, mistyped verbs."""

import ast
import os
import subprocess
import sys

import pytest

from mtlmoe_jax import version
from mtlmoe_jax.cli import export, main, predict, prepare_cub, verify
from mtlmoe_jax.data import prepare
from mtlmoe_jax.pretrained import export as export_lib
from tests.support import tiny

LAUNCH = tiny.ROOT / "launch"
# Runs a verb and says on the last line whether JAX was imported.
WATCHED = """\
import atexit, sys
atexit.register(lambda: print("jax" in sys.modules, flush=True))
from mtlmoe_jax.cli import main
sys.exit(main.main())
"""


def watched(*arguments):
  """(exit code, output, errors, whether JAX was imported) of a command."""
  done = subprocess.run(
    [sys.executable, "-c", WATCHED, *arguments],
    env={**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"},
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  *output, jax = done.stdout.splitlines()
  return done.returncode, output, done.stderr, jax == "True"


def test_a_verb_is_a_launch_script_and_a_module():
  assert {p.stem for p in LAUNCH.glob("*.py")} == set(main.VERBS)


@pytest.mark.parametrize("verb", main.VERBS)
def test_a_launch_script_is_two_lines(verb):
  tree = ast.parse((LAUNCH / f"{verb}.py").read_text("utf-8"))
  _, imported, guard = tree.body
  assert ast.unparse(imported) == "from mtlmoe_jax.cli import start"
  assert ast.unparse(guard).endswith(f"    start.run('{verb}')")


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_has_a_line_for_each_verb(words, capsys):
  assert main.main(words) == 0
  lines = capsys.readouterr().out.splitlines()
  for verb in main.VERBS:
    (line,) = [x for x in lines if x.split()[:1] == [verb]]
    assert line.endswith(".") and len(line) <= 100


def test_version(capsys):
  assert main.main(["--version"]) == 0
  assert capsys.readouterr().out == f"mtlmoe_jax {version.__version__}\n"


@pytest.mark.parametrize(
  ("word", "near"),
  [
    ("trian", "did you mean train?"),
    ("check-dat", "did you mean check_data?"),
    ("xyz", "mtlmoe --help lists all"),
  ],
)
def test_a_mistyped_verb_is_one_line(word, near, capsys):
  assert main.main([word]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line == f"error: mtlmoe {word}: there is no such verb; {near}"


@pytest.mark.parametrize("verb", main.VERBS)
def test_help_of_a_verb_does_not_wait_for_jax(verb):
  code, output, _, jax = watched(verb.replace("_", "-"), "--help")
  assert code == 0 and not jax
  assert output[0] == main.summary(verb)
  assert any(f"mtlmoe {verb}" in line for line in output)
  assert any(line.startswith("  --") for line in output)


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["train"], "--workdir is missing"),
    (["evaluate"], "--workdir is missing"),
    (["predict"], "--workdir is missing"),
    (["check", "a", "b"], "unexpected argument 'b'"),
    (["evaluate", "a", "b"], "unexpected argument 'b'"),
    (["train", "a", "b"], "unexpected argument 'b'"),
    (["train", "--config=demo", "a"], "reads none; leave one"),
    (["train", "a", "--config.data.path=b"], "name one folder"),
    (["export", "--workdir=x", "--out=a.txt"], "must end with .safetensors"),
    (["train", "--workdir=x", "--config=nothing.py"], "nothing.py"),
    (["train", "--workdir=x", "--config=demo:expertz=3"], "expertz"),
  ],
)
def test_mistakes_among_flags_do_not_wait_for_jax(words, message):
  code, output, stderr, jax = watched(*words)
  assert code == 2 and not jax and not output
  (line,) = stderr.splitlines()
  assert line.startswith("error: ") and message in line


def test_values_of_flags_are_those_of_the_rooms():
  assert export.NAMES == export_lib.NAMES
  assert prepare_cub.EXPECTS == prepare.EXPECTS


def test_ctrl_c_before_a_verb_has_begun_is_a_line(monkeypatch, capsys):
  from mtlmoe_jax.cli import start

  def interrupted(*_, **__):
    raise KeyboardInterrupt

  monkeypatch.setattr(start, "run", interrupted)
  assert main.main(["predict"]) == 130
  assert capsys.readouterr().err == "error: interrupted\n"


def test_only_a_file_that_tells_why_is_said_to():
  coco = ("predictions.coco.json", "predictions.coco_images.json")
  studio = ("predictions.label_studio.json", "predictions.label_studio.xml")
  assert predict._where_told(coco + studio) == ""
  assert predict._where_told((*coco, "a.csv")) == "; why is told in a.csv"


def test_a_folder_of_predictions_is_verified(tmp_path, monkeypatch):
  from mtlmoe_jax.predicting import verify as verify_lib

  class Asked(Exception):
    pass

  def asked(path):
    raise Asked(path)

  monkeypatch.setattr(verify_lib, "read_passport", asked)
  with pytest.raises(Asked, match=r"predictions\.jsonl"):
    verify.main(["verify", str(tmp_path)])
