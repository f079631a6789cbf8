import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax.errors import InputError
from mtlmoe_jax.ops import boxes

pytestmark = pytest.mark.default_flags

LOSSES = (boxes.giou_loss, boxes.diou_loss, boxes.ciou_loss)

# Non-square pairs computed independently in float64.
PRED = np.array(
  [
    [0.1, 0.2, 0.5, 0.9],
    [0.2, 0.3, 0.8, 0.5],
    [0.0, 0.0, 0.2, 0.4],
    [0.1, 0.1, 0.6, 0.8],
  ]
)
TRUE = np.array(
  [
    [0.2, 0.1, 0.7, 0.6],
    [0.3, 0.2, 0.7, 0.8],
    [0.5, 0.5, 1.0, 0.7],
    [0.12, 0.15, 0.7, 0.78],
  ]
)
VALUES = {
  boxes.iou: [0.292683, 0.285714, 0, 0.732203],
  boxes.giou_loss: [0.853150, 0.936508, 1.742857, 0.284463],
  boxes.diou_loss: [0.769817, 0.728175, 1.390940, 0.272297],
  boxes.ciou_loss: [0.770939, 0.763361, 1.428661, 0.272438],
}
# d CIoU / d pred with alpha constant.
GRADIENTS = [
  [-0.565630, 0.855137, -0.920524, 0.390728],
  [-0.234162, 1.245286, 0.234162, -1.523064],
  [0.296157, -0.004954, -0.643889, -0.164633],
  [-1.303104, -0.898219, -1.474064, 0.862925],
]
# The same if the gradient went through alpha, which it must not.
GRADIENTS_THROUGH_ALPHA = [
  [-0.556151, 0.849149, -0.928081, 0.395275],
  [-0.268759, 1.324910, 0.268759, -1.602688],
  [0.467201, -0.090476, -0.814933, -0.079110],
  [-1.300359, -0.899267, -1.475448, 0.863973],
]

# pred, true: everything that divides by zero somewhere.
AWKWARD = np.array(
  [
    [[0.2, 0.3, 0.6, 0.9], [0.2, 0.3, 0.6, 0.9]],  # identical
    [[0.5, 0.2, 0.5, 0.9], [0.2, 0.3, 0.6, 0.9]],  # no width
    [[0.2, 0.5, 0.9, 0.5], [0.2, 0.3, 0.6, 0.9]],  # no height
    [[0.5, 0.5, 0.5, 0.5], [0.2, 0.3, 0.6, 0.9]],  # a point
    [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]],  # the same point
    [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]],
    [[0.2, 0.3, 0.6, 0.9], [0.0, 0.0, 0.0, 0.0]],  # no target
    [[0.2, 0.1, 0.2, 0.9], [0.2, 0.3, 0.2, 0.8]],  # both without width
    [[0.0, 0.0, 0.1, 0.1], [0.8, 0.7, 1.0, 1.0]],  # disjoint
    [[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]],  # touching
    [[0.7, 0.8, 0.2, 0.1], [0.2, 0.3, 0.6, 0.9]],  # inverted
    [[0.7, 0.1, 0.2, 0.8], [0.2, 0.3, 0.6, 0.9]],  # inverted in x
    [[0.2, 0.3, 0.6, 0.9], [0.6, 0.9, 0.2, 0.3]],  # inverted target
    [[0.2, 0.3, 0.2000001, 0.9], [0.2, 0.3, 0.6, 0.9]],  # thread
    [[0.3, 0.3, 0.3000001, 0.3000001], [0.3, 0.3, 0.3000001, 0.3000001]],
    [[0.0, 0.0, 1e-8, 1e-8], [0.0, 0.0, 1e-8, 2e-8]],
    [[-1e4, -1e4, 1e4, 1e4], [0.2, 0.3, 0.6, 0.9]],  # wide off
  ],
  np.float32,
)

