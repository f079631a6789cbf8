import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.data import augment
from mtlmoe_jax.ops import boxes
from tests.support import layouts

PLAIN = {"flip": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}


def options(**changes):
  out = config_lib.default_config().data.augment
  for key, value in changes.items():
    out[key] = value
  return out


def record(image, box=None):
  return {
    "image": image,
    "label": np.int32(0),
    "box": np.zeros(4, np.float32) if box is None else np.float32(box),
    "has_label": True,
    "has_box": box is not None,
    "id": "x",
  }


@given(st.integers(0, 10**6), st.integers(0, 1))
@settings(max_examples=100, deadline=None)
def test_box_follows_the_pixels(seed, flip):
  box = (0.25, 0.2, 0.75, 0.6)
  image = np.zeros((120, 160, 3), np.uint8)
  image[24:72, 40:120] = 255
  size = 96
  out, moved = augment.augment(
    record(image, box),
    np.random.default_rng(seed),
    size,
    options(**{**PLAIN, "flip": float(flip)}),
  )
  assert out.shape == (size, size, 3)
  # Edge positions from areas: the sum of grey along a line through the box is
  # its width in pixels, but for where the samples meet its edges.
  grey = out[..., 0].astype(float) / 255
  x1, y1, x2, y2 = moved * size
  centre_row = int((y1 + y2) / 2)
  centre_column = int((x1 + x2) / 2)
  assert grey[centre_row].sum() == pytest.approx(x2 - x1, abs=0.35)
  assert grey[:, centre_column].sum() == pytest.approx(y2 - y1, abs=0.35)
  weights = grey[centre_row] * (np.arange(size) + 0.5)
  assert weights.sum() / grey[centre_row].sum() == pytest.approx(
    (x1 + x2) / 2, abs=0.2
  )


@given(
  st.integers(0, 10**6),
  st.floats(0.05, 0.9),
  st.floats(0, 1),
  st.integers(10, 300),
)
@settings(max_examples=25, deadline=None)
def test_windows_obey_area_aspect_and_visibility(seed, area, visible, width):
  chosen = options(crop_area_min=area, min_visible=visible, crop_aspect_max=1.5)
  box = np.array([0.6, 0.1, 0.95, 0.5], np.float32)
  height = 100
  window = augment.random_window(
    np.random.default_rng(seed), height, width, box, chosen
  )
  x1, y1, x2, y2 = window
  assert 0 <= x1 < x2 <= width
  assert 0 <= y1 < y2 <= height
  w, h = x2 - x1, y2 - y1
  if window != (0, 0, width, height):
    # Sides are rounded to whole pixels, by half a pixel at most.
    assert (w + 0.5) * (h + 0.5) >= area * width * height - 1e-6
    assert (w - 0.5) / (h + 0.5) <= 1.5
    assert (w + 0.5) / (h - 0.5) >= 1 / 1.5
  share = np.array(window) / (width, height, width, height)
  assert boxes.crop(box, share)[1] >= visible - 1e-6


corner = st.floats(-0.2, 1.2)
size = st.integers(1, 60)


@given(st.tuples(corner, corner, corner, corner), size, size, st.data())
@settings(max_examples=100, deadline=None)
def test_cut_is_crop_in_plain_numbers(box, height, width, data):
  x1, y1, x2, y2 = box
  box = np.array([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)])
  x = data.draw(st.integers(0, width - 1))
  y = data.draw(st.integers(0, height - 1))
  window = (
    x,
    y,
    data.draw(st.integers(x + 1, width)),
    data.draw(st.integers(y + 1, height)),
  )
  inside, visible = augment.cut(augment.scaled(box, height, width), window)
  share = np.array(window) / (width, height, width, height)
  want, want_visible = boxes.crop(box, share)
  np.testing.assert_allclose(inside, want, atol=1e-9)
  if np.prod(box[2:] - box[:2]) > 1e-6:
    assert visible == pytest.approx(want_visible, abs=1e-6)


