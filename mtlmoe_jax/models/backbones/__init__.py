"""Backbones: the feature extractors that experts are made of."""

from mtlmoe_jax.models.backbones.convnext import ConvNeXt
from mtlmoe_jax.models.backbones.efficientnet import (
  EfficientNet,
  EfficientNetSizes,
)
from mtlmoe_jax.models.backbones.registry import (
  BACKBONES,
  Backbone,
  get_backbone,
)
from mtlmoe_jax.models.backbones.resnet import ResNet
from mtlmoe_jax.models.backbones.vit import ViT

__all__ = [
  "BACKBONES",
  "Backbone",
  "ConvNeXt",
  "EfficientNet",
  "EfficientNetSizes",
  "ResNet",
  "ViT",
  "get_backbone",
]