corner = st.floats(0, 1, width=32).map(lambda v: round(v, 3))
side = st.floats(0.01, 1).map(lambda v: round(v, 3))
box = st.tuples(corner, corner, side, side).map(
  lambda b: np.array([b[0], b[1], b[0] + b[2], b[1] + b[3]])
)


def naive_ciou(p, t, alpha=None):
  """One pair in plain Python; `alpha` may be held fixed."""
  inter = max(min(p[2], t[2]) - max(p[0], t[0]), 0) * max(
    min(p[3], t[3]) - max(p[1], t[1]), 0
  )
  pw, ph, tw, th = p[2] - p[0], p[3] - p[1], t[2] - t[0], t[3] - t[1]
  iou = inter / (pw * ph + tw * th - inter)
  rho2 = ((p[0] + p[2] - t[0] - t[2]) / 2) ** 2 + (
    (p[1] + p[3] - t[1] - t[3]) / 2
  ) ** 2
  c2 = (max(p[2], t[2]) - min(p[0], t[0])) ** 2 + (
    max(p[3], t[3]) - min(p[1], t[1])
  ) ** 2
  v = 4 / math.pi**2 * (math.atan(tw / th) - math.atan(pw / ph)) ** 2
  if alpha is None:
    alpha = v / (1 - iou + v) if v else 0.0
  return 1 - iou + rho2 / c2 + alpha * v, alpha


_gradient = jax.jit(
  jax.grad(lambda pred, true: boxes.ciou_loss(pred, true).sum())
)


def ciou_gradient(pred, true):
  with jax.enable_x64(True):
    return np.asarray(_gradient(jnp.asarray(pred), jnp.asarray(true)))


@pytest.mark.parametrize("function", VALUES, ids=lambda f: f.__name__)
def test_values_on_known_pairs(function):
  expected = VALUES[function]
  np.testing.assert_allclose(function(PRED, TRUE), expected, atol=6e-7)
  on_jax = function(jnp.asarray(PRED), TRUE)
  assert isinstance(on_jax, jax.Array)
  np.testing.assert_allclose(on_jax, expected, atol=2e-6)


def test_square_pairs_of_torchvision():
  true = np.array([-1.0, -1, 1, 1])
  pred = np.array([[-1.0, -1, 1, 1], [0, 0, 1, 1], [0, 1, 1, 2], [1, 1, 2, 2]])
  for loss in (boxes.diou_loss, boxes.ciou_loss):
    np.testing.assert_allclose(
      loss(pred, np.broadcast_to(true, (4, 4))),
      [0, 0.8125, 1.1923, 1.25],
      atol=5e-5,
    )
  # The published mean: [0, 0, 1, 1] against the last two.
  mean = np.mean(boxes.ciou_loss(pred[1], pred[2:]))
  assert mean == pytest.approx(1.2250, abs=1e-9)


def test_ciou_gradient_holds_alpha_constant():
  found = ciou_gradient(PRED, TRUE)
  np.testing.assert_allclose(found, GRADIENTS, atol=2e-6)
  apart = np.abs(found - GRADIENTS_THROUGH_ALPHA).max(axis=1)
  assert (apart > 1e-3).all()


def test_ciou_gradient_in_float32():
  found = _gradient(jnp.asarray(PRED), jnp.asarray(TRUE))
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, GRADIENTS, atol=2e-5)


@settings(max_examples=25, deadline=None)
@given(box, box)
def test_ciou_is_the_naive_one_and_its_gradient_the_finite_difference(p, t):
  value, alpha = naive_ciou(p, t)
  assert float(boxes.ciou_loss(p, t)) == pytest.approx(value, abs=1e-9)
  if np.abs(p - t).min() < 1e-3 or (
    np.abs(p[[0, 1, 2, 3]] - t[[2, 3, 0, 1]]).min() < 1e-3
  ):
    return  # min and max have ties: no derivative there
  step = 1e-6
  expected = [
    (naive_ciou(p + d, t, alpha)[0] - naive_ciou(p - d, t, alpha)[0])
    / (2 * step)
    for d in np.eye(4) * step
  ]
  np.testing.assert_allclose(
    ciou_gradient(p, t), expected, atol=2e-4, rtol=1e-4
  )


