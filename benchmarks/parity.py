"""How far backbones are from timm's, unit by unit, with the same weights.

  python benchmarks/parity.py --out=docs/parity.md

Weights are random, norms' statistics and scales of branches too, and go through
a file and the readers, as pretrained ones do. Needs torch and timm.
"""

import argparse
import pathlib
import tempfile
from typing import Any
from unittest import mock

import jax
import numpy as np

from mtlmoe_jax import pretrained
from mtlmoe_jax.models import backbones
from mtlmoe_jax.utils import files

# Ours alone.
_UNPUBLISHED = (
  "efficientnet_tiny",
  "efficientnet_nano",
  "efficientnet_pico",
  "vit_nano",
)

# (image size, what is compared, largest difference over largest value).
Difference = tuple[int, str, float]


def names() -> list[str]:
  """The backbones that timm has too."""
  return [n for n in backbones.BACKBONES if n not in _UNPUBLISHED]


def differences(name: str) -> list[Difference]:
  """Compares every unit, the network in one piece, and logits.

  Args:
    name: of a backbone.

  Returns:
    At two image sizes each; all in float32.
  """
  entry = backbones.get_backbone(name)
  sizes = entry.sizes
  options = {"num_classes": 7}
  if sizes.family == "vit":
    options["dynamic_img_size"] = True
  torch, network = random_network(name, **options)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "w.pth"
    torch.save(network.state_dict(), path)
    raw = pretrained.read_weights(path)
    weights = pretrained.load(str(path), name)
  variables = {"params": weights.params, "batch_stats": weights.batch_stats}
  places, sides = _places(sizes)
  modules = dict(network.named_modules())
  seen = {}
  for unit, place in places.items():
    modules[place].register_forward_hook(
      lambda _, __, out, unit=unit: seen.__setitem__(unit, out.numpy())
    )

  # Weights as an argument: as constants they would be part of the program.
  @jax.jit
  def run(variables: Any, images: jax.Array) -> dict[int, jax.Array]:
    x, out = images, {}
    for unit in range(sizes.last + 1):
      x = sizes.network(first=unit, last=unit).apply(variables, x)
      out[unit] = x
    return out

  found = []
  random = np.random.default_rng(0)
  for size in sides:
    images = random.standard_normal((2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
      want = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    maps = jax.tree.map(np.asarray, run(variables, images))
    for unit, expected in seen.items():
      if expected.ndim == 4:
        expected = expected.transpose(0, 2, 3, 1)
      found.append((size, f"unit {unit}", _error(maps[unit], expected)))
    logits = _logits(sizes.family, raw, maps)
    found.append((size, "logits", _error(logits, want)))
    if size == sides[0]:
      whole = np.asarray(jax.jit(sizes.network().apply)(variables, images))
      found.append((size, "in one piece", _error(whole, maps[sizes.last])))
  return found


def libraries() -> tuple[Any, Any]:
  """torch and timm.

  Torchvision's wheel is built for another torch than the CPU's: its operators
  are missing, and describing them to `torch.library` fails at import.
  """
  import torch

  with mock.patch.object(
    torch.library, "register_fake", lambda *_, **__: lambda function: function
  ):
    import timm
  return torch, timm


def random_network(name: str, **options: Any) -> tuple[Any, Any]:
  """torch, and a network of timm whose norms, too, hold random values."""
  torch, timm = libraries()
  torch.manual_seed(0)
  network = timm.create_model(name, pretrained=False, **options).eval()
  for place, module in network.named_modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.running_mean.normal_(0, 0.3)
      module.running_var.uniform_(0.5, 2)
    if isinstance(module, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
      module.weight.data.uniform_(0.5, 1.5)
      module.bias.data.normal_(0, 0.2)
    # What scales a branch: were branches as large as what they are added to,
    # 50 blocks would amplify the rounding of the first a hundred times.
    if isinstance(getattr(module, "gamma", None), torch.nn.Parameter):
      module.gamma.data.uniform_(0.1, 0.5)
    if place.endswith(".bn3"):
      module.weight.data.uniform_(0.1, 0.5)
  return torch, network


def _places(sizes: Any) -> tuple[dict[int, str], tuple[int, int]]:
  """Unit -> timm's module whose output is the same, and two image sizes."""
  if sizes.family == "efficientnet":
    stages = {u: f"blocks.{u - 1}" for u in range(1, 8)}
    return {0: "bn1", **stages, 8: "bn2"}, (96, 65)
  if sizes.family == "resnet":
    return {0: "maxpool", **{u: f"layer{u}" for u in range(1, 5)}}, (96, 65)
  if sizes.family == "convnext":
    return {0: "stem", **{u: f"stages.{u - 1}" for u in range(1, 5)}}, (96, 64)
  places = {u: f"blocks.{u * sizes.depth // 4 - 1}" for u in range(1, 5)}
  # Fewer positions than were published, and as many or more.
  return places, ((96, 224) if sizes.patch == 16 else (70, 112))


def _logits(family: str, raw: Any, maps: dict[int, np.ndarray]) -> np.ndarray:
  """timm's classifier on our maps [B, H, W, C] by unit."""
  if family == "efficientnet":
    x = maps[8].mean((1, 2))
    return x @ raw["classifier.weight"].T + raw["classifier.bias"]
  if family == "resnet":
    return maps[4].mean((1, 2)) @ raw["fc.weight"].T + raw["fc.bias"]
  if family == "convnext":
    # timm norms the average, we its map: so from the unit before.
    x = maps[4].mean((1, 2))
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
      x.var(-1, keepdims=True) + 1e-6
    )
    x = x * raw["head.norm.weight"] + raw["head.norm.bias"]
    return x @ raw["head.fc.weight"].T + raw["head.fc.bias"]
  token = maps[5][:, 0, 0, maps[5].shape[-1] // 2 :]
  return token @ raw["head.weight"].T + raw["head.bias"]


def _error(found: np.ndarray, expected: np.ndarray) -> float:
  return float(np.abs(found - expected).max() / np.abs(expected).max())


def page(rows: dict[str, list[Difference]], versions: str) -> str:
  """The table as Markdown.

  Args:
    rows: differences by backbone.
    versions: of what was compared.
  """
  lines = [
    "# Backbones compared with timm",
    "Written by\n\n    python benchmarks/parity.py --out=docs/parity.md",
    f"{versions}. Random weights and statistics, written by PyTorch, read by "
    "`pretrained.load`; float32. Largest difference over largest value, of the "
    "worst unit (`models/backbones`), the logits, and the network in one piece "
    "against its units one by one; at two image sizes. `make parity` refuses "
    "1e-4.",
    "| backbone | sizes | units | worst unit | logits | in one piece |\n"
    "|---|---|---|---|---|---|",
  ]
  for name, found in rows.items():
    worst: dict[str, float] = {}
    for _, what, error in found:
      kind = "unit" if what.startswith("unit") else what
      worst[kind] = max(error, worst.get(kind, 0.0))
    sizes = " and ".join(
      str(size) for size in dict.fromkeys(f[0] for f in found)
    )
    units = len({what for _, what, _ in found if what.startswith("unit")})
    cells = [f"`{name}`", sizes, units]
    cells += [f"{worst[k]:.1e}" for k in ("unit", "logits", "in one piece")]
    lines[-1] += "\n| " + " | ".join(map(str, cells)) + " |"
  return "\n\n".join(lines) + "\n"


def main() -> None:
  """Flags -> the page."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--out", required=True, help="Markdown file to write.")
  out = parser.parse_args().out
  rows = {}
  for name in names():
    rows[name] = differences(name)
    print(f"{name}: {max(error for _, _, error in rows[name]):.1e}", flush=True)
  torch, timm = libraries()
  versions = f"timm {timm.__version__}, PyTorch {torch.__version__}"
  files.write_text(out, page(rows, f"{versions}, jax {jax.__version__}"))


if __name__ == "__main__":
  main()
