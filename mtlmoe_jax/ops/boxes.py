"""Box formats, box geometry and box losses: pure functions of arrays.

Inside the program a box is `xyxy` = (x1, y1, x2, y2), normalised to [0, 1] of
the frame it belongs to, origin at the top left. Every function takes arrays
[..., 4]. NumPy arrays are computed by NumPy, so that the data pipeline never
touches a device; JAX arrays are computed by JAX. float64 (which NumPy makes of
plain lists) stays float64; everything else is computed in float32.
"""

import math
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtlmoe_jax import errors

LAYOUTS = ("xyxy", "yxyx", "xywh", "cxcywh")
PIXEL = "pixel_"

# Areas (and squared diagonals) up to this are treated as no area at all: a
# box of a millionth of the frame. Their reciprocal squared is still finite in
# float32, which the gradient of a quotient needs.
_EPS = 1e-12
# Smallest side the aspect term sees.
_MIN_SIDE = 1e-6


def _arrays(*values: Any) -> tuple[Any, ...]:
  """The array module of `values`, followed by them as floating arrays."""
  on_jax = any(isinstance(v, jax.Array) for v in values)
  xp: ModuleType = jnp if on_jax else np
  out = []
  for value in values:
    value = xp.asarray(value)
    # Half precision overflows in products of pixel sides, so it is raised.
    wide = value.dtype == xp.float64
    out.append(value if wide else value.astype(xp.float32))
  return (xp, *out)


def _ratio(xp: ModuleType, top: Any, bottom: Any) -> Any:
  """top / bottom, and 0 (with zero gradients) where bottom is about 0."""
  ok = bottom > _EPS
  # Both `where` are needed: the inner one keeps the branch that is not taken
  # finite, or its gradient would turn 0 * inf into NaN.
  return xp.where(ok, top / xp.where(ok, bottom, 1), 0)


def convert(
  boxes: Any,
  source: str,
  target: str,
  size: tuple[int, int] | None = None,
) -> Any:
  """Converts boxes from one format to another.

  A format is a layout, normalised to [0, 1], or `pixel_` and a layout:
  `xyxy` (corners), `yxyx` (corners, y first), `xywh` (top left corner, width,
  height), `cxcywh` (centre, width, height). So CUB and COCO are `pixel_xywh`,
  TFDS is `yxyx`, YOLO is `cxcywh`. Pixel coordinates are continuous: the right
  edge of an image W pixels wide is at x = W. Nothing is clipped.

  Args:
    boxes: [..., 4].
    source: format of `boxes`.
    target: format wanted.
    size: (height, width) of the frame in pixels; needed when just one of the
      formats is in pixels.

  Returns:
    [..., 4], in format `target`.

  Raises:
    InputError: an unknown format, or a missing or empty size.
  """
  xp, boxes = _arrays(boxes)
  for name in (source, target):
    if name.removeprefix(PIXEL) not in LAYOUTS:
      raise errors.InputError(
        f"box format {name!r} is unknown: use one of {', '.join(LAYOUTS)}, "
        f"or {PIXEL} and one of them"
      )
  boxes = _to_xyxy(xp, boxes, source.removeprefix(PIXEL))
  from_pixels, to_pixels = source.startswith(PIXEL), target.startswith(PIXEL)
  if from_pixels != to_pixels:
    if size is None or min(size) <= 0:
      raise errors.InputError(
        f"size={size!r} for boxes {source} -> {target}: give the frame's "
        "(height, width) in pixels"
      )
    height, width = size
    scale = xp.asarray([width, height, width, height], boxes.dtype)
    boxes = boxes * scale if to_pixels else boxes / scale
  return _from_xyxy(xp, boxes, target.removeprefix(PIXEL))


def _to_xyxy(xp: ModuleType, boxes: Any, layout: str) -> Any:
  a, b, c, d = (boxes[..., i] for i in range(4))
  if layout == "yxyx":
    a, b, c, d = b, a, d, c
  elif layout == "xywh":
    c, d = a + c, b + d
  elif layout == "cxcywh":
    a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
  return xp.stack([a, b, c, d], -1)


