"""The model as Flax Linen modules; `build_model` makes it from a config."""

from mtlmoe_jax.models.backbones import BACKBONES, Backbone, get_backbone
from mtlmoe_jax.models.building import (
  build_model,
  preprocessing,
  sees_pixels,
  stem_features,
)
from mtlmoe_jax.models.folded import fold_norms
from mtlmoe_jax.models.mtlmoe import MTLMoE, Outputs
from mtlmoe_jax.models.parameters import (
  active_experts,
  count_parameters,
  parameter_table,
)

__all__ = [
  "BACKBONES",
  "Backbone",
  "MTLMoE",
  "Outputs",
  "active_experts",
  "build_model",
  "count_parameters",
  "fold_norms",
  "get_backbone",
  "parameter_table",
  "preprocessing",
  "sees_pixels",
  "stem_features",
]
