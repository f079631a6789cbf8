"""Every command in a text parses: script, flags, config, options.

Nothing is run: what a command does is tested where it is done.
"""

import importlib
import os
import sys

import ml_collections
import pytest
from absl import flags

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.cli import config_files, start
from tests.support import commands, tiny

DOCUMENTED = commands.documented()


def parse(monkeypatch, command):
  """The words of a command that are no flags; its config is checked."""
  module = importlib.import_module(f"mtlmoe_jax.cli.{command.verb}")
  argv = [command.verb, *start.expanded(module, command.arguments)]
  monkeypatch.chdir(tiny.ROOT)
  monkeypatch.setattr(sys, "argv", argv)
  assert commands.script(command.verb).exists()
  with commands.flags_of(command.verb) as values:
    _, *words = start.parse(argv)
    for flag in values._flags().values():
      config = flag.value
      if isinstance(config, ml_collections.ConfigDict):
        if config.data.name != "synthetic" and not config.data.path:
          config.data.path = "DATA"
        config_lib.check_config(config)
  return words


@pytest.mark.parametrize("command", DOCUMENTED, ids=str)
def test_parses(monkeypatch, command):
  before = sorted(flags.FLAGS)
  words = parse(monkeypatch, command)
  assert not any(word.startswith("--") for word in words)
  assert sorted(flags.FLAGS) == before


def test_each_script_is_documented():
  scripts = {path.stem for path in (tiny.ROOT / "launch").glob("*.py")}
  assert scripts == {command.verb for command in DOCUMENTED}
  assert len(DOCUMENTED) > 40


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("train.py --config=configs/demo.py --wrkdir=x", "wrkdir"),
    (
      "train.py --config=configs/demo.py --config.transfer.from=x",
      "source now",
    ),
    ("train.py --config=configs/demo.py:experts=many", "not of type int"),
    ("train.py --config=configs/demo.py \\\n  --config.model.kk=2", "model.k"),
    ("evaluate.py --workdir=x --config=y", "config"),
  ],
)
def test_a_wrong_command_would_be_seen(monkeypatch, capsys, text, message):
  (command,) = commands.in_text("a.md", f"Try `python launch/{text}`.")
  with pytest.raises(SystemExit):
    parse(monkeypatch, command)
  assert message in capsys.readouterr().err


def test_what_is_no_part_of_a_command():
  text = (
    "for i in 0 1; do python launch/train.py --process=$i & done\n"
    "for i in 0 1; do mtlmoe train --process=$i & done\n"
    "    python launch/predict.py --out=o a.jpg  # a picture\n"
    "mtlmoe weights > docs/weights.md\nthe mtlmoe command is new\n"
  )
  assert [(c.verb, c.arguments) for c in commands.in_text("x", text)] == [
    ("train", ("--process=0",)),
    ("train", ("--process=0",)),
    ("predict", ("--out=o", "a.jpg")),
    ("weights", ()),
  ]


def test_configs_that_commands_name_are_there(monkeypatch):
  monkeypatch.chdir(tiny.ROOT)
  for command in DOCUMENTED:
    for word in command.arguments:
      if word.startswith("--config="):
        path = config_files.locate(word.removeprefix("--config="))
        assert os.path.isfile(path.split(":")[0]), command
