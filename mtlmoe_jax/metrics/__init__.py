"""Numbers about predictions and about runs, on NumPy arrays.

`split`: a whole split's metrics, with `wilson`; `predictions`: the arrays they
come from; `calibration`: temperature scaling; `intervals`: what a difference
between runs is worth; `permutation`: what chance alone gives; `cka` and
`matching`: how alike experts and runs are.
"""

import importlib
from typing import Any

__all__ = [
  "calibration",
  "cka",
  "intervals",
  "matching",
  "permutation",
  "predictions",
  "split",
]


def __getattr__(name: str) -> Any:
  # On first use: SciPy's statistics take long to import.
  if name not in __all__:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return importlib.import_module(f"{__name__}.{name}")
