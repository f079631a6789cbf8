"""What is drawn on predicted images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageColor

from mtlmoe_jax.reports import overlay

WEIGHTS = {"class": np.asarray([0.25, 0, 0.75]), "box": np.asarray([0, 1.0, 0])}


def test_overlay_draws_the_box_where_it_is():
  image = np.full((200, 300, 3), 90, np.uint8)
  drawn = overlay.draw(image, (100, 80, 200, 120), "", {})
  color = ImageColor.getrgb(overlay.PREDICTED_COLOR)
  for y, x in ((80, 150), (120, 150), (100, 100), (100, 200)):
    assert tuple(drawn[y, x]) == color
  # Inside and well outside nothing changed; nor did the input.
  assert (drawn[90:110, 110:190] == 90).all()
  assert (drawn[:70] == 90).all() and (image == 90).all()


@pytest.mark.parametrize(
  ("shape", "times"),
  [((256, 300), 1), ((255, 300), 2), ((96, 96), 3), ((1, 70), 8)],
)
def test_small_pictures_are_enlarged_with_their_box(shape, times):
  image = np.zeros((*shape, 3), np.uint8)
  larger, box = overlay.magnify(image, [1, 2, 3, 4.5])
  assert larger.shape == (times * shape[0], times * shape[1], 3)
  assert box == [times * v for v in (1, 2, 3, 4.5)]
  assert overlay.magnify(image, None)[1] is None


def test_overlay_bar_lengths_follow_the_weights():
  image = np.zeros((300, 300, 3), np.uint8)
  drawn = overlay.draw(image, None, "", WEIGHTS)
  count = [
    (drawn == ImageColor.getrgb(overlay.expert_color(e))).all(-1).sum()
    for e in range(3)
  ]
  # Up to the digit drawn inside each part.
  assert count[2] / count[0] == pytest.approx(3, rel=0.35)
  assert count[1] / count[2] == pytest.approx(4 / 3, rel=0.35)


@settings(max_examples=25, deadline=None)
@given(
  st.integers(1, 70),
  st.integers(1, 70),
  st.lists(st.floats(-50, 150), min_size=4, max_size=4),
  st.text(max_size=30),
)
def test_overlay_takes_any_size_box_and_text(height, width, box, label):
  image = np.zeros((height, width, 3), np.uint8)
  drawn = overlay.draw(image, box, label.replace("\n", " "), WEIGHTS)
  assert drawn.shape == image.shape and drawn.dtype == np.uint8