def test_cut_of_a_box_without_area_shows_nothing():
  assert augment.cut((3, 3, 3, 9), (0, 0, 10, 10)) == ((0.3, 0.3, 0.3, 0.9), 0)


def test_windows_reach_every_edge():
  windows = np.array(
    [
      augment.random_window(
        np.random.default_rng(seed), 12, 16, None, options(crop_area_min=0.2)
      )
      for seed in range(300)
    ]
  )
  np.testing.assert_array_equal(windows.min(0)[:2], [0, 0])
  np.testing.assert_array_equal(windows.max(0)[2:], [16, 12])


def test_hopeless_visibility_takes_the_whole_image():
  # Small square crops of a very wide image never show all of a box as wide.
  window = augment.random_window(
    np.random.default_rng(0),
    100,
    1000,
    np.array([0, 0, 1, 1], np.float32),
    options(crop_area_min=0.05, min_visible=1.0),
  )
  assert window == (0, 0, 1000, 100)


def test_no_box_gives_zeros_and_still_crops():
  image = layouts.picture(0, 80, 60)
  outs = [
    augment.augment(record(image), np.random.default_rng(s), 32, options())
    for s in (0, 1)
  ]
  np.testing.assert_array_equal(outs[0][1], np.zeros(4))
  assert (outs[0][0] != outs[1][0]).any()


def test_same_generator_same_bits_and_record_is_left_alone():
  image = layouts.picture(0, 80, 60)
  image.flags.writeable = False
  item = record(image, (0.2, 0.2, 0.8, 0.9))
  first, second = (
    augment.augment(item, np.random.default_rng(7), 32, options())
    for _ in range(2)
  )
  np.testing.assert_array_equal(first[0], second[0])
  np.testing.assert_array_equal(first[1], second[1])
  np.testing.assert_array_equal(item["box"], np.float32([0.2, 0.2, 0.8, 0.9]))


def test_flip_mirrors_pixels_and_box():
  image = layouts.picture(3, 64, 64)
  item = record(image, (0.1, 0.2, 0.5, 0.9))
  fixed = {**PLAIN, "crop_area_min": 1.0, "crop_aspect_max": 1.0}
  plain, box = augment.augment(
    item, np.random.default_rng(0), 64, options(**fixed)
  )
  np.testing.assert_array_equal(plain, image)
  np.testing.assert_allclose(box, [0.1, 0.2, 0.5, 0.9], atol=1e-6)
  mirrored, box = augment.augment(
    item, np.random.default_rng(0), 64, options(**{**fixed, "flip": 1.0})
  )
  np.testing.assert_array_equal(mirrored, image[:, ::-1])
  np.testing.assert_allclose(box, [0.5, 0.2, 0.9, 0.9], atol=1e-6)


@given(
  st.floats(0.5, 1.5), st.floats(0.5, 1.5), st.floats(0, 2), st.integers(0, 9)
)
@settings(max_examples=25, deadline=None)
def test_recolor_against_three_steps(brightness, contrast, saturation, seed):
  # Values around the middle, so that nothing is cut at 0 or 255.
  image = layouts.picture(seed, 16, 16) // 8 + 112
  out = augment.recolor(image, brightness, contrast, saturation)
  luma = np.array([0.299, 0.587, 0.114])
  want = brightness * image.astype(float)
  want = contrast * want + (1 - contrast) * (want @ luma).mean()
  want = saturation * want + (1 - saturation) * (want @ luma)[..., None]
  assert np.abs(out - want.clip(0, 255)).max() < 1.6


def test_recolor_with_ones_changes_nothing():
  image = layouts.picture(1, 8, 8)
  np.testing.assert_array_equal(augment.recolor(image, 1, 1, 1), image)


def test_recolor_cuts_at_black_and_white():
  image = np.array([[[250, 128, 3]]], np.uint8)
  np.testing.assert_array_equal(
    augment.recolor(image, 2, 1, 1), [[[255, 255, 6]]]
  )
