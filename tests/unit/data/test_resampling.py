import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mtlmoe_jax.data import resampling
from tests.support import layouts


@pytest.mark.parametrize(
  ("width", "height", "want"),
  [(100, 50, (20, 40)), (50, 100, (40, 20)), (20, 400, (400, 20))],
)
def test_shrink_keeps_aspect(width, height, want):
  out = resampling.shrink(layouts.picture(1, width, height), 20)
  assert out.shape == (*want, 3)
  assert resampling.shrink(out, 20) is out


@pytest.mark.parametrize("shape", [(90, 130), (31, 400), (12, 10), (64, 64)])
def test_resize_of_a_shrunk_image_is_the_resize_of_the_image(shape):
  image = layouts.picture(2, *shape)
  direct = resampling.resize(image, 16)
  assert direct.shape == (16, 16, 3)
  np.testing.assert_array_equal(
    direct, resampling.resize(resampling.shrink(image, 32), 16)
  )


def test_resize_is_antialiased_bilinear():
  # A one-pixel checkerboard averages to grey; without antialiasing it stays
  # black and white.
  board = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)
  out = resampling.resize(np.repeat(board[..., None], 3, -1), 16)
  assert np.abs(out.astype(int) - 127).max() <= 10
  ramp = np.linspace(0, 255, 16).astype(np.uint8)
  image = np.broadcast_to(ramp[None, :, None], (16, 16, 3)).copy()
  np.testing.assert_array_equal(resampling.resize(image, 16), image)


@given(st.integers(33, 128), st.integers(20, 128), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_resize_is_close_to_pillows(height, width, seed):
  image = layouts.picture(seed, width, height)
  small = resampling.shrink(image, 64)
  want = Image.fromarray(small).resize((32, 32), Image.Resampling.BILINEAR)
  out = resampling.resize(image, 32)
  # On average; the filter's shape differs, its width does not.
  assert np.abs(out.astype(float) - np.asarray(want)).mean() < 4


def test_finest_stripes_vanish_at_half_size():
  stripes = np.zeros((32, 32, 3), np.uint8)
  stripes[:, ::2] = 255
  out = resampling.resize(stripes, 16)[:, 1:-1]
  assert np.abs(out.astype(int) - 127).max() <= 1


def test_windows_are_cut_exactly():
  image = layouts.picture(0, 64, 64)
  np.testing.assert_array_equal(
    resampling.resize(image, 32, (5, 9, 37, 41)), image[9:41, 5:37]
  )
  # Pixels around a window never leak into it.
  image = np.zeros((64, 64, 3), np.uint8)
  image[10:58, 10:58] = 200
  assert (resampling.resize(image, 32, (10, 10, 58, 58)) == 200).all()


def test_one_pixel_fills_the_frame():
  out = resampling.resize(layouts.picture(0, 9, 9), 8, (4, 4, 5, 5))
  assert (out == out[0, 0]).all()


def test_source_is_left_alone():
  image = layouts.picture(0, 90, 60)
  image.flags.writeable = False
  before = image.copy()
  resampling.resize(image, 16, (0, 0, 8, 8))
  np.testing.assert_array_equal(image, before)