@pytest.mark.parametrize("name", ["giou_loss", "diou_loss"])
def test_other_gradients_are_finite_differences(name):
  loss = getattr(boxes, name)
  with jax.enable_x64(True):
    summed = jax.jit(jax.grad(lambda p: loss(p, jnp.asarray(TRUE)).sum()))
    found = summed(jnp.asarray(PRED))
  for i, d in enumerate(np.eye(4) * 1e-6):
    expected = (loss(PRED + d, TRUE) - loss(PRED - d, TRUE)) / 2e-6
    np.testing.assert_allclose(found[:, i], expected, atol=1e-6)


def test_gate_switches_alpha_off_up_to_half_overlap():
  gated = boxes.ciou_loss(PRED, TRUE, gate=True)
  np.testing.assert_allclose(gated[:3], boxes.diou_loss(PRED, TRUE)[:3])
  assert gated[3] == boxes.ciou_loss(PRED, TRUE)[3]
  assert (boxes.ciou_loss(PRED, TRUE) > boxes.diou_loss(PRED, TRUE)).all()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_awkward_boxes_are_finite_with_finite_gradients(loss):
  both = jax.jit(
    jax.vmap(jax.value_and_grad(lambda pair: loss(pair[0], pair[1])))
  )
  value, gradient = both(jnp.asarray(AWKWARD))
  assert np.isfinite(value).all()
  assert np.isfinite(gradient).all()
  assert np.isfinite(loss(AWKWARD[:, 0], AWKWARD[:, 1])).all()
  np.testing.assert_allclose(
    loss(AWKWARD[:, 0], AWKWARD[:, 1]), value, rtol=1e-3, atol=1e-5
  )


@settings(max_examples=25, deadline=None)
@given(
  st.lists(
    st.sampled_from([0.0, 1e-8, 1e-4, 0.25, 0.5, 0.75, 1.0]),
    min_size=8,
    max_size=8,
  )
)
def test_any_corners_are_finite(numbers):
  pair = jnp.asarray(numbers, jnp.float32).reshape(2, 4)
  value, gradient = _ciou_of_pair(pair)
  assert np.isfinite(value) and np.isfinite(gradient).all()


_ciou_of_pair = jax.jit(
  jax.value_and_grad(lambda pair: boxes.ciou_loss(pair[0], pair[1]))
)


def test_identical_boxes_cost_nothing_and_points_cost_one():
  for loss in LOSSES:
    np.testing.assert_allclose(loss(TRUE, TRUE), 0, atol=1e-7)
  point = np.full(4, 0.5)
  assert boxes.ciou_loss(point, point) == 1
  assert boxes.iou(point, point) == 0


def test_a_collapsed_or_distant_box_is_pulled_to_the_target():
  true = np.array([0.5, 0.5, 0.8, 0.9])
  pred = np.array([[0.1, 0.1, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]])
  moved = pred - 0.01 * ciou_gradient(pred, np.stack([true, true]))
  assert (boxes.ciou_loss(moved, true) < boxes.ciou_loss(pred, true)).all()


@settings(max_examples=25, deadline=None)
@given(box, box, st.floats(-3, 3), st.floats(0.1, 500))
def test_invariances(p, t, shift, scale):
  swap = [1, 0, 3, 2]
  for loss in LOSSES:
    value = float(loss(p, t))
    assert float(loss(t, p)) == pytest.approx(value, abs=1e-6)
    assert float(loss(p + shift, t + shift)) == pytest.approx(value, abs=1e-6)
    assert float(loss(p * scale, t * scale)) == pytest.approx(value, abs=1e-6)
    assert float(loss(p[swap], t[swap])) == pytest.approx(value, abs=1e-6)
    assert value >= 1 - float(boxes.iou(p, t)) - 1e-9
    assert value < (2.5 if loss is boxes.ciou_loss else 2)


