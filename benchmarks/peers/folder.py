# ruff: noqa: E402
"""A folder of photographs predicted as one would write it with PyTorch.

  python folder.py FOLDER OUT.csv [--compile] [--size=224] [--batch=16]

A timm network with a class head and a box head, a DataLoader with two workers,
channels_last, no gradients; a row an image: its name, class, probability and
box. Prints a line of JSON: seconds of all, and of the loop alone.
"""

import argparse
import csv
import json
import pathlib
import time

BEGUN = time.perf_counter()

import numpy as np
import torch
from imports import timm
from PIL import Image
from torch import nn


class Photographs(torch.utils.data.Dataset):
  """Files, decoded and scaled to a square."""

  def __init__(self, paths: list[pathlib.Path], size: int):
    self.paths, self.size = paths, size

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int]:
    image = Image.open(self.paths[index]).convert("RGB")
    width, height = image.size
    image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1), width, height


class TwoTowers(nn.Module):
  """A backbone with two heads."""

  def __init__(self, name: str, classes: int):
    super().__init__()
    self.backbone = timm.create_model(name, num_classes=0)
    width = self.backbone.num_features
    self.classes, self.box = nn.Linear(width, classes), nn.Linear(width, 4)

  def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and boxes of u8 [B, 3, S, S]."""
    features = self.backbone((images.float() - 127.0) / 128.0)
    probabilities = self.classes(features).softmax(-1)
    return probabilities, self.box(features).sigmoid()


def main() -> None:
  """Reads the arguments, writes the table."""
  parser = argparse.ArgumentParser()
  parser.add_argument("folder")
  parser.add_argument("out")
  parser.add_argument("--compile", action="store_true")
  parser.add_argument("--network", default="efficientnet_lite0")
  parser.add_argument("--classes", type=int, default=10)
  parser.add_argument("--size", type=int, default=224)
  parser.add_argument("--batch", type=int, default=16)
  args = parser.parse_args()
  model = TwoTowers(args.network, args.classes).eval()
  model = model.to(memory_format=torch.channels_last)
  call = torch.compile(model) if args.compile else model
  paths = sorted(pathlib.Path(args.folder).iterdir())
  loader = torch.utils.data.DataLoader(
    Photographs(paths, args.size), args.batch, num_workers=2
  )
  loop = time.perf_counter()
  done = 0
  with open(args.out, "w", newline="") as file, torch.inference_mode():
    writer = csv.writer(file)
    writer.writerow(["id", "class", "probability", "x1", "y1", "x2", "y2"])
    for images, widths, heights in loader:
      images = images.contiguous(memory_format=torch.channels_last)
      probabilities, boxes = call(images)
      best, chosen = probabilities.max(-1)
      sides = torch.stack([widths, heights, widths, heights], -1)
      for row in zip(chosen, best, boxes * sides, strict=True):
        corners = row[2].tolist()
        name = str(paths[done])
        writer.writerow([name, int(row[0]), float(row[1]), *corners])
        done += 1
  now = time.perf_counter()
  print(json.dumps({"all": now - BEGUN, "loop": now - loop, "images": done}))


if __name__ == "__main__":
  main()
