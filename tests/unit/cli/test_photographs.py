"""A folder that is named alone: what it stands for."""

import json

import pytest
from absl import flags

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.cli import config_files, main, photographs, start
from mtlmoe_jax.cli import flags as cli_flags
from tests.support import commands


@pytest.mark.parametrize(
  ("words", "first"),
  [
    (["PHOTOS"], True),
    (["--workdir=x", "PHOTOS", "--config.seed=1"], True),
    (["--workdir", "x", "PHOTOS"], True),
    (["PHOTOS", "--config.seed", "1"], True),
    (["PHOTOS", "--config", "demo"], False),
    (["--workdir", "x"], False),
    (["--help"], False),
    ([], False),
  ],
)
def test_a_folder_alone_names_the_config(words, first):
  added = ["--config=my_data"] if first else []
  assert photographs.expanded(words) == [*added, *words]


def test_flags_in_any_order_and_either_spelling():
  words = ["PHOTOS", "--config.seed=1", "--config=my_data:fast", "--workdir=x"]
  assert photographs.expanded(words)[0] == "--config=my_data:fast"
  assert sorted(photographs.expanded(words)) == sorted(words)
  assert photographs.expanded(["PHOTOS", "--data.objects=each"]) == [
    "--config=my_data",
    "PHOTOS",
    "--config.data.objects=each",
  ]


def test_a_config_that_is_not_there_is_told_with_the_nearest():
  said = config_files.missing(["train", "--config", "my_dat:fast"])
  assert said.startswith("--config=my_dat: no such config")
  assert said.endswith("did you mean my_data?")
  assert "demo" in config_files.missing(["train", "--config=xyz"])


def test_what_the_command_names_is_no_choice(monkeypatch, tmp_path):
  """Values that are defaults, too; the config of the package is found."""
  words = ["PHOTOS", "--config.model.experts=3", "--config.seed", "0"]
  argv = ["train", *photographs.expanded(words)]
  monkeypatch.setattr("sys.argv", argv)
  monkeypatch.chdir(tmp_path)
  with commands.flags_of("train"):
    assert start.parse(argv) == ["train", "PHOTOS"]
    config = cli_flags.config()
    assert flags.FLAGS["workdir"].value is None
  assert config.fit.budget == "usual"
  assert config.fit.keep == ("model.experts", "seed")
  photographs.put(config, "PHOTOS")
  assert config.data.path == "PHOTOS"


def test_a_workdir_is_named_as_its_photographs(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  for photos, name in {
    "a/My birds (2024)": "My_birds_2024",
    "a/vögel/": "vögel",
    "/": "photographs",
    ".": tmp_path.name,
  }.items():
    assert photographs.workdir(photos) == f"runs/{name}"
  saved = tmp_path / "runs" / "birds"
  saved.mkdir(parents=True)
  config = config_lib.default_config()
  config.data.path = "a/birds"
  (saved / "config.json").write_text(json.dumps(config_lib.to_saved(config)))
  assert photographs.workdir(str(tmp_path / "a" / "birds")) == "runs/birds"
  with pytest.raises(errors.InputError, match="--workdir=runs/birds-2"):
    photographs.workdir("b/birds")


def test_short_names_are_verbs(capsys):
  for short, verb in main.ALIASES.items():
    assert verb in main.VERBS and short not in main.VERBS
    with pytest.raises(SystemExit) as done:
      main.main([short, "--help"])
    assert done.value.code == 0
    assert f"mtlmoe {short} PHOTOS" in capsys.readouterr().out
