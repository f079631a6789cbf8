"""Multi-task mixture-of-experts image models in JAX/Flax.

The mixture-of-experts engine is of use on its own; these names are its stable
interface: `apply_experts`, `apply_stacked`, `choose_strategy`, `Results`,
`ragged_mlp`, the gates `dense_routing`, `noisy_top_k_routing`, `top_k_routing`,
`joint_routing` and their result `Routing`.
"""

import importlib
from typing import Any

from mtlmoe_jax.version import __version__

_MODULES = {
  "apply_experts": "engine",
  "apply_stacked": "engine",
  "choose_strategy": "engine",
  "Results": "engine",
  "ragged_mlp": "ragged",
  "dense_routing": "routing",
  "noisy_top_k_routing": "routing",
  "top_k_routing": "routing",
  "joint_routing": "routing",
  "Routing": "routing",
}
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
  # On first use: `--help` and the version should not wait for JAX.
  if name not in _MODULES:
    raise AttributeError(f"module 'mtlmoe_jax' has no attribute {name!r}")
  module = importlib.import_module(f"mtlmoe_jax.{_MODULES[name]}")
  return getattr(module, name)


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
