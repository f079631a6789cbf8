"""Prediction for files, and what is drawn on them."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor

from mtlmoe_jax import errors
from mtlmoe_jax.evaluation import predict
from mtlmoe_jax.reports import overlay
from tests.support import fake_model


@pytest.fixture
def restored(monkeypatch):
  return fake_model.restored_of(monkeypatch)


def picture(path, grey, size=(80, 40), mode="RGB"):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new("L", size, grey).convert(mode).save(path)
  return path


def run(restored, paths, out, **options):
  return predict.predict_images(restored, paths, out, progress=False, **options)


def test_json_csv_and_overlays(restored, tmp_path):
  out = tmp_path / "out"
  file = picture(tmp_path / "bird.jpg", 128)
  run(restored, [file], out)
  assert sorted(f.name for f in out.iterdir()) == [
    "bird.png",
    "predictions.csv",
    "predictions.json",
  ]
  (entry,) = json.loads((out / "predictions.json").read_text())
  assert entry.pop("probability") == pytest.approx(
    entry["top5"][0]["probability"]
  )
  assert [t["class"] for t in entry.pop("top5")] == ["middle", "light", "dark"]
  assert list(entry["experts"]) == ["class", "box"]
  assert entry == {
    "id": str(file),
    "width": 80,
    "height": 40,
    "class": "middle",
    "class_index": 1,
    "box": {"pixels": [20, 20, 80, 30], "normalised": [0.25, 0.5, 1, 0.75]},
    "experts": {
      task: [{"expert": 3, "weight": 0.75}, {"expert": 1, "weight": 0.25}]
      for task in ("class", "box")
    },
    "overlay": "bird.png",
  }
  with open(out / "predictions.csv") as f:
    (row,) = csv.DictReader(f)
  assert row["class"] == "middle"
  assert row["pixel_x2"] == "80.000000"
  assert row["box_y1"] == "0.500000"
  assert row["experts_box"] == "3=0.7500;1=0.2500"
  with Image.open(out / "bird.png") as image:
    assert image.size == (7 * 80, 7 * 40)  # small pictures are enlarged


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_batches_change_nothing(restored, tmp_path, batch_size):
  for i in range(5):
    picture(tmp_path / "in" / f"{i}.png", 60 * i, mode="L" if i % 2 else "RGB")
  found = run(
    restored, [tmp_path / "in"], tmp_path / "out", batch_size=batch_size
  )
  assert [e["class"] for e in found] == [
    "dark",
    "dark",
    "middle",
    "middle",
    "light",
  ]
  assert [e["overlay"] for e in found] == [f"{i}.png" for i in range(5)]


def test_views_are_the_users_choice(restored, tmp_path):
  file = picture(tmp_path / "a.png", 128)
  (entry,) = run(restored, [file], tmp_path / "out", views="flip")
  # The model's box is always the same, so its mirror image goes with it.
  assert entry["box"]["normalised"] == [0.125, 0.5, 0.875, 0.75]
  assert entry["class"] == "middle"
  with pytest.raises(errors.InputError, match="'flop'"):
    run(restored, [file], tmp_path / "out", views="flop")
  assert restored.config.eval.views == "whole"


def test_a_closer_look_is_told_in_the_whole_image(restored, tmp_path):
  restored.config.eval.zoom_margin = 2.0
  file = picture(tmp_path / "a.png", 128)
  (entry,) = run(restored, [file], tmp_path / "out", views="zoom")
  # All of the width is seen again, and of the height 0.375 ... 0.875.
  assert entry["box"]["normalised"] == [0.25, 0.625, 1, 0.75]


def test_one_task_alone(monkeypatch, tmp_path):
  file = picture(tmp_path / "a.png", 0)
  only_box = fake_model.restored_of(monkeypatch, ("box",))
  (entry,) = run(only_box, [file], tmp_path / "1")
  assert entry["class"] is None and entry["top5"] is None
  only_class = fake_model.restored_of(monkeypatch, ("class",))
  (entry,) = run(only_class, [file], tmp_path / "2")
  assert entry["box"] is None and entry["class"] == "dark"
  assert "pixel_x1" in (tmp_path / "2" / "predictions.csv").read_text()


def test_folders_are_searched_sorted_and_files_come_once(tmp_path):
  folder = tmp_path / "in"
  b = picture(folder / "b.PNG", 1)
  a = picture(folder / "deep" / "er" / "a.jpg", 1)
  picture(folder / ".hidden" / "c.png", 1)
  picture(folder / "out" / "earlier.png", 1)
  (folder / "notes.txt").write_text("no image")
  found = predict.find_images([a, folder, a], folder / "out")
  assert [(f.path, f.named) for f in found] == [(a, True), (b, False)]


def test_names_that_collide_get_numbers(restored, tmp_path):
  one = picture(tmp_path / "x" / "a.png", 0)
  two = picture(tmp_path / "y" / "A.jpg", 0)
  three = picture(tmp_path / "y" / "a_2.png", 0)
  found = run(restored, [one, two, three], tmp_path / "out")
  assert [e["overlay"] for e in found] == ["a.png", "A_2.png", "a_2_2.png"]


def test_an_input_is_never_overwritten(restored, tmp_path):
  file = picture(tmp_path / "a.png", 7)
  before = file.read_bytes()
  (entry,) = run(restored, [file], tmp_path)
  assert entry["overlay"] == "a_2.png"
  assert file.read_bytes() == before


def test_a_named_file_that_is_no_image_stops_everything(restored, tmp_path):
  files = [picture(tmp_path / f"{i}.png", 0) for i in range(3)]
  bad = tmp_path / "bad.png"
  bad.write_text("no image")
  out = tmp_path / "out"
  with pytest.raises(errors.InputError, match=r"bad\.png"):
    run(restored, [*files, bad], out)
  assert not list(out.iterdir())


def test_unreadable_files_in_a_folder_are_told_after_the_rest(
  restored, tmp_path
):
  folder, out = tmp_path / "in", tmp_path / "out"
  picture(folder / "1.png", 0)
  cut = picture(folder / "2.png", 0, (300, 300))
  cut.write_bytes(cut.read_bytes()[:100])
  picture(folder / "3.png", 255)
  with pytest.raises(errors.InputError) as caught:
    run(restored, [folder], out)
  message = str(caught.value)
  assert "1 of 3 files could not be read" in message
  assert "2.png" in message and "\n" not in message
  found = json.loads((out / "predictions.json").read_text())
  assert [e["overlay"] for e in found] == ["1.png", "3.png"]


def test_nothing_is_half_written(restored, tmp_path, monkeypatch):
  file = picture(tmp_path / "a.png", 0)

  def fail(*_):
    raise OSError("disk full")

  monkeypatch.setattr(predict.files, "write_json", fail)
  with pytest.raises(OSError, match="disk full"):
    run(restored, [file], tmp_path / "out")
  assert not list((tmp_path / "out").iterdir())


def test_wrong_paths(restored, tmp_path):
  empty = tmp_path / "empty"
  empty.mkdir()
  file = picture(tmp_path / "in" / "a.png", 0)
  for paths, out, match in (
    ([], tmp_path / "o", "no images given"),
    ([tmp_path / "no.jpg"], tmp_path / "o", "no such file or folder"),
    ([empty], tmp_path / "o", "no images in"),
    ([file.parent], file.parent, "also an input folder"),
    ([file], file, "cannot write there"),
  ):
    with pytest.raises(errors.InputError, match=match):
      run(restored, paths, out)


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
