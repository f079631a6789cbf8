"""A PyTorch DataLoader with torchvision's transforms v2 as a contestant."""

import csv
import pathlib
from collections.abc import Callable, Iterator

import torch
from PIL import Image
from torch.utils import data

from peers.imports import tv_tensors, v2
from shapes import BATCHES

PROCESSES = 2


class Pictures(data.Dataset):
  """JPEG files and their boxes, cropped at random, resized and flipped."""

  def __init__(self, folder: str, size: int, kind: str):
    self._root = pathlib.Path(folder)
    with (self._root / "boxes.csv").open(newline="") as file:
      rows = [r for r in csv.DictReader(file) if r["path"].startswith("train/")]
    self._names = [row["path"] for row in rows]
    self._boxes = [
      [float(row[c]) for c in ("x_min", "y_min", "x_max", "y_max")]
      for row in rows
    ]
    self._load = {
      "pillow": _pillow,
      "tensor": lambda path: v2.functional.pil_to_tensor(_pillow(path)),
      "decode_jpeg": _decode_jpeg,
    }[kind]
    last = [v2.PILToTensor()] if kind == "pillow" else []
    self._transform = v2.Compose(
      [
        v2.RandomResizedCrop(
          size, scale=(0.35, 1.0), ratio=(3 / 4, 4 / 3), antialias=True
        ),
        v2.RandomHorizontalFlip(),
        *last,
      ]
    )
    self._size = size

  def __len__(self) -> int:
    return len(self._names)

  def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    name = self._names[index]
    image = self._load(self._root / name)
    height, width = v2.functional.get_size(image)
    box = tv_tensors.BoundingBoxes(
      torch.tensor([self._boxes[index]]) * torch.tensor([width, height] * 2),
      format="XYXY",
      canvas_size=(height, width),
    )
    image, box = self._transform(image, box)
    label = int(name.split("/")[1])
    return image, box.as_subclass(torch.Tensor)[0] / self._size, label


def _pillow(path: pathlib.Path) -> Image.Image:
  with Image.open(path) as image:
    return image.convert("RGB")


def _decode_jpeg(path: pathlib.Path) -> torch.Tensor:
  from torchvision import io

  return io.decode_jpeg(io.read_file(str(path)), io.ImageReadMode.RGB)


def loader(
  folder: str, size: int, batch: int, kind: str
) -> tuple[Callable[[], None], dict]:
  """`BATCHES` batches, from two processes that live on between epochs.

  Args:
    folder: of images and boxes.csv.
    size: side of the crops.
    batch: images of a batch.
    kind: what is decoded and transformed: "pillow" (images by Pillow),
      "tensor" (the same as tensors) or "decode_jpeg" (by torchvision).
  """
  pictures = Pictures(folder, size, kind)
  # Here, not in a process of the loader, is where a decoder's absence shows.
  pictures[0]
  batches = data.DataLoader(
    pictures,
    batch_size=batch,
    shuffle=True,
    drop_last=True,
    num_workers=PROCESSES,
    persistent_workers=True,
    prefetch_factor=4,
  )
  iterator = _endless(batches)

  def run() -> None:
    for _ in range(BATCHES):
      next(iterator)

  return run, {"images": BATCHES * batch}


def _endless(batches: data.DataLoader) -> Iterator:
  while True:
    yield from batches
