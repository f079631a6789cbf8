"""Timm and torchvision, also beside a torch that torchvision is not built for.

The torchvision on PyPI is a CUDA build: beside a CPU build of torch its
operators do not load, and its import fails where it describes their shapes to
the compiler. No benchmark uses those operators.
"""

import torch


def _import_torchvision() -> None:
  register = torch.library.register_fake
  torch.library.register_fake = lambda *_, **__: lambda function: function
  try:
    import torchvision  # noqa: F401
  finally:
    torch.library.register_fake = register


_import_torchvision()

import timm  # noqa: E402
from torchvision import ops, tv_tensors  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

__all__ = ["ops", "timm", "tv_tensors", "v2"]
