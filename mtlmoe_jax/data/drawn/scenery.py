"""What surrounds a drawn bird: background, perch, occluders and light.

None of it depends on the class. Letters: H = W the side of the image, Q the
side of the supersampled canvas, in pixels.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from mtlmoe_jax.data.drawn.species import Color

BACKGROUNDS = ("sky", "foliage", "water", "reeds", "rock")
SKY, FOLIAGE, WATER, REEDS, ROCK = range(5)

# Two ends of each background's colors.
_COLORS: dict[int, tuple[tuple[Color, Color], ...]] = {
  SKY: (
    ((108, 150, 204), (196, 212, 228)),
    ((142, 148, 158), (204, 204, 202)),
    ((110, 120, 160), (226, 190, 160)),
  ),
  FOLIAGE: (
    ((36, 62, 28), (120, 152, 70)),
    ((58, 72, 40), (160, 164, 96)),
    ((84, 66, 36), (186, 150, 84)),
  ),
  WATER: (
    ((44, 78, 104), (134, 164, 180)),
    ((60, 76, 70), (142, 152, 134)),
    ((84, 96, 112), (178, 184, 190)),
  ),
  REEDS: (((96, 88, 48), (190, 176, 110)), ((70, 90, 48), (170, 180, 104))),
  ROCK: (((84, 80, 76), (168, 162, 152)), ((104, 88, 70), (186, 166, 138))),
}


def background(
  kind: int, rng: np.random.Generator, side: int, blur: float
) -> np.ndarray:
  """Draws a background.

  Args:
    kind: index into `BACKGROUNDS`.
    rng: source of chance.
    side: H.
    blur: radius of the Gaussian blur, as a share of H.

  Returns:
    f32 [H, H, 3], 0 ... 255.
  """
  dark, light = _COLORS[kind][rng.integers(len(_COLORS[kind]))]
  slope = np.linspace(-0.25, 0.25, side, dtype=np.float32)[:, None]
  coarse, fine = _noise(rng, side, 4, 4), _noise(rng, side, 14, 14)
  if kind == SKY:
    cloud = np.clip(1.6 * coarse + 0.6 * fine - 0.9, 0, 1)
    mix = 0.45 + slope * 1.4 + 0.5 * cloud
  elif kind == WATER:
    waves = _noise(rng, side, 40, 5) + 0.6 * _noise(rng, side, 18, 3)
    mix = 0.35 - 0.5 * slope + 0.55 * (waves - 0.8) + 0.3 * (coarse - 0.5)
  elif kind == ROCK:
    mix = 0.1 + 0.5 * coarse + 0.35 * fine + 0.25 * _noise(rng, side, 40, 40)
  else:
    mix = 0.15 + 0.45 * coarse + 0.25 * fine + 0.3 * slope
  mix = np.clip(mix, 0, 1)[..., None]
  low, high = np.asarray(dark, np.float32), np.asarray(light, np.float32)
  base = low * (1 - mix) + high * mix
  image = Image.fromarray((base + 0.5).astype(np.uint8))
  pen = ImageDraw.Draw(image)
  if kind == FOLIAGE:
    for _ in range(26):
      shade = _between(dark, light, rng.uniform(0, 1.15))
      x, y = rng.uniform(-0.05, 1.05, 2)
      pen.polygon(_leaf(rng, side, x, y, 0.16), shade)
  elif kind == REEDS:
    for _ in range(22):
      shade = _between(dark, light, rng.uniform(-0.1, 1.15))
      pen.polygon(_blade(rng, side, rng.uniform(-0.1, 1.1), 0.022), shade)
  elif kind == ROCK:
    for _ in range(5):
      x, y = rng.uniform(0, side, 2)
      steps = np.cumsum(rng.uniform(-0.13, 0.15, (5, 2)), 0) * side + (x, y)
      pen.line(steps.ravel().tolist(), _between(dark, light, 0.05))
  image = image.filter(ImageFilter.GaussianBlur(blur * side))
  return np.asarray(image, np.float32)


def bank(
  rng: np.random.Generator, side: int, blur: float, water: np.ndarray
) -> np.ndarray:
  """Puts a far bank (foliage, reeds or rock) at the top of `water`."""
  kind = (FOLIAGE, REEDS, ROCK)[rng.integers(3)]
  level = max(1, round(side * rng.uniform(0.08, 0.32)))
  far = background(kind, rng, side, blur)
  return np.concatenate([far[:level], water[level:]])


def blossom(
  layer: Image.Image, rng: np.random.Generator, colors: Sequence[Color]
) -> None:
  """Lets sprigs of flowers or berries, colored as birds' parts, grow in.

  They are there so that the amount of a color in an image tells little of the
  class: what is red may be a bib or a berry.

  Args:
    layer: RGBa [Q, Q], drawn on.
    rng: source of chance.
    colors: to choose from.
  """
  pen, side = ImageDraw.Draw(layer), layer.width
  for _ in range(rng.integers(1, 7)):
    color = colors[int(rng.integers(len(colors)))]
    tinted = np.multiply(color, rng.uniform(0.8, 1.1, 3))
    red, green, blue = (min(255, int(v)) for v in tinted)
    stem = _between((70, 84, 44), (110, 88, 60), rng.uniform())
    centre, spread = rng.uniform(0, side, 2), rng.uniform(0.03, 0.12) * side
    root = centre + rng.uniform(-0.2, 0.2, 2) * side
    root[1] = side if rng.uniform() < 0.7 else 0  # From the edge.
    width = max(1, side // 110)
    pen.line([*root.tolist(), *centre.tolist()], stem, width)
    petals = spread * rng.uniform(-1, 1, (rng.integers(3, 10), 2))
    for x, y in (centre + petals).tolist():
      pen.line([*centre.tolist(), x, y], stem, width)
    for x, y in (centre + petals).tolist():
      rx, ry = rng.uniform(0.008, 0.03, 2).tolist()
      rx, ry = rx * side, ry * side
      pen.ellipse((x - rx, y - ry, x + rx, y + ry), (red, green, blue, 255))


def perch(
  layer: Image.Image,
  kind: int,
  rng: np.random.Generator,
  foot: tuple[float, float],
  scale: float,
) -> None:
  """What a perched bird stands on: a stone, or a branch with a twig or two.

  Args:
    layer: RGBa [Q, Q], drawn on.
    kind: background; `ROCK` gives a stone.
    rng: source of chance.
    foot: canvas pixels of the middle of the feet.
    scale: canvas pixels per body length.
  """
  pen, side = ImageDraw.Draw(layer), layer.width
  x, y = foot
  if kind == ROCK:
    dark, light = _COLORS[ROCK][rng.integers(2)]
    width = scale * rng.uniform(0.7, 1.3)
    s = np.linspace(-1, 1, 13)
    top = y + 0.06 * scale + scale * (0.5 * s**4 + rng.uniform(0, 0.04, 13))
    top[5:8] = y - 0.01 * scale
    points = [
      *zip(x + width * s, top),
      (x + 1.4 * width, side),
      (x - 1.4 * width, side),
    ]
    pen.polygon(points, _between(dark, light, rng.uniform(0.2, 0.6)))
    upper = [
      *zip(x + width * s, top),
      *zip((x + width * s)[::-1], top[::-1] + 0.09 * scale),
    ]
    pen.polygon(upper, _between(dark, light, 1.0))
    return
  slope = rng.uniform(-0.22, 0.22)
  thick = scale * rng.uniform(0.05, 0.09)
  bark = _between((64, 48, 36), (128, 108, 88), rng.uniform())
  far = 2 * side

  def beam(
    x0: float,
    y0: float,
    x1: float,
    y1: float,
    t0: float,
    t1: float,
    color: Color,
  ) -> None:
    pen.polygon(
      [(x0, y0 - t0), (x1, y1 - t1), (x1, y1 + t1), (x0, y0 + t0)], color
    )

  middle = y + 0.6 * thick
  for _ in range(rng.integers(0, 3)):
    at, rise = rng.uniform(-0.8, 0.8) * scale, rng.uniform(-0.9, 0.9) * scale
    beam(
      x + at,
      middle + slope * at,
      x + 2 * at,
      middle + rise,
      thick * 0.5,
      thick * 0.2,
      _between((50, 38, 28), bark, 0.6),
    )
  beam(
    x - far,
    middle - far * slope,
    x + far,
    middle + far * slope,
    thick,
    thick,
    bark,
  )
  beam(
    x - far,
    middle - far * slope + 0.7 * thick,
    x + far,
    middle + far * slope + 0.7 * thick,
    0.3 * thick,
    0.3 * thick,
    _between((0, 0, 0), bark, 0.65),
  )


def occluder(
  rng: np.random.Generator, side: int, box: np.ndarray, size: float
) -> Image.Image:
  """A few leaves, or blades of grass, in front of the bird.

  Args:
    rng: source of chance.
    side: Q.
    box: xyxy of the bird, normalised.
    size: scales leaves and blades; 1 is usual.

  Returns:
    RGBa [Q, Q] (premultiplied), every pixel opaque or clear.
  """
  layer = Image.new("RGBa", (side, side))
  pen = ImageDraw.Draw(layer)
  dark, light = _COLORS[(FOLIAGE, REEDS)[rng.integers(2)]][rng.integers(2)]
  width = max(box[2] - box[0], box[3] - box[1])
  if rng.uniform() < 0.5:
    for _ in range(rng.integers(2, 6)):
      x, y = rng.uniform(box[:2], box[2:])
      leaf = _leaf(rng, side, x, y, 0.30 * width * size)
      color = _between(dark, light, rng.uniform(0.2, 1.0))
      pen.polygon(leaf, color)
      pen.line(
        [leaf[0], leaf[len(leaf) // 2]],
        _between(dark, light, 0.1),
        max(1, side // 150),
      )
  else:
    for _ in range(rng.integers(1, 4)):
      x = rng.uniform(box[0], box[2])
      pen.polygon(
        _blade(rng, side, x, 0.035 * width * size),
        _between(dark, light, rng.uniform(0.2, 1.0)),
      )
  return layer


def relief(
  alpha: Image.Image, light: tuple[float, float], radius: float
) -> np.ndarray:
  """Shades a silhouette as if it were inflated.

  The blurred mask stands for the height, its slope against the light for the
  shade.

  Args:
    alpha: L [H, H].
    light: unit vector towards the light, y down.
    radius: of the blur, pixels.

  Returns:
    f32 [H, H], factors around 1.
  """
  height = np.asarray(
    alpha.filter(ImageFilter.GaussianBlur(radius)), np.float32
  ) / np.float32(255)
  down, right = np.zeros_like(height), np.zeros_like(height)
  down[1:-1] = height[2:] - height[:-2]
  right[:, 1:-1] = height[:, 2:] - height[:, :-2]
  slope = right * np.float32(light[0]) + down * np.float32(light[1])
  return np.clip(1 - np.float32(0.62 * radius) * slope, 0.55, 1.3)


def shadow(rng: np.random.Generator, side: int) -> np.ndarray:
  """A soft-edged shadow over part of the frame: f32 [H, H, 1] factors."""
  angle = rng.uniform(0, 2 * math.pi)
  depth = rng.uniform(0.3, 0.5)
  axis = np.linspace(-1, 1, side, dtype=np.float32)
  ramp = axis[None] * np.float32(math.cos(angle)) + axis[:, None] * np.float32(
    math.sin(angle)
  )
  ramp += np.float32(rng.uniform(-0.5, 0.5)) + _noise(rng, side, 4, 4) - 0.5
  return (1 - np.float32(depth) * np.clip(6 * ramp, 0, 1))[..., None]


def _noise(
  rng: np.random.Generator, side: int, rows: int, columns: int
) -> np.ndarray:
  """Smooth noise f32 [H, H] in [0, 1] with that many cells."""
  cells = rng.integers(0, 256, (rows, columns), np.uint8)
  image = Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC)
  return np.asarray(image, np.float32) / np.float32(255)


def _leaf(
  rng: np.random.Generator, side: int, x: float, y: float, size: float
) -> list[tuple[float, float]]:
  """A pointed oval around (x, y); all but pixels are shares of the side."""
  length = size * rng.uniform(0.6, 1.2) / 2 * side
  angle, fat = rng.uniform(0, 2 * math.pi), rng.uniform(0.25, 0.5)
  s = np.linspace(-1, 1, 9)
  bow = fat * (1 - s * s)
  across = np.concatenate([bow, -bow[-2:0:-1]]) * length
  along = np.concatenate([s, s[-2:0:-1]]) * length
  c, d = math.cos(angle), math.sin(angle)
  xs = x * side + c * along - d * across
  ys = y * side + d * along + c * across
  return list(zip(xs.tolist(), ys.tolist()))


def _blade(
  rng: np.random.Generator, side: int, x: float, half: float
) -> list[tuple[float, float]]:
  """A blade of grass from the lower edge up, leaning."""
  top = rng.uniform(-0.3, 0.45) * side
  lean, bend = rng.uniform(-0.25, 0.25, 2) * side
  s = np.linspace(0, 1, 7)
  xs = x * side + lean * (s - 0.5) + bend * (s * s - 0.3)
  ys = side * 1.02 + (top - side) * s
  reach = half * side * (1 - s**3) * rng.uniform(0.5, 1.3)
  return [
    *zip((xs - reach).tolist(), ys.tolist()),
    *zip((xs + reach)[::-1].tolist(), ys[::-1].tolist()),
  ]


def _between(a: Color, b: Color, t: float) -> Color:
  red, green, blue = (
    int(min(255, max(0, p + (q - p) * t + 0.5))) for p, q in zip(a, b)
  )
  return red, green, blue
