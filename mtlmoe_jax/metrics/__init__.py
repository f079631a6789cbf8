"""Numbers about predictions and about runs, on NumPy arrays.

`split`: a whole split's metrics, with `wilson`; `predictions`: the arrays they
come from; `calibration`: temperature scaling; `intervals`: what a difference
between runs is worth; `permutation`: what chance alone gives; `cka` and
`matching`: how alike experts and runs are.
"""

from mtlmoe_jax.utils import lazy

__all__ = [
  "calibration",
  "cka",
  "intervals",
  "matching",
  "permutation",
  "predictions",
  "split",
]

# On first use: SciPy's statistics take long to import.
__getattr__, __dir__ = lazy.members(__name__, __all__)
