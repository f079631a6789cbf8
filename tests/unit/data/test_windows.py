"""Each object is a record in a window of its own."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors
from mtlmoe_jax.config import check_config, default_config
from mtlmoe_jax.data import opening, pipeline, windows
from tests.support import annotated

SIDES = st.floats(0.02, 1.0)
PLACES = st.tuples(st.floats(-1, 1), st.floats(-1, 1))


@st.composite
def boxes(draw):
  """(box, size of its image)."""
  size = (draw(st.integers(8, 400)), draw(st.integers(8, 400)))
  width, height = draw(SIDES), draw(SIDES)
  x = draw(st.floats(0, 1)) * (1 - width)
  y = draw(st.floats(0, 1)) * (1 - height)
  return np.array([x, y, x + width, y + height], np.float32), size


def pixels(box, size):
  return box * (size[1], size[0], size[1], size[0])


@hypothesis.given(boxes(), st.floats(1.5, 6), PLACES)
def test_a_window_shows_its_box_at_its_size(found, ratio, place):
  box, size = found
  x1, y1, x2, y2 = windows.around(box, size, ratio, place)
  low, high = pixels(box, size)[:2], pixels(box, size)[2:]
  side = ratio * float(max(high - low))
  assert x2 - x1 == y2 - y1 == max(1, round(side))
  # The box has its middle, to the rounding of the sides and of an edge.
  middle = np.array([x1 + x2, y1 + y2]) / 2
  assert all(low - 1 <= middle) and all(middle <= high + 1)
  assert all(low >= np.array([x1, y1]) - 1)
  assert all(high <= np.array([x2, y2]) + 1)


@hypothesis.given(boxes(), st.integers(0, 99))
def test_every_window_of_training_is_kept(found, seed):
  """What is kept of an image holds what all windows show of it."""
  box, size = found
  region = windows.around(box, size, windows._REGION)
  for ratio in windows.TRAINING:
    for place in ((-1, -1), (1, 1), (-1, 1), (1, -1)):
      window = windows.around(box, size, ratio, place)
      for i in (0, 1):
        assert window[i] >= region[i] - 1 and window[i + 2] <= region[i + 2] + 1
  drawn = windows.training_window(np.random.default_rng(seed), box, size)
  longest = float(max(pixels(box, size)[2:] - pixels(box, size)[:2]))
  low, high = windows.TRAINING
  width = drawn[2] - drawn[0]
  assert max(1, round(low * longest)) <= width
  assert width <= max(1, round(high * longest))


def test_outside_of_the_image_a_window_is_grey():
  image = np.full((4, 6, 3), 9, np.uint8)
  shown = windows.pixels(image, (-2, 1, 3, 6))
  assert shown.shape == (5, 5, 3)
  assert (shown[:3, 2:] == 9).all()
  assert (shown[3:] == 127).all() and (shown[:, :2] == 127).all()


def opened(root, objects="each"):
  annotated.coco(root)
  config = default_config()
  config.data.path, config.data.objects = str(root), objects
  config.data.image_size = 64
  config.data.validation_fraction = 0.0
  config.data.augment.flip = 0.0
  return config, opening.open_data(config)


def test_records_are_windows_of_their_photographs(tmp_path):
  """The pixels inside the box are those of the photograph."""
  config, data = opened(tmp_path)
  whole = data.files
  place = {name: i for i, name in enumerate(whole.ids)}
  for source, is_judged in ((data.train, False), (data.test, True)):
    for i, name in enumerate(source.ids):
      record, original = source.uncached[i], whole[place[name]]
      size, whole_size = record["image"].shape[:2], original["image"].shape[:2]
      h, w = size
      x1, y1, x2, y2 = np.rint(pixels(record["box"], size)).astype(int)
      corners = np.rint(pixels(original["box"], whole_size)).astype(int)
      a1, b1, a2, b2 = corners
      shown = record["image"][y1:y2, x1:x2]
      np.testing.assert_array_equal(shown, original["image"][b1:b2, a1:a2])
      if is_judged:
        longest = max(a2 - a1, b2 - b1)
        side = round(windows.EVALUATION * longest)
        assert h == w and abs(w - side) <= 2
  batch = next(pipeline.eval_batches(data.test, config, 8))
  assert batch["image"].shape[1:] == (64, 64, 3)


def test_windows_of_training_differ_and_are_drawn_from_the_seed(tmp_path):
  config, data = opened(tmp_path)
  boxes_ = []
  for _ in range(2):
    batches = pipeline.train_iterator(data.train, config, 8)
    boxes_.append(np.concatenate([next(batches)["box"] for _ in range(8)]))
  np.testing.assert_array_equal(*boxes_)
  sides = (boxes_[0][:, 2:] - boxes_[0][:, :2]).max(1)
  low, high = (1 / ratio for ratio in reversed(windows.TRAINING))
  assert low - 0.03 <= sides.min() < 0.4 < 0.5 < sides.max() <= high + 0.03


def test_a_record_without_a_box_is_the_whole_photograph(tmp_path):
  annotated.coco(tmp_path)
  value = annotated.coco_value()
  del value["annotations"][0]
  annotated.write(tmp_path / "annotations.json", value)
  config = default_config()
  config.data.path, config.data.objects = str(tmp_path), "each"
  config.data.empty, config.data.validation_fraction = "nothing", 0.0
  data = data_lib.open_data(config)
  label = data.class_names.index("nothing")
  (record,) = (
    part[i]
    for part in (data.train, data.test)
    for i in range(len(part))
    if part.labels[i] == label
  )
  assert record["image"].shape == (160, 240, 3) and not record["has_box"]


def test_one_way_to_cut_windows(tmp_path):
  config, _ = opened(tmp_path)
  config.data.shuffle_boxes = True
  with pytest.raises(errors.InputError, match="cuts windows around them"):
    check_config(config)
