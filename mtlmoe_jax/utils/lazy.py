"""Modules that are loaded when they are used first."""

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType


def submodules(
  package: str, names: Sequence[str]
) -> tuple[Callable[[str], ModuleType], Callable[[], list[str]]]:
  """`__getattr__` and `__dir__` of a package whose modules are lazy.

  So `import a; a.b.c` works and `import a` stays quick.

  Args:
    package: `__name__` of the package.
    names: of its modules.
  """

  def get(name: str) -> ModuleType:
    if name in names:
      return importlib.import_module(f"{package}.{name}")
    raise AttributeError(f"module {package!r} has no attribute {name!r}")

  return get, lambda: sorted(names)
