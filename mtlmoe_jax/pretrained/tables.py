"""Which of our modules each module of a PyTorch network is.

One table for each family but EfficientNet's (`names`): rows of a regular
expression on a module's name in timm (torchvision has the same for ResNet) and
our name, made from the numbers that its groups found.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Row = tuple[str, Callable[..., str]]

_CONVS = {1: "first", 2: "second", 3: "third"}
_BLOCK = r"layer(\d)\.(\d{1,3})"


def _resnet(part: str, kind: str) -> Row:
  return (
    rf"{_BLOCK}\.{part}(\d)",
    lambda s, b, i: f"stage_{s}_block_{b:02d}/{_CONVS[i]}_{kind}",
  )


def _shortcut(index: int, kind: str) -> Row:
  return (
    rf"{_BLOCK}\.downsample\.{index}",
    lambda s, b: f"stage_{s}_block_{b:02d}/shortcut_{kind}",
  )


def _convnext(part: str, ours: str) -> Row:
  return (
    rf"stages\.(\d)\.blocks\.(\d{{1,3}}){part}",
    lambda s, b: f"stage_{s + 1}_block_{b:02d}/{ours}",
  )


def _vit(part: str, ours: str) -> Row:
  return rf"blocks\.(\d{{1,3}})\.{part}", lambda b: f"block_{b:02d}/{ours}"


ROWS: dict[str, tuple[Row, ...]] = {
  "resnet": (
    ("conv1", lambda: "stem_conv"),
    ("bn1", lambda: "stem_norm"),
    _resnet("conv", "conv"),
    _resnet("bn", "norm"),
    _shortcut(0, "conv"),
    _shortcut(1, "norm"),
  ),
  "convnext": (
    (r"stem\.0", lambda: "stem"),
    (r"stem\.1", lambda: "stem_layernorm"),
    (r"stages\.(\d)\.downsample\.0", lambda s: f"stage_{s + 1}_layernorm"),
    (r"stages\.(\d)\.downsample\.1", lambda s: f"stage_{s + 1}_shrink"),
    _convnext("", "gamma"),
    _convnext(r"\.conv_dw", "depthwise"),
    _convnext(r"\.norm", "layernorm"),
    _convnext(r"\.mlp\.fc1", "up"),
    _convnext(r"\.mlp\.fc2", "down"),
    (r"head\.norm", lambda: "head_layernorm"),
  ),
  "vit": (
    (r"patch_embed\.proj", lambda: "patches"),
    _vit(r"norm1", "layernorm_1"),
    _vit(r"attn\.qkv", "attention/qkv"),
    _vit(r"attn\.proj", "attention/out"),
    _vit(r"ls1", "gamma_1"),
    _vit(r"norm2", "layernorm_2"),
    _vit(r"mlp\.fc1", "up"),
    _vit(r"mlp\.fc2", "down"),
    _vit(r"ls2", "gamma_2"),
    ("norm", lambda: "layernorm"),
  ),
}
# Modules of a family that are left out by design.
CLASSIFIERS = {
  "efficientnet": ("_fc", "classifier"),
  "resnet": ("fc",),
  "convnext": ("head.fc",),
  "vit": ("head",),
}


def our_module(family: str, module: str) -> str | None:
  """Our name of a module, None where it has none."""
  for pattern, ours in ROWS[family]:
    if match := re.fullmatch(pattern, module):
      return ours(*map(int, match.groups()))
  return None


def vit_tokens(
  tensors: Mapping[str, Any],
) -> tuple[dict[str, np.ndarray], set[str]]:
  """The tokens and positions of a ViT in our layout.

  Args:
    tensors: `cls_token` [1, 1, C], perhaps `reg_token` [1, R, C], and
      `pos_embed` [1, G G, C], or with one more in front for the class token.

  Returns:
    (`position` [G, G, C] and `prefix` [1 + R, C] as far as they are there, the
    names that were used up).
  """
  used = {"cls_token", "reg_token", "pos_embed"} & set(tensors)
  if not {"cls_token", "pos_embed"} <= used:
    return {}, set()
  position = np.asarray(tensors["pos_embed"], np.float32)[0]
  prefix = [np.asarray(tensors["cls_token"], np.float32)[0]]
  side = int(np.sqrt(len(position)))
  if side * side != len(position):
    # The class token has a position too; only their sum matters.
    side = int(np.sqrt(len(position) - 1))
    prefix[0] = prefix[0] + position[:1]
    position = position[1:]
  if side * side != len(position):
    return {}, set()
  if "reg_token" in used:
    prefix.append(np.asarray(tensors["reg_token"], np.float32)[0])
  return {
    "params/position": position.reshape(side, side, -1),
    "params/prefix": np.concatenate(prefix),
  }, used
