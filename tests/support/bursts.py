"""Bursts of drawn birds: frames of one scene, as a shaking camera has them."""

import io
import pathlib

import numpy as np
from PIL import Image

from mtlmoe_jax.data.drawn import synthetic
from mtlmoe_jax.ops import boxes as boxes_lib

# Groups the frames of `write`.
PATTERN = r"pattern:(.+)_\d+\.jpg"


def write(
  root: pathlib.Path,
  split: str,
  classes: int,
  scenes: int,
  frames: int,
  size: int = 96,
) -> None:
  """Writes CLASS/SPLITSCENE_FRAME.jpg and boxes.csv.

  A scene is one drawn bird; a frame a crop of it, a little darker or lighter
  than the next, with noise, as JPEG.

  Args:
    root: the folder.
    split: "train" or "test": the scenes of one are none of the other's.
    classes: species.
    scenes: of each.
    frames: of each scene.
    size: side of a scene, pixels.
  """
  source = synthetic.Synthetic(split, classes, scenes, size, 0)
  rows = ["path,x_min,y_min,x_max,y_max"]
  for i in range(len(source)):
    record = source[i]
    for frame in range(frames):
      random = np.random.default_rng([i, frame])
      side = int(size * random.uniform(0.9, 1))
      x, y = random.integers(0, size - side + 1, 2)
      pixels = record["image"][y : y + side, x : x + side]
      pixels = pixels * random.uniform(0.85, 1.15)
      pixels = pixels + random.normal(0, 4, pixels.shape)
      window = np.array([x, y, x + side, y + side]) / size
      box, _ = boxes_lib.crop(record["box"].astype(np.float64), window)
      kind = source.class_names[record["label"]]
      name = f"{kind}/{split}{i % scenes:03d}_{frame}.jpg"
      buffer = io.BytesIO()
      Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(
        buffer, "JPEG", quality=int(random.integers(70, 95))
      )
      (root / name).parent.mkdir(parents=True, exist_ok=True)
      (root / name).write_bytes(buffer.getvalue())
      rows.append(",".join([name, *(f"{v:.5f}" for v in box)]))
  (root / "boxes.csv").write_text("\n".join(rows) + "\n")
