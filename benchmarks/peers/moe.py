"""A sparse mixture-of-experts layer in PyTorch with index dispatch.

Written from Shazeer et al., "Outrageously Large Neural Networks" (2017): noisy
top-k gating (eqs. 3-5), importance loss (eqs. 6-7) and load loss (eqs. 8-10 of
appendix A). Dropless: each expert gets just the rows that chose it.

Letters: B images or tokens, N experts, K selected, C H W the map, D channels.
"""

import math

import torch
from torch import nn
from torch.nn import functional

SQRT2 = math.sqrt(2)


class NoisyTopKGate(nn.Module):
  """The gate; it starts with zero weights as in appendix A."""

  def __init__(self, width: int, experts: int, k: int):
    super().__init__()
    self.k = k
    self.signal = nn.Parameter(torch.zeros(width, experts))
    self.scale = nn.Parameter(torch.zeros(width, experts))

  def forward(
    self, x: torch.Tensor, noise: torch.Tensor
  ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Routes x [B, D] with standard normal noise [B, N].

    Returns:
      Chosen experts i64 [B, K], their weights [B, K], and the sum of the
      importance and the load loss.
    """
    clean = x @ self.signal
    std = functional.softplus(x @ self.scale) + 0.01
    noisy = clean + noise * std
    k, experts = self.k, clean.shape[1]
    values, chosen = noisy.topk(min(k + 1, experts), dim=1)
    weights = torch.softmax(values[:, :k], 1)
    chosen = chosen[:, :k]
    importance = torch.zeros_like(clean).scatter(1, chosen, weights).sum(0)
    aux = cv_squared(importance)
    if k < experts:
      # The k-th largest of the others: for a chosen one the (k+1)-th of all.
      inside = noisy > values[:, k : k + 1]
      threshold = torch.where(
        inside, values[:, k : k + 1], values[:, k - 1 : k]
      )
      sigmas = (clean - threshold) / std
      load = (0.5 * (1 + torch.erf(sigmas / SQRT2))).sum(0)
      aux = aux + cv_squared(load)
    return chosen, weights, aux


def cv_squared(values: torch.Tensor) -> torch.Tensor:
  """Squared coefficient of variation over experts."""
  return values.var(unbiased=False) / values.mean() ** 2


class SparseMoE(nn.Module):
  """Gate, experts on their own rows, weighted sum back.

  The rows are gathered once, ordered by expert, and split: one `index_select`
  and one `index_add` for all experts.
  """

  def __init__(self, gate: nn.Module, experts: list[nn.Module]):
    super().__init__()
    self.gate = gate
    self.experts = nn.ModuleList(experts)

  def forward(
    self, x: torch.Tensor, noise: torch.Tensor
  ) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps x [B, D] or [B, C, H, W] to [B, D'], and the balance losses."""
    pooled = x.mean((2, 3)) if x.dim() == 4 else x
    # In float32 whatever the experts compute in, as ours is.
    with torch.autocast(x.device.type, enabled=False):
      chosen, weights, aux = self.gate(pooled.float(), noise)
    flat = chosen.flatten()
    order = flat.argsort()
    rows = order.div(chosen.shape[1], rounding_mode="floor")
    counts = torch.bincount(flat, minlength=len(self.experts)).tolist()
    pieces = x.index_select(0, rows).split(counts)
    outputs = [
      expert(piece) for expert, piece in zip(self.experts, pieces) if len(piece)
    ]
    outputs = torch.cat(outputs)
    outputs = outputs * weights.flatten()[order, None].to(outputs.dtype)
    out = outputs.new_zeros(x.shape[0], outputs.shape[1])
    return out.index_add(0, rows, outputs), aux


class ConvExpert(nn.Module):
  """Bottleneck 1x1, 3x3, 1x1 with rectifiers between, then the average."""

  def __init__(self, width: int, hidden: int, out: int):
    super().__init__()
    self.layers = nn.Sequential(
      nn.Conv2d(width, hidden, 1, bias=False),
      nn.ReLU(inplace=True),
      nn.Conv2d(hidden, hidden, 3, padding=1, bias=False),
      nn.ReLU(inplace=True),
      nn.Conv2d(hidden, out, 1, bias=False),
    )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps [B, C, H, W] to [B, D]."""
    return self.layers(x).mean((2, 3))


def mlp_expert(width: int, hidden: int, out: int, activation: str) -> nn.Module:
  """Two layers with biases, [B, C] -> [B, D]."""
  act = {"relu": nn.ReLU(), "gelu": nn.GELU(approximate="tanh")}[activation]
  return nn.Sequential(nn.Linear(width, hidden), act, nn.Linear(hidden, out))
