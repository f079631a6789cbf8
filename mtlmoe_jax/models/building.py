"""From a config to the model, and what goes in and out of its stem.

Letters: B images, H W image size, L classes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models.backbones import Backbone, get_backbone
from mtlmoe_jax.models.gates import GateOptions, gate_size
from mtlmoe_jax.models.layers import average_to
from mtlmoe_jax.models.mtlmoe import (
  DispatchOptions,
  MTLMoE,
  make_stem,
  norm_of_gates,
  normalized,
)
from mtlmoe_jax.models.token_moe import token_moe
from mtlmoe_jax.models.towers import TowerOptions


def build_model(config: ml_collections.ConfigDict, num_classes: int) -> MTLMoE:
  """The model of a config.

  `config.model.shared_stages` = s shares the stem and the first s units behind
  it: of an EfficientNet 7 stages of blocks and the head convolution, of a
  ResNet 4 stages, of a ConvNeXt 4 stages and the norm, of a ViT 4 quarters of
  the blocks and the norm. With all of them shared an expert is its condense
  layer alone; 0 shares nothing.

  Args:
    config: the whole config, checked.
    num_classes: L.

  Returns:
    The unbound module.

  Raises:
    InputError: an unknown backbone, more shared stages than it has, V-MoE
      layers where there can be none, or batch statistics with a dispatch that
      cannot have them.
  """
  model = config.model
  config_lib.check_dispatch(config)
  backbone = backbone_of(config)
  sizes, stages = backbone.sizes, model.shared_stages
  if stages > sizes.last:
    raise InputError(
      f"config.model.shared_stages={stages}: {backbone.name} has {sizes.last} "
      f"units behind its stem, use 0 ... {sizes.last}"
    )
  if model.condense == "pyramid" and not sizes.last_stride:
    raise InputError(
      f"config.model.condense='pyramid': all maps of {backbone.name} are of "
      "one size, use 'spatial'"
    )
  if model.condense == "pyramid" and stages >= sizes.last_stride:
    raise InputError(
      "config.model.condense='pyramid' with config.model.shared_stages="
      f"{stages}: the experts of {backbone.name} must begin at the last "
      f"strided stage or before, use 0 ... {sizes.last_stride - 1} shared "
      "stages, or condense 'spatial'"
    )
  resolved = config_lib.resolve(config)
  return MTLMoE(
    backbone=backbone,
    num_classes=num_classes,
    tasks=resolved.tasks,
    ks=resolved.ks,
    gating=GateOptions(
      kind=model.gate,
      experts=model.experts,
      width=model.gate_width,
      noise=model.gate_noise,
      temperature=model.gate_temperature,
      bias_rate=model.bias_rate,
      sees=model.gate_input,
      router=model.router,
      dropout=model.expert_dropout,
      shared=model.shared_experts,
    ),
    select=model.select,
    share_gate=model.share_gate,
    told=model.tower_sees_gate,
    dispatch=DispatchOptions(
      compute=model.compute,
      strategy=model.dispatch,
      capacity_factor=model.capacity_factor,
      remat=model.remat,
    ),
    towers=TowerOptions(
      width=model.tower_dim,
      dropout=model.dropout,
      classifier=model.classifier,
    ),
    shared_stages=model.shared_stages,
    layout=model.condense,
    condense_dim=model.condense_dim,
    expert_dim=model.expert_dim,
    drop_path=model.drop_path,
    norm=model.norm,
    learn_weights=config.loss.weighting == "uncertainty",
    token_moe=token_moe(config, backbone),
    dtype=jnp.dtype(config.precision),
  )


def stem_features(
  config: ml_collections.ConfigDict,
  frozen: Mapping[str, Mapping[str, Any]],
  images: jax.Array,
) -> dict[str, jax.Array]:
  """What does not change while a model with a frozen stem trains.

  Args:
    config: of the model, with shared stages.
    frozen: collections `params` and `batch_stats` of `stem` and, where gates
      see more than it has, of `gate_backbone`.
    images: u8 [B, H, W, 3].

  Returns:
    `features` f16 [B, ...] that the experts see, of the stem in evaluation;
    `image` u8 [B, h, w, 3] as small as gates look at, or [B, 0, 0, 3] where
    none does; `gate_features` f16 [B, F], with a `gate_backbone`.
  """
  model = config.model
  backbone = backbone_of(config)
  dtype = jnp.dtype(config.precision)
  network = make_stem(
    backbone,
    token_moe(config, backbone),
    last=model.shared_stages,
    norm=model.norm,
    dtype=dtype,
  )
  pixels = normalized(images, backbone).astype(dtype)
  x: Any = network.apply(_part(frozen, "stem"), pixels)
  known = {"features": x.astype(jnp.float16)}
  if sees_pixels(config):
    small = average_to(images.astype(jnp.float32), gate_size(images.shape))
    known["image"] = jnp.round(small).astype(jnp.uint8)
  else:
    known["image"] = images[:, :0, :0]
  if "gate_backbone" in frozen["params"]:
    rest = backbone.sizes.network(
      first=model.shared_stages + 1,
      norm=norm_of_gates(model.norm),
      dtype=dtype,
    )
    last: Any = rest.apply(_part(frozen, "gate_backbone"), x)
    pooled = jnp.mean(last.astype(jnp.float32), (1, 2))
    known["gate_features"] = pooled.astype(jnp.float16)
  return known


def _part(
  variables: Mapping[str, Mapping[str, Any]], name: str
) -> dict[str, Any]:
  return {c: tree[name] for c, tree in variables.items() if name in tree}


def sees_pixels(config: ml_collections.ConfigDict) -> bool:
  """Whether gates need the images where features are known."""
  return config.model.gate_input == "pixels" or config.model.gate == "random"


def backbone_of(config: ml_collections.ConfigDict) -> Backbone:
  """The backbone of a config, with the config's own normalisation and grid."""
  backbone = get_backbone(config.model.backbone)
  return dataclasses.replace(
    backbone,
    normalization=config.model.normalization or backbone.normalization,
    grid=config.model.grid or backbone.grid,
  )


def preprocessing(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """How an image becomes the network's input, for whoever keeps a record."""
  backbone = backbone_of(config)
  return {
    "channels": "RGB, 0 ... 255",
    "image_size": config.data.image_size,
    "resize": "bilinear, antialiased, aspect ratio not kept",
    "mean": list(backbone.mean),
    "std": list(backbone.std),
  }
