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
  "apply_experts": "moe.engine",
  "apply_stacked": "moe.engine",
  "choose_strategy": "moe.engine",
  "Results": "moe.engine",
  "ragged_mlp": "moe.ragged",
  "dense_routing": "moe.routing",
  "noisy_top_k_routing": "moe.routing",
  "top_k_routing": "moe.routing",
  "joint_routing": "moe.routing",
  "Routing": "moe.routing",
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
