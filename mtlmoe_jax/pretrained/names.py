"""Names of weights: PyTorch's conventions to ours.

ResNet, ConvNeXt and ViT have their tables in `tables`. EfficientNet:

- EfficientNet-PyTorch: `_conv_stem`, `_bn0`, `_blocks.4._expand_conv`, ...
- timm: `conv_stem`, `bn1`, `blocks.2.0.conv_pw`, ...
- ours, with the collection in front: `params/stem_conv/kernel`,
  `batch_stats/stem_norm/mean`, ...

The names do not tell the padding nor the norm's epsilon. TensorFlow's ("SAME",
1e-3) are those of the published weights, of EfficientNet-PyTorch and of timm's
`tf_efficientnet_*`; timm's `efficientnet_*` have PyTorch's (k // 2, 1e-5). Our
backbones have timm's names; weights of the other padding fit by name and give
other features.

Letters: C input channels, O output channels, k kernel size.
"""

import dataclasses
import re

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.pretrained import tables

_ENDS = {
  "_conv_stem": "stem_conv",
  "_bn0": "stem_norm",
  "_conv_head": "head_conv",
  "_bn1": "head_norm",
  "conv_stem": "stem_conv",
  "bn1": "stem_norm",
  "conv_head": "head_conv",
  "bn2": "head_norm",
}
_BLOCK = {
  "_expand_conv": "expand_conv",
  "_bn0": "expand_norm",
  "_depthwise_conv": "depthwise_conv",
  "_bn1": "depthwise_norm",
  "_se_reduce": "se_reduce",
  "_se_expand": "se_expand",
  "_project_conv": "project_conv",
  "_bn2": "project_norm",
}
_TIMM_BLOCK = {
  "conv_pw": "expand_conv",
  "bn1": "expand_norm",
  "conv_dw": "depthwise_conv",
  "bn2": "depthwise_norm",
  "se.conv_reduce": "se_reduce",
  "se.conv_expand": "se_expand",
  "conv_pwl": "project_conv",
  "bn3": "project_norm",
}
# timm's blocks without expansion use the same names for other layers.
_TIMM_BLOCK_PLAIN = {
  "conv_dw": "depthwise_conv",
  "bn1": "depthwise_norm",
  "se.conv_reduce": "se_reduce",
  "se.conv_expand": "se_expand",
  "conv_pw": "project_conv",
  "bn2": "project_norm",
}
_NORM_LEAVES = {
  "weight": "params/{}/scale",
  "bias": "params/{}/bias",
  "running_mean": "batch_stats/{}/mean",
  "running_var": "batch_stats/{}/var",
}
_KERNEL_LEAVES = {"weight": "params/{}/kernel", "bias": "params/{}/bias"}
_GAMMA_LEAVES = {"gamma": "params/{}"}
# PyTorch's order of axes to ours: convolutions, fully connected layers.
_AXES = {4: (2, 3, 1, 0), 2: (1, 0)}
_NAMED = {
  "efficientnet": "an EfficientNet (EfficientNet-PyTorch or timm)",
  "resnet": "a ResNet (timm or torchvision)",
  "convnext": "a ConvNeXt (timm)",
  "vit": "a vision transformer (timm)",
}
_OURS = ("params/", "batch_stats/")


@dataclasses.dataclass(frozen=True)
class Renamed:
  """Arrays under our names.

  Attributes:
    arrays: float32 by path such as `params/block_00/depthwise_conv/kernel`;
      kernels [k, k, C / groups, O].
    ignored: names of the file that were left out by design: the classifier
      and batch counters.
  """

  arrays: dict[str, np.ndarray]
  ignored: tuple[str, ...]


def rename(
  tensors: dict[str, np.ndarray], where: str, family: str = "efficientnet"
) -> Renamed:
  """Brings the arrays of a weights file under our names and layouts.

  Args:
    tensors: arrays by the file's names; PyTorch kernels [O, C / groups, k, k].
    where: the file, for messages.
    family: of the backbone: "efficientnet", "resnet", "convnext" or "vit".

  Returns:
    The renamed arrays.

  Raises:
    InputError: names that no convention has (all are listed), or a value that
      is not finite.
  """
  if all(name.startswith("module.") for name in tensors):
    # PyTorch's DataParallel puts this in front.
    tensors = {n.removeprefix("module."): v for n, v in tensors.items()}
  modules = _modules(tensors, family)
  arrays: dict[str, np.ndarray] = {}
  used: set[str] = set()
  if family == "vit":
    arrays, used = tables.vit_tokens(tensors)
  ignored, unknown = [], []
  for name, value in tensors.items():
    module, _, leaf = name.rpartition(".")
    if name in used:
      continue
    if module in tables.CLASSIFIERS[family] or leaf == "num_batches_tracked":
      ignored.append(name)
      continue
    path = _path(name, modules.get(module), leaf)
    if path is None:
      unknown.append(name)
      continue
    if not name.startswith(_OURS):
      value = value.transpose(_AXES.get(value.ndim, range(value.ndim)))
    arrays[path] = np.ascontiguousarray(value, np.float32)
    if not np.isfinite(arrays[path]).all():
      raise errors.InputError(
        f"{where}: {name} holds values that are not finite; use other weights"
      )
  if unknown or not arrays:
    raise errors.InputError(
      f"{where}: not the names of {_NAMED[family]}: unexpected "
      f"{', '.join(unknown) or 'nothing'}; give weights of "
      "config.model.backbone"
    )
  return Renamed(arrays, tuple(ignored))


def _path(name: str, module: str | None, leaf: str) -> str | None:
  """Our path of one array, or None where there is none."""
  if name.startswith(_OURS):
    return name
  if module is None:
    return None
  last = module.rpartition("/")[2]
  leaves = _KERNEL_LEAVES
  if last.startswith("gamma"):
    leaves = _GAMMA_LEAVES
  elif last.endswith("_norm") or "layernorm" in last:
    leaves = _NORM_LEAVES
  return leaves[leaf].format(module) if leaf in leaves else None


def _modules(tensors: dict[str, np.ndarray], family: str) -> dict[str, str]:
  """Our module of each of the file's modules that has one."""
  modules = {name.rpartition(".")[0] for name in tensors}
  if family != "efficientnet":
    pairs = {m: tables.our_module(family, m) for m in modules}
    return {m: ours for m, ours in pairs.items() if ours}
  found = {m: _ENDS[m] for m in modules if m in _ENDS}
  timm = {}
  for module in modules:
    if match := re.fullmatch(r"_blocks\.(\d{1,3})\.(\w+)", module):
      if match[2] in _BLOCK:
        found[module] = f"block_{int(match[1]):02d}/{_BLOCK[match[2]]}"
    elif match := re.fullmatch(r"blocks\.(\d{1,3})\.(\d{1,3})\.(.+)", module):
      place = int(match[1]), int(match[2])
      timm.setdefault(place, {})[match[3]] = module
  # timm counts blocks within stages, we count over the whole network.
  for index, (_, layers) in enumerate(sorted(timm.items())):
    table = _TIMM_BLOCK if "conv_pwl" in layers else _TIMM_BLOCK_PLAIN
    for layer, module in layers.items():
      if layer in table:
        found[module] = f"block_{index:02d}/{table[layer]}"
  return found
