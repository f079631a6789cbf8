"""Opening 50,000 annotated images: ours beside pycocotools' own loading.

  python benchmarks/opening.py [--rounds 10] [--json FILE] [--list]

A COCO file of 50,000 images with one to three objects each, and as many empty
files for the images: headers are not read where the file says the size. Ours
parses, finds every image, checks every box and parts the data set;
pycocotools parses and indexes. `opening_memory` is the ratio of the most bytes
that either process has held, all imports with it.
"""

import atexit
import functools
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile

import harness
from harness import Contestant, Row

_IMAGES, _IMAGES_SMALL, _CLASSES = 50_000, 50, 80
_WIDTH, _HEIGHT = 640, 480


def rows(small: bool) -> list[Row]:
  folder = pathlib.Path(tempfile.gettempdir(), f"mtlmoe-coco-{os.getpid()}")
  options = {"folder": str(folder)}
  prepare = functools.partial(
    _write_once, folder, _IMAGES_SMALL if small else _IMAGES
  )
  ours = Contestant("ours", "ours.opening:coco", options)
  theirs = Contestant(
    "pycocotools", "peers.coco:load", options, needs=("pycocotools",)
  )
  return [
    Row(
      "opening_coco",
      "a COCO file opened, every image found and every box checked",
      ours,
      (theirs,),
      prepare=prepare,
    ),
    Row(
      "opening_memory",
      "the same: most bytes of the process",
      ours,
      (theirs,),
      quantity="bytes",
      prepare=prepare,
    ),
  ]


def _write_once(folder: pathlib.Path, count: int) -> None:
  """Writes `annotations.json` and empty files for its images."""
  if folder.exists():
    return
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  (folder / "images").mkdir(parents=True)
  rng = random.Random(0)
  images, found = [], []
  for i in range(count):
    name = f"{i:06d}.jpg"
    (folder / "images" / name).touch()
    images.append(
      {"id": i, "file_name": name, "width": _WIDTH, "height": _HEIGHT}
    )
    for _ in range(rng.choice((1, 1, 2, 3))):
      x, y = rng.uniform(0, 400), rng.uniform(0, 300)
      w, h = rng.uniform(20, 200), rng.uniform(20, 150)
      found.append(
        {
          "id": len(found),
          "image_id": i,
          "category_id": rng.randrange(_CLASSES),
          "bbox": [x, y, w, h],
          "area": w * h,
          "iscrowd": 0,
          "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        }
      )
  classes = [{"id": i, "name": f"class {i}"} for i in range(_CLASSES)]
  value = {"images": images, "annotations": found, "categories": classes}
  (folder / "annotations.json").write_text(json.dumps(value))


if __name__ == "__main__":
  sys.exit(harness.main(harness.parser(__doc__), rows))
