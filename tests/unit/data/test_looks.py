import cv2
import numpy as np
import pytest

from mtlmoe_jax.data import looks


def test_a_plain_picture_has_no_edges():
  found = looks.look(np.full((40, 60, 3), 51, np.uint8))
  assert found[:4] == (40, 60, 0.0, pytest.approx(0.2))


def test_blur_lowers_sharpness_at_any_size():
  noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
  image = cv2.resize(noise, (512, 384), interpolation=cv2.INTER_NEAREST)
  sharp = looks.look(image)
  soft = looks.look(cv2.GaussianBlur(image, (0, 0), 6))
  assert soft.sharpness < 0.1 * sharp.sharpness
  assert soft.luminance == pytest.approx(sharp.luminance, abs=0.01)
  # Where one part is sharp, the plain rest does not count.
  plain = np.full((384, 512, 3), 128, np.uint8)
  plain[96:192, 128:256] = image[96:192, 128:256]
  assert looks.look(plain).sharpness > 0.5 * sharp.sharpness
  # The same picture in more pixels is as sharp.
  larger = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
  assert looks.look(larger).sharpness == pytest.approx(sharp.sharpness, rel=0.1)
  # A line of pixels is a picture, too.
  assert looks.look(np.zeros((1, 5000, 3), np.uint8)).height == 1


def test_rules_go_by_the_others_worst_first():
  sharpness = np.array([800.0, 99.0, 900.0, 30.0, 1000.0, 101.0, 800.0])
  assert looks.blurred(sharpness).tolist() == [3, 1]
  assert looks.blurred(np.array([49.0, 48.0, 60.0])).tolist() == [1, 0]
  luminance = np.array([0.5, 0.19, 0.05, 0.5, 0.81, 0.79, 0.95])
  assert looks.dark(luminance).tolist() == [2, 1]
  assert looks.bright(luminance).tolist() == [6, 4]
  # Where all are dark, an image must be much darker than the rest.
  night = np.array([0.1, 0.1, 0.06, 0.04, 0.12])
  assert looks.dark(night).tolist() == [3]
  assert looks.blurred(np.empty(0)).tolist() == []
