"""Options that messages, comments and pages name are there."""

import re

import ml_collections
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.config import names
from tests.support import tiny

PATHS = {option.path for option in config_lib.OPTIONS}
GROUPS = {
  path.rsplit(".", depth)[0]
  for path in PATHS
  for depth in range(1, path.count(".") + 1)
}
_GROUP = "|".join(sorted(group for group in GROUPS if "." not in group))
# `config.model.k`, `--config.model.k=2` anywhere.
_IN_TEXT = re.compile(
  rf"(?<![\w/.])(?:--)?config\.((?:{_GROUP})(?:\.[a-z_]+)+)"
)
# `model.k` in the README, whose code has packages of these names too.
_IN_README = re.compile(rf"`((?:{_GROUP})(?:\.[a-z_]+)+)(?:=[^`]*)?`")
# What is called on a group or on a text.
_METHODS = {*dir(ml_collections.ConfigDict), *dir(str)}
_PLACES = {
  "mtlmoe_jax": "*.py",
  "launch": "*",
  "configs": "*.py",
  "benchmarks": "*.py",
  "docs": "*.md",
}


def unknown(text: str, pattern: re.Pattern = _IN_TEXT) -> list[str]:
  """Names of no option in a text."""
  return [
    path
    for path in pattern.findall(text)
    if path not in PATHS | GROUPS | names.RENAMED.keys()
    and path.rsplit(".", 1)[-1] not in _METHODS
  ]


@pytest.mark.parametrize("place", _PLACES)
def test_texts_name_options_that_are_there(place):
  wrong = {}
  for path in (tiny.ROOT / place).rglob(_PLACES[place]):
    if path.is_file() and path.suffix != ".pyc":
      wrong[path.name] = unknown(path.read_text("utf-8"))
  assert len(wrong) > 3
  assert not {name: paths for name, paths in wrong.items() if paths}


def test_the_readme_names_options_that_are_there():
  text = (tiny.ROOT / "README.md").read_text("utf-8")
  assert not unknown(text)
  assert not unknown(text, _IN_README)


def test_a_wrong_name_would_be_seen():
  assert unknown("set config.model.kk=2 or --config.data.path=X") == [
    "model.kk"
  ]
  assert unknown("config.model.tasks.split and config.model.k") == []
  assert unknown("`model.kk` and `model.k=2`", _IN_README) == ["model.kk"]
