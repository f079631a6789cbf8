"""Pretrained weights: safe readers, names, and their place in a model."""

from mtlmoe_jax.pretrained.cards import settle
from mtlmoe_jax.pretrained.formats.readers import read_weights
from mtlmoe_jax.pretrained.formats.safetensors_file import save_safetensors
from mtlmoe_jax.pretrained.insertion import fills, insert
from mtlmoe_jax.pretrained.weights import Weights, load, of_model, packaged

__all__ = [
  "Weights",
  "fills",
  "insert",
  "load",
  "of_model",
  "packaged",
  "read_weights",
  "save_safetensors",
  "settle",
]
