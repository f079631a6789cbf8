"""Views of an image: what each is, and what they say together."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.data import resampling
from mtlmoe_jax.evaluation import evaluate, test_time
from mtlmoe_jax.metrics import split
from mtlmoe_jax.ops import boxes
from tests.support.fakes import FakeSource

SIDE = 32


class Finder:
  """Finds the light part of an image; its class depends on where it is."""

  def apply(self, variables, images, train, valid):
    light = images.astype(jnp.float32).mean(-1) > 128

    def ends(axis):
      some = light.any(axis)
      return jnp.argmax(some, 1) / SIDE, 1 - jnp.argmax(some[:, ::-1], 1) / SIDE

    (x1, x2), (y1, y2) = ends(1), ends(2)
    probs = jnp.stack([x1, 1 - x1], -1)
    gate = types.SimpleNamespace(
      experts=(x1[:, None] > 0.5).astype(jnp.int32),
      weights=jnp.ones((len(x1), 1)),
      probs=probs,
    )
    return types.SimpleNamespace(
      logits=jnp.stack([3 * x1, y1, 2 * (x2 - x1)], -1),
      box=jnp.stack([x1, y1, x2, y2], -1),
      routing={"class": gate, "box": gate},
    )


STEP = evaluate.make_predict_step(Finder())


class Squares(FakeSource):
  """Dark images with one light rectangle, which is the box."""

  def __init__(self, corners, size=SIDE, mirrored=False):
    super().__init__(len(corners))
    self.corners, self.size, self.mirrored = corners, size, mirrored

  def __getitem__(self, i):
    x1, y1, x2, y2 = self.corners[i]
    image = np.zeros((self.size, self.size, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    box = np.asarray(self.corners[i], np.float32) / self.size
    if self.mirrored:
      image, box = image[:, ::-1], boxes.flip_left_right(box)
    return {**super().__getitem__(i), "image": image, "box": box}


def config_of(name, share=0.75, batch_size=2):
  config = config_lib.default_config()
  config.data.image_size = SIDE
  config.eval.batch_size = batch_size
  config.eval.views = name
  config.eval.crop_share = share
  return config


def run(source, name, **options):
  found = evaluate.evaluate_source(
    STEP, {}, source, config_of(name, **options), progress=False
  )
  return found.predictions


def test_views_of_a_batch():
  rng = np.random.default_rng(0)
  batch = {
    "image": rng.integers(0, 256, (2, 4, 4, 3), np.uint8),
    "crops": rng.integers(0, 256, (2, 5, 4, 4, 3), np.uint8),
    "windows": rng.random((2, 5, 4), np.float32),
  }
  found = test_time.first_views(batch, "crops+flip")
  assert [v.mirrored for v in found] == [False] * 6 + [True] * 6
  np.testing.assert_array_equal(found[0].window, [[0, 0, 1, 1]] * 2)
  np.testing.assert_array_equal(found[2].image, batch["crops"][:, 1])
  np.testing.assert_array_equal(found[2].window, batch["windows"][:, 1])
  for plain, mirror in zip(found[:6], found[6:]):
    np.testing.assert_array_equal(mirror.image[:, :, 0], plain.image[:, :, 3])
    np.testing.assert_array_equal(mirror.window, plain.window)
  assert len(test_time.first_views(batch, "crops")) == 6
  assert len(test_time.first_views({"image": batch["image"]}, "flip")) == 2


def test_a_views_box_is_placed_in_the_whole_image():
  view = test_time.View(None, np.array([[0.5, 0, 1, 0.5]], np.float32), True)
  found = view.place(np.array([[0, 0.5, 0.25, 1]], np.float32))
  np.testing.assert_array_equal(found, [[0.875, 0.25, 1, 0.5]])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 10**6), st.data())
def test_probabilities_are_averaged_in_any_order(count, classes, seed, data):
  logits = np.random.default_rng(seed).normal(0, 4, (count, 3, classes))
  found = test_time.mean_logits(logits)
  assert found.dtype == np.float32
  want = np.mean([np.exp(split.log_softmax(one)) for one in logits], 0)
  np.testing.assert_allclose(np.exp(found), want, rtol=1e-5, atol=1e-7)
  order = data.draw(st.permutations(range(count)))
  np.testing.assert_allclose(
    test_time.mean_logits(logits[order]), found, rtol=1e-5, atol=1e-6
  )


def test_one_view_that_is_sure_of_nonsense_does_not_decide():
  found = test_time.mean_logits(np.array([[2.0, 0], [2, 0], [-1000, 0]]))
  share = 2 / 3 / (1 + np.exp(-2.0))
  np.testing.assert_allclose(np.exp(found), [share, 1 - share], rtol=1e-6)


def test_a_single_view_is_left_as_it_is():
  answer = {"logits": np.array([[5.0, 1.0]], np.float32), "routing": {}}
  view = test_time.View(None, np.array([[0, 0, 1, 1]], np.float32), False)
  assert test_time.combine([(view, answer)])["logits"] is answer["logits"]


def test_a_closer_view_is_a_window_around_the_box():
  rng = np.random.default_rng(0)
  large = rng.integers(0, 256, (2, 2 * SIDE, 2 * SIDE, 3), np.uint8)
  found = np.array([[0.25, 0.25, 0.75, 0.5], [0, 0, 0, 0]], np.float32)
  options = config_of("flip+zoom").eval
  options.zoom_margin = 1.5
  plain, mirror = test_time.closer({"large": large}, found, options)
  # The second box is nothing: a tenth of the frame on both sides of its
  # centre, of which half is outside.
  want = np.array([[0.125, 0.1875, 0.875, 0.5625], [0, 0, 6 / 64, 6 / 64]])
  np.testing.assert_allclose(plain.window, want, atol=1e-6)
  np.testing.assert_array_equal(mirror.image, plain.image[:, :, ::-1])
  assert plain.closer and mirror.closer and mirror.mirrored
  one, two = resampling.resize, large[0][12:36, 8:56]
  np.testing.assert_array_equal(plain.image[0], one(two, SIDE))


class Coarse(Finder):
  """Sees a box only to an eighth of what it is shown, rounded outwards."""

  def apply(self, *args, **kwargs):
    found = super().apply(*args, **kwargs)
    low, high = found.box[:, :2], found.box[:, 2:]
    found.box = jnp.concatenate(
      [jnp.floor(low * 8) / 8, jnp.ceil(high * 8) / 8], -1
    )
    return found


def test_a_closer_view_finds_a_box_more_exactly():
  corners = [(9, 11, 15, 18), (17, 3, 23, 10)]
  step = evaluate.make_predict_step(Coarse())

  def miou(name):
    found = evaluate.evaluate_source(
      step, {}, Squares(corners), config_of(name), progress=False
    )
    return found.metrics["miou"]

  whole, zoom, both = (miou(n) for n in ("whole", "zoom", "crops+flip+zoom"))
  assert whole < 0.55
  assert min(zoom, both) > whole + 0.15


def test_a_closer_view_asks_for_boxes():
  config = config_of("flip+zoom")
  config.model.tasks = "class"
  with pytest.raises(errors.InputError, match="needs the box task"):
    config_lib.check_config(config)


CORNERS = [(6, 10, 20, 28), (0, 4, 30, 17), (9, 0, 17, 32), (13, 14, 25, 21)]


@pytest.mark.parametrize("name", config_lib.VIEWS)
def test_boxes_are_those_of_the_image_whatever_is_cut(name):
  found = run(Squares(CORNERS), name)
  np.testing.assert_allclose(found.boxes, np.asarray(CORNERS) / SIDE, atol=0.02)
  if name == "whole":
    np.testing.assert_allclose(
      found.boxes, np.asarray(CORNERS) / SIDE, atol=1e-6
    )
  # Routing is that of the whole image.
  np.testing.assert_array_equal(
    found.routing["box"].experts,
    run(Squares(CORNERS), "whole").routing["box"].experts,
  )


def test_logits_are_the_mean_over_all_views_by_a_loop():
  source, config = Squares(CORNERS[:1]), config_of("crops+flip", batch_size=1)
  (batch,) = evaluate.data_lib.eval_batches(source, config, 1)
  frames = [batch["image"][0], *batch["crops"][0]]
  probs = []
  for frame in [*frames, *(f[:, ::-1] for f in frames)]:
    logits = Finder().apply({}, jnp.asarray(frame[None]), False, None).logits
    probs.append(jax.nn.softmax(logits[0]))
  found = run(source, "crops+flip").probabilities[0]
  np.testing.assert_allclose(found, np.mean(probs, 0), atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(
  st.lists(
    st.tuples(*[st.integers(0, 14)] * 2, *[st.integers(1, 17)] * 2).map(
      lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    ),
    min_size=1,
    max_size=3,
  ),
  st.sampled_from(["flip", "crops+flip", "flip+zoom"]),
)
def test_mirrored_images_give_mirrored_predictions(corners, name):
  plain = run(Squares(corners), name)
  mirror = run(Squares(corners, mirrored=True), name)
  np.testing.assert_allclose(
    mirror.boxes, boxes.flip_left_right(plain.boxes), atol=1e-6
  )
  np.testing.assert_allclose(mirror.logits, plain.logits, atol=1e-5)


def test_batches_change_nothing():
  one, other = (run(Squares(CORNERS), "crops", batch_size=b) for b in (1, 3))
  np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-6)
  np.testing.assert_allclose(one.logits, other.logits, atol=1e-6)


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("views", "ten"),
    ("views", "zoom+crops"),
    ("crop_share", 0.4),
    ("crop_share", 1.0),
    ("zoom_margin", 0.9),
    ("zoom_margin", 3.0),
  ],
)
def test_bad_options_are_named(key, value):
  config = config_of("crops")
  config.eval[key] = value
  with pytest.raises(errors.InputError, match=rf"config\.eval\.{key}"):
    config_lib.check_config(config)