def test_half_precision_is_computed_in_float32():
  pred = jnp.asarray([[0, 0, 400, 500]], jnp.float16)
  true = jnp.asarray([[0, 0, 500, 400]], jnp.float16)
  loss = boxes.ciou_loss(pred, true)
  assert loss.dtype == jnp.float32
  expected = boxes.ciou_loss(np.asarray(pred, float), np.asarray(true, float))
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_losses_broadcast_and_keep_leading_axes():
  assert boxes.ciou_loss(np.ones((2, 3, 4)), np.ones(4)).shape == (2, 3)
  assert boxes.ciou_loss(np.ones((0, 4)), np.ones((0, 4))).shape == (0,)


FRAME = [0.0, 0, 1, 1]

# --- formats -----------------------------------------------------------------

SIZE = (200, 400)  # height, width
XYXY = [0.1, 0.2, 0.5, 0.9]
FORMATS = {
  "xyxy": XYXY,
  "yxyx": [0.2, 0.1, 0.9, 0.5],
  "xywh": [0.1, 0.2, 0.4, 0.7],
  "cxcywh": [0.3, 0.55, 0.4, 0.7],
  "pixel_xyxy": [40, 40, 200, 180],
  "pixel_yxyx": [40, 40, 180, 200],
  "pixel_xywh": [40, 40, 160, 140],
  "pixel_cxcywh": [120, 110, 160, 140],
}


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_convert_between_all_formats(source, target):
  given = np.array([FORMATS[source]], np.float32)
  found = boxes.convert(given, source, target, SIZE)
  assert isinstance(found, np.ndarray) and found.dtype == np.float32
  np.testing.assert_allclose(found, [FORMATS[target]], rtol=1e-5)


def test_convert_needs_a_size_only_across_units():
  found = boxes.convert([40, 40, 160, 140], "pixel_xywh", "pixel_xyxy")
  np.testing.assert_allclose(found, [40, 40, 200, 180])
  for size in (None, (0, 10)):
    with pytest.raises(InputError, match="size"):
      boxes.convert([40, 40, 160, 140], "pixel_xywh", "xyxy", size)


def test_convert_names_an_unknown_format():
  with pytest.raises(InputError, match="'xyhw' is unknown"):
    boxes.convert(XYXY, "xyhw", "xyxy")


def test_convert_on_jax():
  convert = jax.jit(lambda b: boxes.convert(b, "cxcywh", "xyxy"))
  np.testing.assert_allclose(
    convert(jnp.asarray(FORMATS["cxcywh"])), XYXY, rtol=1e-5
  )


def test_numpy_stays_on_numpy():
  with jax.transfer_guard("disallow"):
    for out in (
      boxes.clip(TRUE),
      boxes.area(TRUE),
      boxes.flip_left_right(TRUE),
      *boxes.crop(TRUE, [0.1, 0.1, 0.9, 0.9]),
      boxes.uncrop(TRUE, [0.1, 0.1, 0.9, 0.9]),
      boxes.merge_views(TRUE[:2], np.array([FRAME, FRAME])),
      boxes.ciou_loss(PRED, TRUE),
    ):
      assert isinstance(out, np.ndarray) and out.dtype == np.float64


def test_clip_area_and_flip():
  wild = np.array([-0.5, 0.2, 1.5, 0.9], np.float32)
  np.testing.assert_allclose(boxes.clip(wild), [0, 0.2, 1, 0.9], rtol=1e-6)
  np.testing.assert_allclose(boxes.area([XYXY]), [0.28], rtol=1e-6)
  assert boxes.area(np.array([0.5, 0.1, 0.2, 0.9])) == 0
  assert boxes.area(np.array([0.5, 0.9, 0.2, 0.1])) == 0
  flipped = boxes.flip_left_right(np.array(XYXY))
  np.testing.assert_allclose(flipped, [0.5, 0.2, 0.9, 0.9])
  np.testing.assert_allclose(boxes.flip_left_right(flipped), XYXY)


