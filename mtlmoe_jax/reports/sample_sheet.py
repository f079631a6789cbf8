"""A look at a data set: some images in one picture, with their boxes."""

import io
import math
import pathlib
from collections.abc import Sequence

from PIL import Image, ImageDraw

from mtlmoe_jax.data.source import Source
from mtlmoe_jax.utils import files

SAMPLES = 10
_COLUMNS = 5
_TILE = 224  # side of a sample, pixels
_TEXT = 28  # height of its caption
_COLOR = (255, 40, 40)


def write(
  path: str | pathlib.Path, source: Source, positions: Sequence[int]
) -> None:
  """Writes samples of a data set as one picture, each with its box.

  Args:
    path: the PNG file.
    source: the data set.
    positions: images to choose from, at least one; up to ten are shown, spread
      evenly over them.
  """
  count = min(SAMPLES, len(positions))
  chosen = [positions[i * len(positions) // count] for i in range(count)]
  rows = math.ceil(count / _COLUMNS)
  sheet = Image.new("RGB", (_COLUMNS * _TILE, rows * (_TILE + _TEXT)), "white")
  draw = ImageDraw.Draw(sheet)
  for place, index in enumerate(chosen):
    record = source[index]
    left = place % _COLUMNS * _TILE
    top = place // _COLUMNS * (_TILE + _TEXT) + _TEXT
    picture = Image.fromarray(record["image"])
    picture.thumbnail((_TILE, _TILE))
    sheet.paste(picture, (left, top))
    if record["has_box"]:
      corners = record["box"].reshape(2, 2) * picture.size + (left, top)
      draw.rectangle(corners.round().ravel().tolist(), outline=_COLOR, width=2)
    label = int(record["label"])
    name = source.class_names[label] if record["has_label"] else "no label"
    draw.text((left + 4, top - _TEXT + 2), name[:34], fill="black")
    draw.text((left + 4, top - _TEXT // 2), record["id"][-34:], fill="grey")
  buffer = io.BytesIO()
  sheet.save(buffer, "PNG")
  files.write_bytes(path, buffer.getvalue())
