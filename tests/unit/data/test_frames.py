"""The whole image and its crops, as the network sees them in evaluation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data
from mtlmoe_jax.data import frames, resampling


def config_of(views="crops", share=0.75, size=32):
  config = config_lib.default_config()
  config.data.image_size = size
  config.eval.views = views
  config.eval.crop_share = share
  return config


def picture(height, width, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (height, width, 3), np.uint8)


def test_windows_by_hand():
  assert frames.five_windows(80, 41, 0.75) == [
    (5, 10, 36, 70),
    (0, 0, 31, 60),
    (10, 0, 41, 60),
    (0, 20, 31, 80),
    (10, 20, 41, 80),
  ]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.floats(0.5, 0.999))
def test_windows_fit_and_are_their_own_mirror(height, width, share):
  found = frames.five_windows(height, width, share)
  for x1, y1, x2, y2 in found:
    assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
    assert x2 - x1 == pytest.approx(share * width, abs=1.001)
  mirrored = {(width - x2, y1, width - x1, y2) for x1, y1, x2, y2 in found}
  assert mirrored == set(found)


@pytest.mark.parametrize("views", ["whole", "flip"])
def test_without_crops_there_is_the_whole_image_alone(views):
  image = picture(50, 40)
  found = data.eval_frames(image, config_of(views))
  assert list(found) == ["image"]
  np.testing.assert_array_equal(found["image"], data.resize(image, 32))


def test_crops_have_the_pixels_of_their_windows():
  image = picture(300, 200)  # it is shrunk to 96 x 64 first
  found = data.eval_frames(image, config_of())
  np.testing.assert_array_equal(found["image"], data.resize(image, 32))
  shrunk = resampling.shrink(image, 64)
  assert shrunk.shape[:2] == (96, 64)
  assert found["crops"].shape == (5, 32, 32, 3)
  for crop, window in zip(found["crops"], found["windows"]):
    x1, y1, x2, y2 = (window * [64, 96, 64, 96]).astype(int)
    np.testing.assert_array_equal(crop, data.resize(shrunk[y1:y2, x1:x2], 32))
  np.testing.assert_array_equal(found["windows"][4], [0.25, 0.25, 1, 1])


def test_an_image_kept_shrunk_gives_the_same_frames():
  image = picture(150, 331)
  want = data.eval_frames(image, config_of())
  found = data.eval_frames(resampling.shrink(image, 64), config_of())
  for name, value in want.items():
    np.testing.assert_array_equal(found[name], value)


def test_for_a_closer_look_there_are_more_pixels_and_the_cache_has_them():
  image = picture(300, 200)
  found = data.eval_frames(image, config_of("flip+zoom"))
  assert list(found) == ["image", "large"]
  assert found["large"].shape == (64, 64, 3)
  cached = data.eval_frames(
    resampling.shrink(image, 64), config_of("flip+zoom")
  )
  np.testing.assert_array_equal(found["large"], cached["large"])