def test_crop_renormalises_and_tells_what_is_visible():
  window = np.array([0.2, 0.1, 0.6, 0.9])
  inside, visible = boxes.crop(
    np.array(
      [
        [0.3, 0.3, 0.5, 0.5],  # within
        [0.1, 0.1, 0.3, 0.3],  # half
        [0.7, 0.1, 0.9, 0.3],  # without
        [0.2, 0.1, 0.6, 0.9],  # the window
        [0.0, 0.0, 1.0, 1.0],  # the frame
        [0.4, 0.4, 0.4, 0.4],  # no area
      ]
    ),
    window,
  )
  expected = [
    [0.25, 0.25, 0.75, 0.5],
    [0, 0, 0.25, 0.25],
    [1, 0, 1, 0.25],
    [0, 0, 1, 1],
    [0, 0, 1, 1],
    [0.5, 0.375, 0.5, 0.375],
  ]
  np.testing.assert_allclose(inside, expected, atol=1e-12)
  np.testing.assert_allclose(visible, [1, 0.5, 0, 1, 0.32, 0], atol=1e-12)


def test_crop_without_a_window_is_finite():
  inside, visible = boxes.crop(np.array(XYXY), np.array([0.3, 0.3, 0.3, 0.3]))
  assert np.isfinite(inside).all() and visible == 0


