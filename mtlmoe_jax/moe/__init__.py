"""Mixtures of experts on arrays: gates, dispatch, combine. Needs JAX alone.

  routing = top_k_routing(logits, k=2)
  results = apply_experts(expert, params, x, [routing.experts])
  y = results.combine(0, routing.weights)

The names below are the room's stable interface; everything else may move.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from mtlmoe_jax.moe.balancing import update_bias
  from mtlmoe_jax.moe.buffers import capacity
  from mtlmoe_jax.moe.engine import (
    STRATEGIES,
    apply_experts,
    apply_stacked,
    choose_strategy,
  )
  from mtlmoe_jax.moe.expert_choice import expert_choice_routing, soft_routing
  from mtlmoe_jax.moe.interface import Plan, Results, RowPlan, apply_plan
  from mtlmoe_jax.moe.ragged import ragged_mlp
  from mtlmoe_jax.moe.routing import (
    Routing,
    Scores,
    dense_routing,
    joint_routing,
    noisy_top_k_routing,
    random_routing,
    top_k_routing,
    uniform_routing,
  )

_NAMES = {
  "balancing": ("update_bias",),
  "buffers": ("capacity",),
  "engine": (
    *("STRATEGIES", "apply_experts", "apply_stacked", "choose_strategy"),
  ),
  "expert_choice": ("expert_choice_routing", "soft_routing"),
  "interface": ("Plan", "Results", "RowPlan", "apply_plan"),
  "ragged": ("ragged_mlp",),
  "routing": (
    *("Routing", "Scores", "dense_routing", "joint_routing"),
    *("noisy_top_k_routing", "random_routing", "top_k_routing"),
    "uniform_routing",
  ),
}
_MODULE_OF = {name: m for m, names in _NAMES.items() for name in names}

__all__ = [
  "STRATEGIES",
  "Plan",
  "Results",
  "Routing",
  "RowPlan",
  "Scores",
  "apply_experts",
  "apply_plan",
  "apply_stacked",
  "capacity",
  "choose_strategy",
  "dense_routing",
  "expert_choice_routing",
  "joint_routing",
  "noisy_top_k_routing",
  "ragged_mlp",
  "random_routing",
  "soft_routing",
  "top_k_routing",
  "uniform_routing",
  "update_bias",
]


def __getattr__(name: str) -> Any:
  # On first use: the config reads `moe.strategies` and must not wait for JAX.
  if name not in _MODULE_OF:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  module = importlib.import_module(f"{__name__}.{_MODULE_OF[name]}")
  return getattr(module, name)


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
