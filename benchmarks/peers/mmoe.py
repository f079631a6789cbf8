"""Dense multi-gate mixture of experts in PyTorch with timm experts.

Written from Ma et al., "Modeling Task Relationships in Multi-task Learning with
Multi-gate Mixture-of-Experts" (KDD 2018): every expert runs on every image;
each task has a softmax gate over all experts (eqs. 6-7) and a tower. Experts,
condense layers, gates and towers are those of this package, layer by layer, so
that the two do the same work but for the selection.

Letters: B images, N experts, D condensed width, G side of the coarse grid.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from peers.imports import timm


class Expert(nn.Module):
  """A timm backbone and its condense layer: [B, 3, H, W] -> [B, G, G, D].

  BatchNorm uses stored statistics; its scales and offsets are trained.
  """

  def __init__(self, backbone: str, features: int):
    super().__init__()
    self.backbone = timm.create_model(backbone, num_classes=0, global_pool="")
    self.condense = nn.Linear(self.backbone.num_features, features)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps images to features, channels last: the permutation is free."""
    x = self.backbone(x).permute(0, 2, 3, 1)
    return functional.silu(self.condense(x))


class Gate(nn.Sequential):
  """Three strided convolutions with GroupNorm, average, softmax over N."""

  def __init__(self, experts: int, width: int):
    layers, channels = [], 3
    for features in (width, 2 * width, 4 * width):
      layers += [
        nn.Conv2d(channels, features, 3, 2, 1, bias=False),
        nn.GroupNorm(features // math.gcd(features, 16), features),
        nn.SiLU(),
      ]
      channels = features
    super().__init__(
      *layers,
      nn.AdaptiveAvgPool2d(1),
      nn.Flatten(),
      nn.Linear(channels, experts),
      nn.Softmax(1),
    )


class ClassTower(nn.Module):
  """[B, G, G, D] -> logits."""

  def __init__(self, features: int, hidden: int, classes: int, dropout: float):
    super().__init__()
    self.layers = nn.Sequential(
      nn.Dropout(dropout),
      nn.Linear(features, hidden),
      nn.SiLU(),
      nn.Linear(hidden, classes),
    )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Averages over the grid first."""
    return self.layers(x.mean((1, 2)))


class BoxTower(nn.Module):
  """[B, G, G, D] -> boxes xyxy [B, 4]."""

  def __init__(self, features: int, grid: int, hidden: int, dropout: float):
    super().__init__()
    self.layers = nn.Sequential(
      nn.Linear(features, 64),
      nn.SiLU(),
      nn.Flatten(),
      nn.Dropout(dropout),
      nn.Linear(64 * grid * grid, hidden),
      nn.SiLU(),
      nn.Linear(hidden, 4),
      nn.Sigmoid(),
    )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Decodes centre and sides."""
    centre, side = self.layers(x).chunk(2, 1)
    return torch.cat([centre - side / 2, centre + side / 2], 1)


class MMoE(nn.Module):
  """Two gates and two towers over N shared experts."""

  def __init__(
    self,
    backbone: str,
    experts: int,
    classes: int,
    grid: int,
    features: int = 256,
    hidden: int = 256,
    gate_width: int = 32,
    dropout: float = 0.2,
  ):
    super().__init__()
    self.experts = nn.ModuleList(
      Expert(backbone, features) for _ in range(experts)
    )
    self.gates = nn.ModuleList(Gate(experts, gate_width) for _ in range(2))
    self.tower_class = ClassTower(features, hidden, classes, dropout)
    self.tower_box = BoxTower(features, grid, hidden, dropout)

  def train(self, mode: bool = True) -> "MMoE":
    """As usual, but the statistics of BatchNorm stay."""
    super().train(mode)
    return freeze_statistics(self)

  def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps normalised [B, 3, H, W] to logits and boxes."""
    features = torch.stack([expert(images) for expert in self.experts])
    small = functional.adaptive_avg_pool2d(
      images, images.shape[-1] // math.ceil(images.shape[-1] / 112)
    )
    combined = [
      torch.einsum("bn,nbhwd->bhwd", gate(small), features)
      for gate in self.gates
    ]
    return self.tower_class(combined[0]), self.tower_box(combined[1])


def freeze_statistics(model: nn.Module) -> nn.Module:
  """Puts every BatchNorm into evaluation mode."""
  for module in model.modules():
    if isinstance(module, nn.BatchNorm2d):
      module.eval()
  return model