def _from_xyxy(xp: ModuleType, boxes: Any, layout: str) -> Any:
  a, b, c, d = (boxes[..., i] for i in range(4))
  if layout == "yxyx":
    a, b, c, d = b, a, d, c
  elif layout == "xywh":
    c, d = c - a, d - b
  elif layout == "cxcywh":
    a, b, c, d = (a + c) / 2, (b + d) / 2, c - a, d - b
  return xp.stack([a, b, c, d], -1)


def clip(boxes: Any) -> Any:
  """Clips normalised boxes [..., 4] to the frame [0, 1]."""
  xp, boxes = _arrays(boxes)
  return xp.clip(boxes, 0, 1)


def flip_left_right(boxes: Any) -> Any:
  """Mirrors normalised xyxy boxes [..., 4] as the frame is mirrored."""
  xp, boxes = _arrays(boxes)
  x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
  return xp.stack([1 - x2, y1, 1 - x1, y2], -1)


def crop(boxes: Any, window: Any) -> tuple[Any, Any]:
  """Boxes in the frame of a crop.

  Args:
    boxes: [..., 4] xyxy, normalised to the old frame.
    window: [4] or [..., 4] xyxy, the crop, normalised to the old frame.

  Returns:
    (boxes [..., 4] xyxy normalised to the crop and clipped to it, visible
    [...] share of each old box's area that lies inside the crop, in [0, 1]; 0
    for a box without area).
  """
  xp, boxes, window = _arrays(boxes, window)
  corner, scale = _corner_and_scale(xp, window)
  inside = clip((boxes - corner) / xp.where(scale > 0, scale, 1))
  visible = _ratio(xp, area(inside) * area(window), area(boxes))
  # Rounding may put the share of a box that is wholly inside just above 1.
  return inside, xp.minimum(visible, 1)


def uncrop(boxes: Any, window: Any) -> Any:
  """Boxes of a crop in the frame it was cut from; undoes `crop`.

  Args:
    boxes: [..., 4] xyxy, normalised to the crop.
    window: [4] or [..., 4] xyxy, the crop, normalised to the frame.

  Returns:
    [..., 4] xyxy, normalised to the frame. Nothing is clipped.
  """
  xp, boxes, window = _arrays(boxes, window)
  corner, scale = _corner_and_scale(xp, window)
  return corner + scale * boxes


def _corner_and_scale(xp: ModuleType, window: Any) -> tuple[Any, Any]:
  """Offset and factor [..., 4] from a crop's coordinates to its frame's."""
  low, high = window[..., :2], window[..., 2:]
  return xp.concatenate([low, low], -1), xp.concatenate([high - low] * 2, -1)


def merge_views(boxes: Any, windows: Any) -> Any:
  """One box from those of several views of an image.

  A view that cuts the object shows a part of it, and its box is that part's.
  So only views whose window holds the whole object count, and that is judged
  by the mean box of the views of the whole frame, clipped to the frame. The
  result is the mean of the boxes that count, edge by edge.

  Args:
    boxes: [V, ..., 4] box of each of V views, xyxy, normalised to the frame.
    windows: [V, ..., 4] what each view shows, xyxy, normalised to the frame.
      At least one is the frame itself: (0, 0, 1, 1).

  Returns:
    [..., 4]; for a single view its box. The order of views does not matter.
  """
  _, boxes, windows = _arrays(boxes, windows)
  low, high = windows[..., :2], windows[..., 2:]
  whole = ((low <= 0) & (high >= 1)).all(-1, keepdims=True)
  seen = clip(boxes.mean(0, where=whole))
  cut = ((seen[..., :2] < low) | (seen[..., 2:] > high)).any(-1, keepdims=True)
  return boxes.mean(0, where=~cut)


def around(boxes: Any, margin: float, least: float = 0.0) -> Any:
  """Windows that show boxes and some of what is around them.

  Args:
    boxes: [..., 4] xyxy, normalised to the frame.
    margin: side of a window over that of its box.
    least: sides are at least that, as a share of the frame's, about a centre
      in the frame; at its edge half of it may be left.

  Returns:
    [..., 4] xyxy, inside the frame.
  """
  xp, boxes = _arrays(boxes)
  low, high = boxes[..., :2], boxes[..., 2:]
  centre = xp.clip((low + high) / 2, 0, 1)
  half = xp.maximum(margin * (high - low), least) / 2
  return clip(xp.concatenate([centre - half, centre + half], -1))


