"""Rows of predictions and what is known of their run, without a model."""

import datetime
import pathlib

import numpy as np
from PIL import Image

from mtlmoe_jax.predicting.formats import About

NAMES = ("wren", "quail, common", 'Ñandú <&> "é"')
TIME = "2026-11-30T09:30:00+01:00"
MODEL = "mtlmoe_jax 0.3.0, 3 x efficientnet_lite0, step 120"


def about(**values) -> About:
  """A run of both tasks over whole images."""
  return About(
    **{
      **{"class_names": NAMES, "model": MODEL, "tasks": ("class", "box")},
      **{"time": TIME, "root": "photos"},
      **values,
    }
  )


def corners(*shares, width=400, height=200):
  """A box as rows have it."""
  sides = (width, height, width, height)
  pixels = [round(v * s, 2) for v, s in zip(shares, sides)]
  return {"pixels": pixels, "normalised": list(shares)}


def row(name="photos/a/one.jpg", best=0, **values):
  """A row of an image that was read; of class `best`."""
  order = [best, *(i for i in range(len(NAMES)) if i != best)]
  found = {
    **{"id": name, "width": 400, "height": 200, "class": NAMES[best]},
    **{"class_index": best, "probability": 0.75},
    "top5": [
      {"class": NAMES[i], "probability": p}
      for i, p in zip(order, (0.75, 0.1875, 0.0625))
    ],
    "box": corners(0.25, 0.1, 0.75, 0.6),
    "experts": {
      "class": [{"expert": 2, "weight": 0.6}, {"expert": 0, "weight": 0.4}],
      "box": [{"expert": 1, "weight": 1.0}],
    },
    **{"error": None, "overlay": "one.jpg", "passport": "0123456789abcdef"},
  }
  return {**found, **values}


def failed(name="photos/a/bad.jpg", **values):
  """A row of a file that could not be read."""
  empty = dict.fromkeys(
    ("width", "height", "class", "class_index", "probability", "top5", "box")
  )
  found = row(name, **empty)
  error = "image file is truncated"
  return {**found, "experts": {}, "error": error, "overlay": None, **values}


def detected(name="photos/a/one.jpg", shares=(0.2, 0.1, 0.7, 0.5), **values):
  """A row of an object that a detector found."""
  confidence = values.pop("confidence", 0.9)
  category = values.pop("category", "animal")
  found = {**corners(*shares), "confidence": confidence, "category": category}
  return row(name, **{"detection": found, **values})


def frame(number, name="photos/a/film.mp4", rate=25.0, **values):
  """A row of a frame of a video."""
  seconds = round(number / rate, 6)
  return row(name, **{"frame": number, "seconds": seconds, **values})


def photograph(path: pathlib.Path, taken="2026-05-31 14:03:07", zone=""):
  """A JPEG file that tells when it was taken, or not."""
  path.parent.mkdir(parents=True, exist_ok=True)
  image = Image.fromarray(np.full((20, 40, 3), 90, np.uint8))
  exif = Image.Exif()
  if taken:
    time = datetime.datetime.fromisoformat(taken)
    inner = {0x9003: time.strftime("%Y:%m:%d %H:%M:%S")}
    exif[0x8769] = {**inner, 0x9011: zone} if zone else inner
  image.save(path, exif=exif)
  return str(path)
