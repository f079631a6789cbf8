"""Training steps in PyTorch, tuned as a careful user would.

Channels last, gradients set to None, the quickest of AdamW's variants,
`inference_mode` where there is no backward pass. torch.compile takes an expert
at a time: experts share one compilation, and XLA-sized graphs of six of them
gain nothing.

Letters: B images, H = W image size.
"""

import time
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn import functional

from peers import machine
from peers.imports import ops, timm
from peers.mmoe import MMoE, freeze_statistics
from shapes import CLASSES, training_batch

Run = Callable[[], None]


def mmoe(
  backbone: str,
  experts: int,
  size: int,
  batch: int,
  compiled: bool,
  dtype: str = "float32",
) -> tuple[Run, dict]:
  """A train step of the dense MMoE: smoothed cross-entropy and complete IoU.

  Args:
    backbone: timm's name.
    experts: N.
    size: H.
    batch: B.
    compiled: experts, gates and towers by torch.compile.
    dtype: "float32", or "bfloat16" by autocast.
  """
  torch.manual_seed(0)
  data = _batch(batch, size)
  model = MMoE(backbone, experts, CLASSES, grid=-(-size // 32)).train()
  model = model.to(machine.device(), memory_format=torch.channels_last)
  if compiled:
    for part in (
      *model.experts,
      *model.gates,
      model.tower_class,
      model.tower_box,
    ):
      part.compile()

  def loss() -> torch.Tensor:
    with machine.autocast(dtype):
      logits, box = model(_normalise(data["image"]))
    classes = functional.cross_entropy(
      logits.float(), data["label"], label_smoothing=0.1
    )
    boxes = ops.complete_box_iou_loss(box.float(), data["box"], "mean")
    return classes + boxes

  return _step(model, loss, {"images": batch})


def one_expert(
  backbone: str,
  size: int,
  batch: int,
  train: bool,
  compiled: bool,
  dtype: str = "float32",
) -> tuple[Run, dict]:
  """A backbone with a linear classifier: a step of AdamW, or forward.

  BatchNorm with stored statistics and trained scales, as in fine-tuning.

  Args:
    backbone: timm's name.
    size: H.
    batch: B.
    train: the whole step; else logits.
    compiled: by torch.compile.
    dtype: "float32", or "bfloat16" by autocast.
  """
  torch.manual_seed(0)
  data = _batch(batch, size)
  model = timm.create_model(backbone, num_classes=CLASSES, drop_rate=0.0)
  model = freeze_statistics(model.train(train))
  model = model.to(machine.device(), memory_format=torch.channels_last)
  if compiled:
    model.compile()

  def logits() -> torch.Tensor:
    with machine.autocast(dtype):
      return model(_normalise(data["image"])).float()

  def loss() -> torch.Tensor:
    return functional.cross_entropy(
      logits(), data["label"], label_smoothing=0.1
    )

  def forward() -> None:
    with torch.inference_mode():
      logits()
    machine.wait()

  info = {"images": batch}
  return _step(model, loss, info) if train else (forward, info)


def _step(
  model: nn.Module, loss: Callable[[], torch.Tensor], info: dict
) -> tuple[Run, dict]:
  params = list(model.parameters())
  loss().backward()
  name, optimizer = _quickest_adamw(params)

  def run() -> None:
    optimizer.zero_grad(set_to_none=True)
    loss().backward()
    nn.utils.clip_grad_norm_(params, 1.0, foreach=True)
    optimizer.step()
    machine.wait()

  return run, {**info, "optimizer": name}


def _quickest_adamw(
  params: Iterable[nn.Parameter],
) -> tuple[str, torch.optim.Optimizer]:
  """Of the fused and the foreach one, by trying both on the gradients."""
  tried = []
  for name in ("fused", "foreach"):
    optimizer = torch.optim.AdamW(
      params, lr=1e-4, weight_decay=1e-2, **{name: True}
    )
    optimizer.step()
    machine.wait()
    began = time.perf_counter()
    for _ in range(3):
      optimizer.step()
    machine.wait()
    tried.append((time.perf_counter() - began, name, optimizer))
  return min(tried, key=lambda entry: entry[0])[1:]


def _batch(batch: int, size: int) -> dict[str, torch.Tensor]:
  """On the device; images [B, 3, H, W] that are channels last in memory."""
  data = {
    name: torch.from_numpy(value).to(machine.device())
    for name, value in training_batch(batch, size).items()
  }
  return {
    "image": data["image"].permute(0, 3, 1, 2),
    "label": data["label"].long(),
    "box": data["box"],
  }


def _normalise(image: torch.Tensor) -> torch.Tensor:
  return (image.float() - 127.0) / 128.0
