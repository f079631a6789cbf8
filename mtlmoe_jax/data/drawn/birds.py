"""Draws one bird: from a species and a pose to a supersampled layer.

A bird is first a list of `Part`s (polygons in body lengths, x forwards, y up,
the middle of the trunk at the origin), then painted. So its size is known
before it is placed, and its mask, hence its box, is exact.

Letters: P points of a polygon, Q side of the supersampled canvas in pixels.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw

from mtlmoe_jax.data.drawn import species
from mtlmoe_jax.data.drawn.species import Color, Species

PERCHED, FLYING, SWIMMING = range(3)

# Points [P, 2] or [2] of a part -> of the bird.
_Map = Callable[[npt.ArrayLike], np.ndarray]
_Traits = Mapping[str, str]
_PALE: Color = (240, 237, 226)
_DARK: Color = (38, 34, 32)
_HORN: dict[str, Color] = {
  "dark": (46, 42, 42),
  "orange": (236, 120, 28),
  "yellow": (240, 208, 60),
  "red": (206, 54, 40),
}
# Colors of small parts; flowers and berries have them as well.
PART_COLORS = (_PALE, _DARK, *_HORN.values(), *species.ACCENTS)
# Length, height at the base and droop of the tip, in body lengths.
_BILLS = {
  "short": (0.17, 0.11, 0.0),
  "long": (0.52, 0.10, 0.0),
  "curved": (0.46, 0.11, 0.22),
  "thick": (0.23, 0.23, 0.05),
}
# Length, width at the tip, depth of the fork.
_TAILS = {
  "square": (0.34, 0.24, 0.0),
  "long": (0.80, 0.17, -0.06),
  "forked": (0.62, 0.40, 0.36),
}


@dataclass(frozen=True)
class Pose:
  """How a bird holds itself. Angles in degrees, counter-clockwise, facing +x.

  Attributes:
    kind: `PERCHED`, `FLYING` or `SWIMMING`.
    facing: 1 right, -1 left.
    pitch: of the trunk; positive is breast up.
    neck: direction of the neck.
    head_pitch: of the bill.
    head_yaw: turn towards (+) or away from the viewer; shortens the bill.
    look_back: the head faces backwards.
    tail_lift: of the tail against the trunk.
    flap: direction of the raised wing (flying only).
    reach: share of the wing's full span that is seen (flying only).
  """

  kind: int
  facing: int
  pitch: float
  neck: float
  head_pitch: float
  head_yaw: float
  look_back: bool
  tail_lift: float
  flap: float
  reach: float


@dataclass(frozen=True)
class Part:
  """Polygons painted in one color.

  Attributes:
    polygons: arrays [P, 2] in body lengths.
    color: RGB, 0 ... 255.
    tag: name under which later parts may refer to this area.
    within: paint only where the parts of this tag were painted; such a part
      never adds to the bird's outline.
    opacity: 0 ... 1, only with `within`.
  """

  polygons: list[np.ndarray]
  color: Color
  tag: str = ""
  within: str = ""
  opacity: float = 1.0


@dataclass(frozen=True)
class Placement:
  """Where a bird stands on the canvas, in its pixels."""

  x: float
  y: float
  scale: float
  facing: int

  def __call__(self, points: np.ndarray) -> np.ndarray:
    """Body lengths [P, 2] (y up) to canvas pixels [P, 2] (y down)."""
    return points * (self.scale * self.facing, -self.scale) + (self.x, self.y)


def paint(
  parts: list[Part], place: Placement, side: int, waterline: float | None
) -> Image.Image:
  """Paints a bird.

  Args:
    parts: from `bird_parts`.
    place: body lengths to canvas pixels.
    side: Q.
    waterline: height, in body lengths, under which nothing is seen; or None.

  Returns:
    RGBa [Q, Q] (premultiplied), clear around the bird; every pixel is opaque
    or clear.
  """
  canvas = Image.new("RGBa", (side, side))
  pen = ImageDraw.Draw(canvas)
  masks: dict[str, Image.Image] = {}
  for part in parts:
    points = place(np.concatenate(part.polygons))
    ends = np.cumsum([len(p) for p in part.polygons]).tolist()
    if part.within:
      _paint_within(canvas, masks[part.within], points, ends, part)
      continue
    _fill(pen, points, ends, (*part.color, 255))
    if part.tag:
      if part.tag not in masks:
        masks[part.tag] = Image.new("L", (side, side))
      _fill(ImageDraw.Draw(masks[part.tag]), points, ends, 255)
  if waterline is not None:
    level = round(place.y - waterline * place.scale)
    if level < side:
      canvas.paste((0, 0, 0, 0), (0, max(level, 0), side, side))
  return canvas


def _fill(
  pen: ImageDraw.ImageDraw,
  points: np.ndarray,
  ends: list[int],
  fill: int | tuple[int, ...],
) -> None:
  """Fills the polygons that `points` [P, 2] holds one after another."""
  flat = points.ravel().tolist()
  start = 0
  for end in ends:
    pen.polygon(flat[2 * start : 2 * end], fill)
    start = end


def _paint_within(
  canvas: Image.Image,
  mask: Image.Image,
  points: np.ndarray,
  ends: list[int],
  part: Part,
) -> None:
  x0, y0 = (max(0, int(v) - 1) for v in points.min(0).tolist())
  x1, y1 = (min(canvas.width, int(v) + 2) for v in points.max(0).tolist())
  if x1 <= x0 or y1 <= y0:
    return
  stencil = Image.new("L", (x1 - x0, y1 - y0))
  _fill(
    ImageDraw.Draw(stencil), points - (x0, y0), ends, round(255 * part.opacity)
  )
  stencil = ImageChops.multiply(stencil, mask.crop((x0, y0, x1, y1)))
  canvas.paste((*part.color, 255), (x0, y0, x1, y1), stencil)


def bird_parts(
  kind: Species, pose: Pose, tones: np.ndarray
) -> tuple[list[Part], float | None, float]:
  """The parts of a bird, back to front.

  Args:
    kind: what to draw.
    pose: how it holds itself.
    tones: f64 [5, 3], factors on the colors of upper parts, under parts, pale
      marks, dark marks, and bill, legs and accent.

  Returns:
    parts; the waterline (height in body lengths) or None; the height of the
    feet, or of the belly where no feet are seen.
  """
  shape, traits = kind.shape, kind.traits
  paint = _Paint(kind, tones)
  trunk = _frame(pose.pitch)
  half = shape.depth / 2
  shoulder = trunk((0.27, 0.10))
  head_at = shoulder + shape.neck * _unit(pose.neck)
  head = _Head(head_at, shape.head, pose)
  flying = pose.kind == FLYING

  parts: list[Part] = []
  if flying:
    parts += _spread_wing(trunk, pose, traits, paint, far=True)
  parts += _tail(trunk, pose, traits, paint)
  feet = trunk((0.0, -half))[1]
  if pose.kind != SWIMMING:
    legs, feet = _legs(trunk, half, shape.legs, paint.legs, flying)
    parts += legs
  if traits["crown"] == "crested":
    parts.append(head.crest(_tint(paint.upper, 0.7)))
  parts.append(
    Part(
      [
        _trunk_outline(trunk, half),
        *_tube(
          trunk((0.20, 0.02)), shoulder, head_at, 0.82 * half, 0.86 * shape.head
        ),
      ],
      paint.upper,
      tag="body",
    )
  )
  parts.append(Part([head.ellipse(0, 0, 1.08, 0.97)], paint.upper, tag="body"))
  parts.append(Part([head.ellipse(0, 0, 1.08, 0.97)], paint.upper, tag="head"))
  parts += _under_parts(trunk, half, traits, paint)
  parts += _neck_marks(head, shoulder, head_at, half, traits, paint)
  parts += _rump(trunk, traits, paint)
  parts += head.face(traits, paint)
  if flying:
    parts += _spread_wing(trunk, pose, traits, paint, far=False)
  else:
    parts += _folded_wing(trunk, half, traits, paint)
  waterline = -0.45 * half if pose.kind == SWIMMING else None
  return parts, waterline, feet


def extent(parts: list[Part], waterline: float | None) -> np.ndarray:
  """Bounds f64 [4] (x0, y0, x1, y1) in body lengths, y up, of what is seen."""
  points = np.concatenate(
    [q for part in parts if not part.within for q in part.polygons]
  )
  if waterline is not None:
    points = points[points[:, 1] >= waterline]
    points = np.concatenate([points, [[points[:, 0].mean(), waterline]]])
  return np.concatenate([points.min(0), points.max(0)])


class _Paint:
  """The colors of one bird."""

  def __init__(self, kind: Species, tones: np.ndarray) -> None:
    self.upper = _tint(kind.upper, tones[0])
    self.lower = _tint(kind.lower, tones[1])
    self.wing, self.line = _tint(self.upper, 0.80), _tint(self.upper, 0.45)
    self.pale, self.dark = _tint(_PALE, tones[2]), _tint(_DARK, tones[3])
    self.accent = _tint(kind.accent, tones[4])
    self.bill = _tint(_HORN[kind.traits["bill_color"]], tones[4])
    self.legs = _tint(_HORN[kind.traits["legs"]], tones[4])
    self.rump = (
      self.pale
      if kind.traits["rump"] == "white"
      else _tint(_HORN["yellow"], tones[4])
    )


class _Head:
  """Head and bill; in head radii, x along the bill, y to the crown."""

  def __init__(self, centre: np.ndarray, radius: float, pose: Pose) -> None:
    angle = pose.head_pitch
    side = -1.0 if pose.look_back else 1.0
    along = _unit(angle) * (side, 1.0)
    across = np.array([-along[1], along[0]]) * side
    self._axes = np.stack([along, across]) * radius
    self._centre, self._radius = centre, radius
    self._yaw = math.radians(pose.head_yaw)

  def at(self, points: npt.ArrayLike) -> np.ndarray:
    return np.asarray(points, float) @ self._axes + self._centre

  def ellipse(self, x: float, y: float, rx: float, ry: float) -> np.ndarray:
    return self.at(_ellipse(x, y, rx, ry))

  def crest(self, color: Color) -> Part:
    return Part(
      [
        self.at(
          [
            (0.75, 0.65),
            (0.1, 1.15),
            (-0.9, 1.75),
            (-0.75, 1.25),
            (-1.75, 1.45),
            (-1.25, 0.85),
            (-1.9, 0.60),
            (-0.85, 0.05),
          ]
        )
      ],
      color,
    )

  def face(self, traits: dict[str, str], paint: _Paint) -> list[Part]:
    shift = 0.35 * math.sin(self._yaw)
    eye = (0.38 - shift, 0.22)
    parts = []
    if traits["crown"] == "capped":
      cap = [
        (1.3, 0.42),
        (0.2, 0.55),
        (-0.6, 0.35),
        (-1.3, -0.15),
        (-1.3, 1.3),
        (1.3, 1.3),
      ]
      parts.append(Part([self.at(cap)], paint.accent, within="head"))
    if traits["face"] == "masked":
      band = [
        (1.2, 0.42),
        (0.4, 0.55),
        (-0.7, 0.42),
        (-1.1, 0.0),
        (-0.7, -0.22),
        (0.4, -0.22),
        (1.2, -0.05),
      ]
      parts.append(Part([self.at(band)], paint.dark, within="head"))
    if traits["face"] == "browed":
      band = [
        (1.1, 0.52),
        (0.4, 0.82),
        (-0.6, 0.72),
        (-1.2, 0.2),
        (-0.6, 0.38),
        (0.4, 0.46),
        (1.1, 0.25),
      ]
      parts.append(Part([self.at(band)], paint.pale, within="head"))
    if traits["face"] == "ringed":
      ring = self.ellipse(*eye, 0.50, 0.50)
      parts.append(Part([ring], paint.pale, within="head"))
    parts += self._bill(traits, paint.bill)
    parts.append(Part([self.ellipse(*eye, 0.27, 0.27)], (16, 14, 14)))
    parts.append(
      Part([self.ellipse(eye[0] + 0.08, eye[1] + 0.09, 0.09, 0.09)], _PALE)
    )
    return parts

  def _bill(self, traits: dict[str, str], color: Color) -> list[Part]:
    length, height, droop = _BILLS[traits["bill"]]
    length *= math.cos(self._yaw)
    length, h, droop = (v / self._radius for v in (length, height / 2, droop))
    s = np.linspace(0, 1, 7)
    x = 0.82 + s * (length + 0.18)
    middle = -0.08 - droop * s * s
    thin = h * (1 - s) ** 0.8 + 0.03
    top = np.stack([x, middle + thin], 1)
    split = np.stack([x, middle - 0.15 * thin], 1)
    bottom = np.stack([x * 0.99, middle - thin], 1)
    return [
      Part([self.at(np.concatenate([top, split[::-1]]))], color),
      Part(
        [self.at(np.concatenate([split, bottom[::-1]]))], _tint(color, 0.72)
      ),
    ]


def _trunk_outline(trunk: _Map, half: float) -> np.ndarray:
  """An egg, fuller at the breast, drawn out towards the tail."""
  x, y = _circle(36).T
  taper = 1 + 0.22 * x - 0.10 * (x < 0) * x * x
  return trunk(np.stack([0.5 * x, half * y * taper], 1))


def _under_parts(
  trunk: _Map, half: float, traits: _Traits, paint: _Paint
) -> list[Part]:
  parts = [
    Part(
      [
        trunk(_ellipse(0.10, -0.80 * half, 0.66, 0.92 * half)),
        trunk(_ellipse(0.42, -0.20 * half, 0.20, 0.80 * half)),
      ],
      paint.lower,
      within="body",
    )
  ]
  if traits["breast"] == "spotted":
    marks = [
      trunk(_ellipse(x, y * half, 0.034, 0.034, 8)) for x, y in _rows(0.13)
    ]
    parts.append(Part(marks, paint.line, within="body"))
  if traits["breast"] == "streaked":
    marks = [
      trunk(_ellipse(x, y * half, 0.085, 0.020, 8)) for x, y in _rows(0.2)
    ]
    parts.append(Part(marks, paint.line, within="body"))
  return parts


def _rows(step: float) -> list[tuple[float, float]]:
  """A brick pattern over breast and belly."""
  return [
    (x + step / 2 * (row % 2), y)
    for row, y in enumerate((0.16, -0.12, -0.40, -0.68))
    for x in np.arange(-0.12, 0.46, step)
  ]


def _neck_marks(
  head: _Head,
  shoulder: np.ndarray,
  head_at: np.ndarray,
  half: float,
  traits: _Traits,
  paint: _Paint,
) -> list[Part]:
  parts = []
  if traits["breast"] == "bibbed":
    parts.append(
      Part([head.ellipse(0.15, -1.15, 0.95, 0.85)], paint.accent, within="body")
    )
  if traits["breast"] == "banded":
    axis = head_at - shoulder
    axis /= np.hypot(*axis)
    across = np.array([-axis[1], axis[0]])
    middle = shoulder + 0.01 * axis
    band = np.stack(
      [
        middle + 1.3 * half * across - 0.10 * axis,
        middle + 0.045 * axis,
        middle - 1.3 * half * across - 0.08 * axis,
        middle - 1.3 * half * across - 0.21 * axis,
        middle - 0.085 * axis,
        middle + 1.3 * half * across - 0.23 * axis,
      ]
    )
    parts.append(Part([band], paint.dark, within="body"))
  return parts


def _rump(trunk: _Map, traits: _Traits, paint: _Paint) -> list[Part]:
  if traits["rump"] == "plain":
    return []
  patch = trunk(_ellipse(-0.40, 0.07, 0.17, 0.13))
  return [Part([patch], paint.rump, within="body")]


def _tail(
  trunk: _Map, pose: Pose, traits: _Traits, paint: _Paint
) -> list[Part]:
  length, width, fork = _TAILS[traits["tail"]]
  turn = _frame(180 + pose.pitch + pose.tail_lift)
  base = trunk((-0.36, 0.02))

  def at(points: npt.ArrayLike) -> np.ndarray:
    return turn(np.asarray(points, float)) + base

  half = width / 2
  outline = [
    (0, 0.09),
    (length * 0.5, half * 0.85),
    (length, half),
    (length + 0.03 - fork * 0.4, half * 0.45),
    (length + 0.04 - fork, 0),
    (length + 0.03 - fork * 0.4, -half * 0.45),
    (length, -half),
    (length * 0.5, -half * 0.85),
    (0, -0.09),
  ]
  parts = [Part([at(outline)], paint.wing, tag="tail")]
  feathers = [
    at(
      [
        (0.1, v * 0.1),
        (length + 0.1, v * width - 0.012),
        (length + 0.1, v * width + 0.012),
      ]
    )
    for v in (-0.5, 0.0, 0.5)
  ]
  parts.append(Part(feathers, paint.line, within="tail", opacity=0.7))
  if traits["tail_tip"] == "white":
    tip = [
      (length - fork * 0.75 - 0.06, 0),
      (length - 0.10, half + 0.1),
      (length + 0.2, half + 0.1),
      (length + 0.2, -half - 0.1),
      (length - 0.10, -half - 0.1),
    ]
    parts.append(Part([at(tip)], paint.pale, within="tail"))
  return parts


def _legs(
  trunk: _Map, half: float, length: float, color: Color, flying: bool
) -> tuple[list[Part], float]:
  """Two legs; also the height of the feet."""
  if flying:  # Tucked back along the belly.
    parts = [
      Part(
        [
          _limb(
            trunk(
              [
                (-0.08, -0.92 * half + d),
                (-0.50, -0.62 * half + d),
                (-0.60, -0.70 * half + d),
              ]
            ),
            0.022,
          )
          for d in (0.0, -0.035)
        ],
        color,
      )
    ]
    return parts, trunk((0.0, -half))[1]
  hip = trunk((-0.02, -0.8 * half))
  ground = hip[1] - 0.2 * half - length
  limbs = []
  for d in (-0.06, 0.10):
    knee = (hip[0] + d - 0.04, (hip[1] + ground) / 2)
    foot = (hip[0] + d + 0.02, ground)
    limbs.append(_limb([(hip[0] + d, hip[1]), knee, foot], 0.024))
    for toe in (0.12, 0.07, -0.07):
      limbs.append(_limb([foot, (foot[0] + toe, ground - 0.035)], 0.020))
  return [Part(limbs, color)], ground


def _folded_wing(
  trunk: _Map, half: float, traits: _Traits, paint: _Paint
) -> list[Part]:
  k = half / 0.29
  outline = _smooth(
    [
      (0.33, 0.04),
      (0.22, 0.19),
      (0.0, 0.22),
      (-0.34, 0.13),
      (-0.66, -0.02),
      (-0.34, -0.10),
      (-0.02, -0.17),
      (0.22, -0.12),
    ]
  ) * (1, k)
  shadow = outline - np.array([0.01, 0.035])
  parts = [
    Part([trunk(shadow)], paint.line, within="body", opacity=0.45),
    Part([trunk(outline)], paint.wing, tag="wing"),
  ]
  feathers = [
    trunk([(-0.10, y0 * k), (-0.62, y1 * k - 0.012), (-0.62, y1 * k + 0.016)])
    for y0, y1 in ((0.13, 0.05), (0.06, 0.01), (-0.01, -0.02), (-0.08, -0.05))
  ]
  parts.append(Part(feathers, paint.line, within="wing", opacity=0.8))
  marks = []
  if traits["wing"] == "barred":
    marks = [
      trunk(
        [
          (x, 0.3 * k),
          (x + 0.02, 0),
          (x - 0.06, -0.3 * k),
          (x - 0.125, -0.3 * k),
          (x - 0.045, 0),
          (x - 0.065, 0.3 * k),
        ]
      )
      for x in (0.14, -0.06)
    ]
  elif traits["wing"] == "patched":
    marks = [trunk(_ellipse(-0.18, -0.08 * k, 0.20, 0.10 * k))]
  if marks:
    parts.append(Part(marks, paint.pale, within="wing"))
  return parts


def _spread_wing(
  trunk: _Map, pose: Pose, traits: _Traits, paint: _Paint, far: bool
) -> list[Part]:
  """A raised wing; the far one is behind the trunk and seen more edge-on."""
  angle = math.radians(pose.flap + (18 if far else 0))
  span = 1.15 * pose.reach * (0.85 if far else 1.0)
  out = np.array([math.cos(angle), math.sin(angle)]) * span
  # The chord points to the tail, however the wing is raised.
  back = np.array([-0.52, -0.06]) if not far else np.array([-0.46, 0.0])
  root = trunk((0.20, 0.10) if not far else (0.26, 0.14))
  turn = _frame(pose.pitch)

  def at(points: npt.ArrayLike) -> np.ndarray:
    u, v = np.asarray(points, float).T
    return root + turn(u[:, None] * out + v[:, None] * back)

  tips = [
    (1.04, 0.30),
    (0.97, 0.52),
    (0.84, 0.70),
    (0.68, 0.82),
    (0.50, 0.90),
    (0.30, 0.97),
    (0.10, 1.0),
  ]
  edge = [(0, -0.12), (0.25, -0.26), (0.45, -0.30), (0.75, -0.16), (1.0, 0.10)]
  scallops = []
  for a, b in itertools.pairwise(tips):
    notch = ((a[0] + b[0]) / 2 - 0.03, (a[1] + b[1]) / 2 - 0.07)
    scallops += [a, notch]
  tag = "far wing" if far else "near wing"
  outline = at([*edge, *scallops, tips[-1], (-0.05, 0.75)])
  dim = 0.84 if far else 1.0
  parts = [Part([outline], _tint(paint.wing, dim), tag=tag)]
  feathers = []
  for a, b in itertools.pairwise(tips):
    u, v = (a[0] + b[0]) / 2, (a[1] + b[1]) / 2
    feathers.append(at([(u * 0.80, 0.22), (u - 0.012, v), (u + 0.012, v)]))
  parts.append(Part(feathers, paint.line, within=tag, opacity=0.8))
  marks = []
  if traits["wing"] == "barred":
    marks = [
      at([(0.0, v), (0.86, v - 0.04), (0.86, v + 0.11), (0.0, v + 0.15)])
      for v in (0.14, 0.46)
    ]
  elif traits["wing"] == "patched":
    marks = [at(_ellipse(0.50, 0.45, 0.25, 0.27))]
  if marks:
    parts.append(Part(marks, _tint(paint.pale, dim), within=tag))
  return parts


def _frame(degrees: float) -> _Map:
  """A map of points [P, 2] or [2] of a frame turned by `degrees`."""
  c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
  axes = np.array([[c, s], [-s, c]])
  return lambda points: np.asarray(points, float) @ axes


def _unit(degrees: float) -> np.ndarray:
  angle = math.radians(degrees)
  return np.array([math.cos(angle), math.sin(angle)])


def _ellipse(
  x: float, y: float, rx: float, ry: float, points: int = 20
) -> np.ndarray:
  return _circle(points) * (rx, ry) + (x, y)


@functools.cache
def _circle(points: int) -> np.ndarray:
  t = 2 * np.pi / points * np.arange(points)
  return np.stack([np.cos(t), np.sin(t)], 1)


def _smooth(points: npt.ArrayLike, steps: int = 5) -> np.ndarray:
  """A closed Catmull-Rom curve through `points`."""
  p1 = np.asarray(points, float)
  p0, p2, p3 = (np.roll(p1, k, 0) for k in (1, -1, -2))
  t = np.arange(steps)[:, None, None] / steps
  curve = 0.5 * (
    2 * p1
    + (p2 - p0) * t
    + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
    + (3 * p1 - p0 - 3 * p2 + p3) * t**3
  )
  return curve.transpose(1, 0, 2).reshape(-1, 2)


def _tube(
  start: np.ndarray,
  control: np.ndarray,
  end: np.ndarray,
  r0: float,
  r1: float,
  steps: int = 7,
) -> list[np.ndarray]:
  """Discs and the trapezia between them along a quadratic Bezier curve."""
  t = np.linspace(0, 1, steps)[:, None]
  spine = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
  ease = (t * t * (3 - 2 * t))[:, 0]
  radii = (r0 + (r1 - r0) * ease)[:, None]
  discs = spine[:, None] + radii[:, None] * _circle(20)
  d = np.diff(spine, axis=0)
  normal = np.stack([-d[:, 1], d[:, 0]], 1) / np.hypot(*d.T)[:, None]
  a, b = radii[:-1] * normal, radii[1:] * normal
  between = np.stack(
    [spine[:-1] + a, spine[1:] + b, spine[1:] - b, spine[:-1] - a], 1
  )
  return [*discs, *between]


def _limb(points: npt.ArrayLike, half: float) -> np.ndarray:
  """A polyline of constant thickness as one polygon."""
  p = np.asarray(points, float)
  d = np.diff(p, axis=0)
  d = np.concatenate([d, d[-1:]])
  normal = np.stack([-d[:, 1], d[:, 0]], 1)
  normal *= half / np.maximum(np.hypot(*normal.T), 1e-9)[:, None]
  return np.concatenate([p + normal, (p - normal)[::-1]])


def _tint(color: Color, factor: npt.ArrayLike) -> Color:
  tinted = np.clip(np.multiply(color, factor) + 0.5, 0, 255)
  red, green, blue = (int(v) for v in tinted)
  return red, green, blue