def area(boxes: Any) -> Any:
  """Areas [...] of xyxy boxes [..., 4]; 0 where a side is not positive."""
  xp, boxes = _arrays(boxes)
  sides = xp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
  return sides[..., 0] * sides[..., 1]


def _overlap(xp: ModuleType, pred: Any, true: Any) -> tuple[Any, Any]:
  """Intersection and union areas."""
  low = xp.maximum(pred[..., :2], true[..., :2])
  high = xp.minimum(pred[..., 2:], true[..., 2:])
  inter = area(xp.concatenate([low, high], -1))
  return inter, area(pred) + area(true) - inter


def _enclosing_sides(xp: ModuleType, pred: Any, true: Any) -> Any:
  """Width and height [..., 2] of the smallest box around both."""
  low = xp.minimum(pred[..., :2], true[..., :2])
  high = xp.maximum(pred[..., 2:], true[..., 2:])
  return high - low


def iou(pred: Any, true: Any) -> Any:
  """Intersection over union of paired boxes; 0 where the union is empty.

  Args:
    pred: [..., 4] xyxy.
    true: [..., 4] xyxy, same units.

  Returns:
    [...] in [0, 1].
  """
  xp, pred, true = _arrays(pred, true)
  inter, union = _overlap(xp, pred, true)
  return _ratio(xp, inter, union)


def giou_loss(pred: Any, true: Any) -> Any:
  """Generalised IoU loss, 1 - IoU + (C - U) / C (Rezatofighi et al. 2019).

  U is the area of the union, C that of the enclosing box.

  Args:
    pred: [..., 4] xyxy.
    true: [..., 4] xyxy, same units.

  Returns:
    [...] in [0, 2) for proper boxes; finite, with finite gradients, for all.
  """
  xp, pred, true = _arrays(pred, true)
  inter, union = _overlap(xp, pred, true)
  sides = _enclosing_sides(xp, pred, true)
  hull = sides[..., 0] * sides[..., 1]
  return 1 - _ratio(xp, inter, union) + _ratio(xp, hull - union, hull)


def diou_loss(pred: Any, true: Any) -> Any:
  """Distance IoU loss, 1 - IoU + rho^2 / c^2 (Zheng et al. 2020, eq. 7).

  rho is the distance of the centres, c the diagonal of the enclosing box.

  Args:
    pred: [..., 4] xyxy.
    true: [..., 4] xyxy, same units.

  Returns:
    [...] in [0, 2) for proper boxes; finite, with finite gradients, for all.
  """
  xp, pred, true = _arrays(pred, true)
  offset = (pred[..., :2] + pred[..., 2:] - true[..., :2] - true[..., 2:]) / 2
  diagonal = _enclosing_sides(xp, pred, true)
  distance = _ratio(xp, (offset**2).sum(-1), (diagonal**2).sum(-1))
  return 1 - iou(pred, true) + distance


def ciou_loss(pred: Any, true: Any, *, gate: bool = False) -> Any:
  """Complete IoU loss, DIoU loss + alpha v (Zheng et al. 2020, eqs. 8-11).

  v = (4 / pi^2) (atan(w_true / h_true) - atan(w / h))^2 and
  alpha = v / ((1 - IoU) + v), a constant in the gradient.

  Args:
    pred: [..., 4] xyxy.
    true: [..., 4] xyxy, same units.
    gate: sets alpha = 0 where IoU <= 0.5, as the authors' later code does.

  Returns:
    [...] in [0, 2.5) for proper boxes; finite, with finite gradients, for
    all. A pair of equal boxes without area has the loss 1.
  """
  xp, pred, true = _arrays(pred, true)
  v = 4 / math.pi**2 * (_angle(xp, true) - _angle(xp, pred)) ** 2
  overlap = iou(pred, true)
  alpha = _ratio(xp, v, 1 - overlap + v)
  if gate:
    alpha = xp.where(overlap > 0.5, alpha, 0)
  if xp is jnp:
    alpha = jax.lax.stop_gradient(alpha)
  return diou_loss(pred, true) + alpha * v


def _angle(xp: ModuleType, boxes: Any) -> Any:
  """atan(w / h), sides kept above zero so that the gradient stays finite."""
  sides = xp.maximum(boxes[..., 2:] - boxes[..., :2], _MIN_SIDE)
  return xp.arctan2(sides[..., 0], sides[..., 1])
