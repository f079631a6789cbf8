"""Predictions drawn on a photograph."""

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TRUE_COLOR = "#2fd16f"
PREDICTED_COLOR = "#ff7f0e"
# Expert i has the same color in overlays, plots and reports; none is close
# to the two box colors.
EXPERT_COLORS = (
  "#4c78a8",
  "#e45756",
  "#3f9c95",
  "#b279a2",
  "#b8900b",
  "#9d755d",
  "#d6608c",
  "#79706e",
)


def expert_color(expert: int) -> str:
  """The color of an expert; they repeat after eight."""
  return EXPERT_COLORS[expert % len(EXPERT_COLORS)]


# Below this shorter side, pixels, label and bars would hide the picture.
READABLE_SIDE = 256
_MOST_TIMES = 8


def magnify(
  image: np.ndarray, box: Sequence[float] | None
) -> tuple[np.ndarray, Sequence[float] | None]:
  """Enlarges a small picture, so that what is drawn on it can be read.

  Args:
    image: u8 [h, w, 3].
    box: xyxy in pixels, or None.

  Returns:
    The image, each side the same whole number (at most 8) of times as long, so
    that the shorter one has 256 pixels or more, and its box. A large enough
    image comes back as it is.
  """
  height, width = image.shape[:2]
  times = min(math.ceil(READABLE_SIDE / min(height, width)), _MOST_TIMES)
  if times <= 1:
    return image, box
  size = (width * times, height * times)
  larger = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
  return np.asarray(larger), box and [times * v for v in box]


def draw(
  image: np.ndarray,
  box: Sequence[float] | None,
  label: str,
  experts: dict[str, np.ndarray],
) -> np.ndarray:
  """Draws one prediction.

  The label stands above the box, or inside its top edge where there is no
  room; bars at the bottom show each task's expert weights as coloured lengths.

  Args:
    image: u8 [h, w, 3].
    box: xyxy in pixels, or None.
    label: one line such as "0.93 Sooty Albatross"; "" for none. What does not
      fit the width is cut.
    experts: task -> f [N], weights of all experts (zero: not selected).

  Returns:
    u8 [h, w, 3]; the input is not changed.
  """
  canvas = Image.fromarray(image).convert("RGB")
  pen = ImageDraw.Draw(canvas, "RGBA")
  width, height = canvas.size
  unit = max(1, round(min(width, height) / 150))
  # With a size it is a scalable font.
  size = max(9, min(width, height) / 24)
  font = cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))
  if box is not None:
    x1, y1, x2, y2 = _inside(box, width, height)
    # A dark line around the coloured one keeps it visible on any background.
    pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), None, "#00000090", unit + 2)
    pen.rectangle((x1, y1, x2, y2), None, PREDICTED_COLOR, max(2, unit))
  else:
    x1 = y1 = 0
  _draw_bars(pen, experts, font, unit, width, height)
  if label:
    _draw_label(pen, label, font, x1, y1, unit, width)
  return np.asarray(canvas)


def _inside(
  box: Sequence[float], width: int, height: int
) -> tuple[float, float, float, float]:
  """Sorted corners within the image, whatever a model answered."""
  x1, x2 = sorted(np.clip((box[0], box[2]), 0, width - 1))
  y1, y2 = sorted(np.clip((box[1], box[3]), 0, height - 1))
  return float(x1), float(y1), float(x2), float(y2)


def _draw_label(
  pen: ImageDraw.ImageDraw,
  label: str,
  font: ImageFont.FreeTypeFont,
  x: float,
  y: float,
  pad: int,
  width: int,
) -> None:
  text = fit(label, lambda t: pen.textlength(t, font) + 4 * pad <= width)
  w = pen.textlength(text, font) + 4 * pad
  h = sum(font.getmetrics()) + 2 * pad
  x = max(0, min(x, width - w))
  y = y - h if y >= h else y
  pen.rectangle((x, y, x + w, y + h), PREDICTED_COLOR)
  pen.text((x + 2 * pad, y + pad), text, "black", font)


def _draw_bars(
  pen: ImageDraw.ImageDraw,
  experts: dict[str, np.ndarray],
  font: ImageFont.FreeTypeFont,
  unit: int,
  width: int,
  height: int,
) -> None:
  """One bar a task, stacked upwards from the bottom left corner."""
  line = sum(font.getmetrics()) + unit
  names = max((pen.textlength(f"{t} ", font) for t in experts), default=0)
  length = max(1.0, min(0.4 * width, width - names - 4 * unit))
  panel_h = len(experts) * line + unit
  if not experts or panel_h > height / 2:
    return  # a thumbnail: the bars would hide what it shows
  panel = (0, height - panel_h, names + length + 4 * unit, height)
  pen.rectangle(panel, "#ffffffd0")
  for row, (task, weights) in enumerate(experts.items()):
    y = height - panel_h + row * line + unit
    pen.text((unit, y), task, "black", font)
    x = names + 2 * unit
    for expert in np.flatnonzero(weights):
      # Weights sum to 1 except with softmax before top-k (then at most 1).
      span = length * float(weights[expert])
      pen.rectangle(
        (x, y, x + span, y + line - 2 * unit), expert_color(int(expert))
      )
      number = str(expert)
      if pen.textlength(number, font) + 2 <= span:
        pen.text((x + span / 2, y), number, "white", font, anchor="ma")
      x += span


def fit(text: str, fits: Callable[[str], bool]) -> str:
  """The text, or its longest beginning with an ellipsis that fits."""
  if fits(text):
    return text
  for end in range(len(text) - 1, 0, -1):
    if fits(text[:end] + "…"):
      return text[:end] + "…"
  return ""