@settings(max_examples=25, deadline=None)
@given(box, box)
def test_crop_agrees_with_the_overlap(p, window):
  _, visible = boxes.crop(p, window)
  low, high = np.maximum(p[:2], window[:2]), np.minimum(p[2:], window[2:])
  overlap = np.prod(np.maximum(high - low, 0))
  assert float(visible) == pytest.approx(overlap / boxes.area(p), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(box, box)
def test_uncrop_undoes_crop_of_a_box_inside(p, window):
  placed = boxes.uncrop(p, window)
  again = (placed - window[[0, 1, 0, 1]]) / np.tile(window[2:] - window[:2], 2)
  np.testing.assert_allclose(again, p, atol=1e-9)
  inside, _ = boxes.crop(placed, window)
  np.testing.assert_allclose(inside, np.clip(p, 0, 1), atol=1e-9)


def test_uncrop_by_hand():
  found = boxes.uncrop(
    np.array([[0.0, 0, 1, 1], [0.5, 0.25, 0.75, 1]]),
    np.array([[0.5, 0.25, 1, 1], [0, 0, 0.5, 0.5]]),
  )
  np.testing.assert_array_equal(
    found, [[0.5, 0.25, 1, 1], [0.25, 0.125, 0.375, 0.5]]
  )


# --- several views -----------------------------------------------------------

WINDOWS = np.array(
  [FRAME, [0, 0, 0.75, 0.75], [0.25, 0, 1, 0.75], [0.125, 0.125, 0.875, 0.875]]
)


def test_views_that_cut_the_object_do_not_count():
  given = np.array(
    [
      [0.25, 0.25, 0.75, 0.5],
      [0.2, 0.2, 0.6, 0.5],  # its window ends where the object ends
      [0.3, 0.3, 0.9, 0.4],  # its window begins there
      [0.1, 0.1, 0.9, 0.9],
    ]
  )
  np.testing.assert_allclose(
    boxes.merge_views(given, WINDOWS), given.mean(0), atol=1e-12
  )
  given[0] += [-0.01, 0, 0.01, 0]  # now it reaches beyond both
  np.testing.assert_allclose(
    boxes.merge_views(given, WINDOWS), given[[0, 3]].mean(0), atol=1e-12
  )


def test_a_box_beyond_the_frame_is_judged_by_its_part_inside():
  given = np.array([[-0.2, -0.1, 0.5, 0.5], [-0.1, 0, 0.5, 0.6]])
  np.testing.assert_allclose(
    boxes.merge_views(given, WINDOWS[:2]), given.mean(0), atol=1e-12
  )


def test_views_are_merged_on_jax_too():
  given, windows = np.float32(PRED), np.float32(WINDOWS)
  found = jax.jit(boxes.merge_views)(given, windows)
  np.testing.assert_allclose(
    found, boxes.merge_views(given, windows), rtol=1e-6
  )


def test_one_view_is_left_as_it_is():
  given = np.array([PRED], np.float32)
  frame = np.broadcast_to(np.float32(FRAME), given.shape)
  np.testing.assert_array_equal(boxes.merge_views(given, frame), given[0])


def naive_merge(given, windows):
  whole = [b for b, w in zip(given, windows) if list(w) == FRAME]
  seen = [min(max(sum(v) / len(whole), 0), 1) for v in zip(*whole)]
  counted = [
    b
    for b, w in zip(given, windows)
    if w[0] <= seen[0]
    and w[1] <= seen[1]
    and w[2] >= seen[2]
    and w[3] >= seen[3]
  ]
  return [sum(v) / len(counted) for v in zip(*counted)]


# Eighths: sums of them are exact, so that no comparison hangs on rounding.
eighth = st.integers(0, 8).map(lambda v: v / 8)
eighths = st.tuples(*[eighth] * 4).map(
  lambda b: np.array(
    [min(b[0], b[2]), min(b[1], b[3]), *np.maximum(b[:2], b[2:])]
  )
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(eighths, eighths), min_size=1, max_size=5), st.data())
def test_merged_views_are_the_naive_ones_in_any_order_and_mirrored(views, data):
  given = np.array([b for b, _ in views])
  windows = np.array([FRAME, *(w for _, w in views[1:])])
  found = boxes.merge_views(given, windows)
  np.testing.assert_allclose(found, naive_merge(given, windows), atol=1e-12)
  order = data.draw(st.permutations(range(len(given))))
  np.testing.assert_allclose(
    boxes.merge_views(given[order], windows[order]), found, atol=1e-12
  )
  mirror = boxes.flip_left_right
  np.testing.assert_allclose(
    boxes.merge_views(mirror(given), mirror(windows)), mirror(found), atol=1e-12
  )


@given(
  st.tuples(*[st.floats(0, 1)] * 4),
  st.floats(1, 2),
  st.floats(0, 0.5),
)
def test_a_window_around_a_box_shows_it_all(numbers, margin, least):
  x1, x2 = sorted(numbers[:2])
  y1, y2 = sorted(numbers[2:])
  box = np.array([x1, y1, x2, y2])
  window = boxes.around(box, margin, least)
  assert (window[:2] <= box[:2] + 1e-9).all()
  assert (window[2:] >= box[2:] - 1e-9).all()
  assert (window >= 0).all() and (window <= 1).all()
  assert (window[2:] - window[:2] >= least / 2 - 1e-9).all()
  mirrored = boxes.around(boxes.flip_left_right(box), margin, least)
  np.testing.assert_allclose(mirrored, boxes.flip_left_right(window), atol=1e-9)


def test_windows_around_boxes_are_the_same_on_jax():
  box = [[0.4, 0.5, 0.6, 0.9], [1.1, 0.2, 1.3, 0.4]]
  want = [[0.35, 0.4, 0.65, 1.0], [0.85, 0.15, 1.0, 0.45]]
  np.testing.assert_allclose(boxes.around(np.array(box), 1.5), want)
  np.testing.assert_allclose(boxes.around(jnp.array(box), 1.5), want, rtol=1e-6)
