"""Configs by their names, in any folder."""

import ast

import pytest

from mtlmoe_jax.cli import config_files
from tests.support import tiny

DEMO = str(tiny.ROOT / "configs" / "demo.py")


@pytest.mark.parametrize("name", ["demo", "demo.py", "configs/demo.py"])
@pytest.mark.parametrize("overrides", ["", ":k=2,experts=6"])
def test_the_package_has_configs(name, overrides, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert config_files.locate(name + overrides) == DEMO + overrides


def test_a_file_that_exists_comes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "configs").mkdir()
  (tmp_path / "configs" / "demo.py").touch()
  assert config_files.locate("configs/demo.py:k=2") == "configs/demo.py:k=2"


@pytest.mark.parametrize("name", ["nothing.py", "", ":k=2", "configs/x"])
def test_what_is_nowhere_stays_as_it_was_named(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert config_files.locate(name) == name


@pytest.mark.parametrize(
  "path", sorted(tiny.ROOT.glob("configs/*.py")), ids=str
)
def test_a_config_imports_what_is_installed_with_it(path):
  modules = set()
  for node in ast.walk(ast.parse(path.read_text("utf-8"))):
    if isinstance(node, ast.Import):
      modules |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      modules.add(node.module)
  assert {name.split(".")[0] for name in modules} <= {
    "ml_collections",
    "mtlmoe_jax",
  }
