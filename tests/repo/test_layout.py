"""Where tests are: rooms that mirror the package, and helpers in support."""

import pathlib
import re

import pytest

from tests.support.tiny import ROOT

TESTS = ROOT / "tests"
FILES = sorted(TESTS.rglob("test_*.py"))
_TEST_MODULE = re.compile(
  r"\btests(?:\.\w+)*\.(test_\w+)"
  r"|\bfrom tests(?:\.\w+)* import \(?\s*(test_\w+)"
)


def others(text: str, own: str) -> set[str]:
  """Test modules that a program names; those in its strings, too."""
  return {a or b for a, b in _TEST_MODULE.findall(text)} - {own}


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("from tests.unit.moe.test_engine import make", {"test_engine"}),
    ("from tests.unit.moe import test_engine as t", {"test_engine"}),
    ("from tests.runs import (\n  test_loop,\n)", {"test_loop"}),
    ("import tests.runs.test_loop", {"test_loop"}),
    ("from tests.processes import test_own", set()),
    ("from tests.support.draws import draw", set()),
  ],
)
def test_an_import_of_a_test_is_seen(text, expected):
  assert others(text, "test_own") == expected


def test_no_test_imports_another():
  own = pathlib.Path(__file__)
  found = {
    path.relative_to(ROOT).as_posix(): names
    for path in [*FILES, *TESTS.glob("support/*.py")]
    if path != own and (names := others(path.read_text("utf-8"), path.stem))
  }
  assert not found, "shared helpers belong in tests/support"


def test_units_are_tested_in_the_room_they_are_in():
  rooms = {
    path.parent.relative_to(TESTS / "unit")
    for path in FILES
    if path.is_relative_to(TESTS / "unit")
  }
  package = ROOT / "mtlmoe_jax"
  missing = [room for room in rooms if not (package / room).is_dir()]
  assert not missing
  loose = [path.name for path in TESTS.glob("test_*.py")]
  assert not loose, "a test belongs in tests/{unit,runs,processes,repo}"


def test_units_train_nothing_and_have_no_devices_but_one():
  whole = re.compile(r"\b(loop\.train|tiny\.\w*launch|run_on_devices)\(")
  found = [
    path.name
    for path in FILES
    if path.is_relative_to(TESTS / "unit") and whole.search(path.read_text())
  ]
  assert not found, "whole runs belong in tests/runs or tests/processes"
