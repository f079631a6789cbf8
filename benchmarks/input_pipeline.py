"""Input pipelines: JPEG files to batches of 224 px crops with their boxes.

  python benchmarks/input_pipeline.py [--only NAME ...] [--rounds 10]
      [--json FILE] [--merge FILE ...] [--list]

JPEG files of 500 x 375 pixels (quality 90, drawn here into a temporary folder)
are decoded, cropped at random, resized and flipped, each with its box. Ours is
the Grain pipeline with 2 threads; PyTorch is a DataLoader with 2 processes and
torchvision's transforms v2, the quickest one of transforming Pillow's images,
the same as tensors, or what torchvision decoded (where its decoder loads).
`cached_vs_torch` keeps our decoded images in memory, which the processes of a
DataLoader cannot share.
"""

import atexit
import functools
import os
import pathlib
import shutil
import sys
import tempfile

import numpy as np
from PIL import Image

import harness
from harness import Contestant, Row

_WIDTH, _HEIGHT, _QUALITY = 500, 375, 90
_FILES, _FILES_SMALL = 512, 24


def rows(small: bool) -> list[Row]:
  folder = pathlib.Path(tempfile.gettempdir(), f"mtlmoe-jpeg-{os.getpid()}")
  size = 32 if small else 224
  options = {"folder": str(folder), "size": size, "batch": 4 if small else 16}
  torch = tuple(
    Contestant(
      f"torch {kind}",
      "peers.loader:loader",
      {**options, "kind": kind},
      needs=harness.TORCH_MODELS,
      # A torchvision that was not built for this torch cannot decode.
      optional=kind == "decode_jpeg",
    )
    for kind in ("pillow", "tensor", "decode_jpeg")
  )
  prepare = functools.partial(_draw_once, folder, small)
  return [
    Row(
      "cold_vs_torch",
      "JPEG to crops, decoded each time: ours against DataLoader",
      Contestant("ours", "ours.pipeline:batches", {**options, "cache": False}),
      torch,
      1.2,
      prepare=prepare,
    ),
    Row(
      "cached_vs_torch",
      "JPEG to crops, ours from its cache: against DataLoader",
      Contestant("ours", "ours.pipeline:batches", {**options, "cache": True}),
      torch,
      5.0,
      prepare=prepare,
    ),
  ]


def _draw_once(folder: pathlib.Path, small: bool) -> None:
  if folder.exists():
    return
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  draw_files(folder, _FILES_SMALL if small else _FILES)


def draw_files(folder: pathlib.Path, count: int) -> None:
  """Writes JPEG files and boxes.csv, in the layout of `data.name="folder"`.

  The pictures are noise whose power falls with frequency as it does in
  photographs (amplitude ~ 1 / f), so that a file takes as many bytes.
  """
  random = np.random.default_rng(0)
  rows_, columns = np.fft.fftfreq(_HEIGHT), np.fft.rfftfreq(_WIDTH)
  frequency = np.hypot(rows_[:, None], columns)[..., None]
  amplitude = 1 / np.maximum(frequency, 1 / _WIDTH)
  table = ["path,x_min,y_min,x_max,y_max"]
  for index in range(count):
    noise = random.standard_normal((_HEIGHT, _WIDTH, 3))
    # Channels that mostly agree.
    noise = noise + 3 * noise.mean(-1, keepdims=True)
    waves = np.fft.rfft2(noise, axes=(0, 1)) * amplitude
    picture = np.fft.irfft2(waves, (_HEIGHT, _WIDTH), axes=(0, 1))
    picture = 128 + picture * (50 / picture.std())
    name = f"{'train' if index % 8 else 'test'}/{index % 2}/{index:04d}.jpg"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = picture.clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=_QUALITY)
    x, y = random.uniform(0, 0.4, 2)
    w, h = random.uniform(0.3, 0.6, 2)
    table.append(f"{name},{x:.4f},{y:.4f},{x + w:.4f},{y + h:.4f}")
  (folder / "boxes.csv").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
  sys.exit(harness.main(harness.parser(__doc__), rows))
