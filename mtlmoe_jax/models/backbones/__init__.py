"""Backbones: the feature extractors that experts are made of."""

from mtlmoe_jax.models.backbones.efficientnet import EfficientNet, Variant
from mtlmoe_jax.models.backbones.registry import (
  BACKBONES,
  Backbone,
  backbone,
)

__all__ = ["BACKBONES", "Backbone", "EfficientNet", "Variant", "backbone"]
