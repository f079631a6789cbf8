"""Modules and names that are loaded when they are used first."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def members(
  package: str,
  modules: Sequence[str] = (),
  names: Mapping[str, str] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
  """`__getattr__` and `__dir__` of a package whose members are lazy.

  So `import a; a.b.c` works and `import a` stays quick.

  Args:
    package: `__name__` of the package.
    modules: names of its modules.
    names: other name -> the module of the package that has it.
  """
  module_of = names or {}

  def get(name: str) -> Any:
    if name in module_of:
      module = importlib.import_module(f"{package}.{module_of[name]}")
      return getattr(module, name)
    if name in modules:
      return importlib.import_module(f"{package}.{name}")
    raise AttributeError(f"module {package!r} has no attribute {name!r}")

  def names_of() -> list[str]:
    return sorted({*vars(sys.modules[package]), *modules, *module_of})

  return get, names_of
