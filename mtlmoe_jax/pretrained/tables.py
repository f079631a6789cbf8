"""Which of our arrays each array of a PyTorch network is: a table per family.

A table pairs names of modules, timm's and ours, and is written out for the
blocks of one network (`array_names`). The pairs are one to one, so the same
table reads weights and writes them; names of other conventions follow timm's
and are only read.

Letters: C width, G side of the grid of positions, P prefix tokens.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mtlmoe_jax.models.backbones.registry import Sizes
from mtlmoe_jax.models.normalization import EPSILON

Pairs = Iterator[tuple[str, str]]
Tensors = dict[str, np.ndarray]

_NORM = {
  "weight": "params/{}/scale",
  "bias": "params/{}/bias",
  "running_mean": "batch_stats/{}/mean",
  "running_var": "batch_stats/{}/var",
}
_LAYER = {"weight": "params/{}/kernel", "bias": "params/{}/bias"}
# Our modules that are one array, whose whole name is in the tables.
_ARRAY = re.compile(r"(.+/)?(gamma(_\d)?|position|prefix)")

_EFFICIENTNET = {
  "conv_stem": "stem_conv",
  "bn1": "stem_norm",
  "conv_head": "head_conv",
  "bn2": "head_norm",
}
_EXPANDING = {
  "conv_pw": "expand_conv",
  "bn1": "expand_norm",
  "conv_dw": "depthwise_conv",
  "bn2": "depthwise_norm",
  "se.conv_reduce": "se_reduce",
  "se.conv_expand": "se_expand",
  "conv_pwl": "project_conv",
  "bn3": "project_norm",
}
# Blocks without expansion use the same names for other layers.
_PLAIN = {
  "conv_dw": "depthwise_conv",
  "bn1": "depthwise_norm",
  "se.conv_reduce": "se_reduce",
  "se.conv_expand": "se_expand",
  "conv_pw": "project_conv",
  "bn2": "project_norm",
}
# EfficientNet-PyTorch, which counts blocks over the whole network and has
# TensorFlow's networks only.
_LUKE = {
  "_conv_stem": "stem_conv",
  "_bn0": "stem_norm",
  "_conv_head": "head_conv",
  "_bn1": "head_norm",
}
_LUKE_BLOCK = {
  "_expand_conv": "expand_conv",
  "_bn0": "expand_norm",
  "_depthwise_conv": "depthwise_conv",
  "_bn1": "depthwise_norm",
  "_se_reduce": "se_reduce",
  "_se_expand": "se_expand",
  "_project_conv": "project_conv",
  "_bn2": "project_norm",
}
_RESNET = {"conv1": "stem_conv", "bn1": "stem_norm"}
_RESNET_BLOCK = {
  "conv1": "first_conv",
  "bn1": "first_norm",
  "conv2": "second_conv",
  "bn2": "second_norm",
  "conv3": "third_conv",
  "bn3": "third_norm",
  "downsample.0": "shortcut_conv",
  "downsample.1": "shortcut_norm",
}
_CONVNEXT = {
  "stem.0": "stem",
  "stem.1": "stem_layernorm",
  "head.norm": "head_layernorm",
}
_CONVNEXT_BLOCK = {
  "gamma": "gamma",
  "conv_dw": "depthwise",
  "norm": "layernorm",
  "mlp.fc1": "up",
  "mlp.fc2": "down",
}
_VIT = {
  "patch_embed.proj": "patches",
  "norm": "layernorm",
  "position": "position",
  "prefix": "prefix",
}
_VIT_BLOCK = {
  "norm1": "layernorm_1",
  "attn.qkv": "attention/qkv",
  "attn.proj": "attention/out",
  "ls1.gamma": "gamma_1",
  "norm2": "layernorm_2",
  "mlp.fc1": "up",
  "mlp.fc2": "down",
  "ls2.gamma": "gamma_2",
}


def _block(theirs: str, ours: str, layers: dict[str, str]) -> Pairs:
  for layer, name in layers.items():
    yield f"{theirs}.{layer}", f"{ours}/{name}"


def _efficientnet(sizes: Any) -> Pairs:
  yield from _EFFICIENTNET.items()
  for s, blocks in enumerate(sizes.stages):
    for r, block in enumerate(blocks):
      layers = _EXPANDING if block.expand > 1 else _PLAIN
      yield from _block(f"blocks.{s}.{r}", block.name, layers)
  if sizes.epsilon != EPSILON:
    return
  yield from _LUKE.items()
  for blocks in sizes.stages:
    for block in blocks:
      yield from _block(f"_blocks.{block.index}", block.name, _LUKE_BLOCK)


def _resnet(sizes: Any) -> Pairs:
  yield from _RESNET.items()
  for s, count in enumerate(sizes.blocks, 1):
    for b in range(count):
      ours = f"stage_{s}_block_{b:02d}"
      yield from _block(f"layer{s}.{b}", ours, _RESNET_BLOCK)


def _convnext(sizes: Any) -> Pairs:
  yield from _CONVNEXT.items()
  for s, count in enumerate(sizes.blocks):
    yield f"stages.{s}.downsample.0", f"stage_{s + 1}_layernorm"
    yield f"stages.{s}.downsample.1", f"stage_{s + 1}_shrink"
    for b in range(count):
      ours = f"stage_{s + 1}_block_{b:02d}"
      yield from _block(f"stages.{s}.blocks.{b}", ours, _CONVNEXT_BLOCK)


def _vit(sizes: Any) -> Pairs:
  yield from _VIT.items()
  for b in range(sizes.depth):
    yield from _block(f"blocks.{b}", f"block_{b:02d}", _VIT_BLOCK)


def _join_tokens(tensors: Tensors) -> Tensors:
  """A ViT's tokens and positions as `position` [G, G, C] and `prefix` [P, C].

  timm has `cls_token` [1, 1, C], perhaps `reg_token` [1, P - 1, C], and
  `pos_embed` [1, G G, C], or with one more in front for the class token; what
  fits neither is left as it is.
  """
  out = dict(tensors)
  if "register_tokens" in out:  # DINOv2 as published.
    out["reg_token"] = out.pop("register_tokens")
  names = ("cls_token", "pos_embed")
  if any(name not in out or np.ndim(out[name]) != 3 for name in names):
    return out
  token, position = (
    np.asarray(out[name][0], np.float32) for name in ("cls_token", "pos_embed")
  )
  side = int(np.sqrt(len(position)))
  if side * side != len(position):
    # The class token has a position too; only their sum matters.
    side = int(np.sqrt(len(position) - 1))
    token, position = token + position[:1], position[1:]
  if side * side != len(position):
    return out
  registers = [out.pop("reg_token")[0]] if "reg_token" in out else []
  del out["cls_token"], out["pos_embed"]
  out["position"] = position.reshape(side, side, -1)
  out["prefix"] = np.concatenate([token, *registers])
  return out


def _part_tokens(tensors: Tensors) -> Tensors:
  """The inverse of `_join_tokens`, for timm.

  Without registers the class token's position is zero: timm has one, and its
  value is in the token. With registers timm has none (`no_embed_class`).
  """
  out = dict(tensors)
  prefix, position = out.pop("prefix"), out.pop("position")
  position = position.reshape(-1, position.shape[-1])
  if len(prefix) > 1:
    out["reg_token"] = prefix[None, 1:]
  else:
    position = np.concatenate([np.zeros_like(prefix), position])
  return {"cls_token": prefix[None, :1], "pos_embed": position[None], **out}


@dataclasses.dataclass(frozen=True)
class Family:
  """How PyTorch names the networks of one family.

  Attributes:
    words: what a message calls them.
    modules: the pairs (their module, ours) of one network, timm's first.
    left_out: pattern of the arrays that have no place by design.
    read: from their arrays to those that `modules` names.
    write: the inverse.
  """

  words: str
  modules: Callable[[Any], Pairs]
  left_out: re.Pattern
  read: Callable[[Tensors], Tensors] = dict
  write: Callable[[Tensors], Tensors] = dict


FAMILIES = {
  "efficientnet": Family(
    "an EfficientNet (EfficientNet-PyTorch or timm)",
    _efficientnet,
    re.compile(r"(_fc|classifier)\.\w+"),
  ),
  "resnet": Family(
    "a ResNet (timm or torchvision)", _resnet, re.compile(r"fc\.\w+")
  ),
  "convnext": Family(
    "a ConvNeXt (timm)", _convnext, re.compile(r"head\.fc\.\w+")
  ),
  "vit": Family(
    "a vision transformer (timm or DINOv2)",
    _vit,
    re.compile(r"head\.\w+|mask_token"),
    _join_tokens,
    _part_tokens,
  ),
}


def array_names(sizes: Sizes) -> dict[str, str]:
  """Our path of each array of a network, such as `params/stem_conv/kernel`.

  Args:
    sizes: sizes of the network.

  Returns:
    {name in PyTorch: ours}; of names for the same array timm's comes first.
  """
  out = {}
  for theirs, ours in FAMILIES[sizes.family].modules(sizes):
    if _ARRAY.fullmatch(ours):
      out[theirs] = f"params/{ours}"
      continue
    for leaf, path in _leaves(ours).items():
      out[f"{theirs}.{leaf}"] = path.format(ours)
  return out


def _leaves(ours: str) -> dict[str, str]:
  last = ours.rpartition("/")[2]
  return _NORM if last.endswith("_norm") or "layernorm" in last else _LAYER
