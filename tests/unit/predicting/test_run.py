"""Prediction for files, and what is drawn on them."""

import csv
import json

import pytest
from PIL import Image

from mtlmoe_jax import errors
from mtlmoe_jax.predicting import run as run_lib
from tests.support import fake_model, written


@pytest.fixture
def restored(monkeypatch):
  return fake_model.restored_of(monkeypatch)


def picture(path, grey, size=(80, 40), mode="RGB"):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new("L", size, grey).convert(mode).save(path)
  return path


def predict(restored, paths, out, **options):
  return run_lib.predict_files(
    restored, paths, out, run_lib.Options(**options), progress=False
  )


def test_json_csv_and_overlays(restored, tmp_path):
  out = tmp_path / "out"
  file = picture(tmp_path / "bird.jpg", 128)
  written.rows(restored, [file], out)
  assert sorted(f.name for f in out.iterdir()) == [
    "bird.jpg",
    "passport.json",
    "predictions.csv",
    "predictions.json",
    "predictions.jsonl",
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
    "error": None,
    "passport": json.loads((out / "passport.json").read_text())["passport"],
    "overlay": "bird.jpg",
  }
  with open(out / "predictions.csv") as f:
    (row,) = csv.DictReader(f)
  assert row["class"] == "middle"
  assert row["pixel_x2"] == "80.000000"
  assert row["box_y1"] == "0.500000"
  assert row["experts_box"] == "3=0.7500;1=0.2500"
  with Image.open(out / "bird.jpg") as image:
    assert image.size == (7 * 80, 7 * 40)  # small pictures are enlarged


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_batches_change_nothing(restored, tmp_path, batch_size):
  for i in range(5):
    picture(tmp_path / "in" / f"{i}.png", 60 * i, mode="L" if i % 2 else "RGB")
  found = written.rows(
    restored, [tmp_path / "in"], tmp_path / "out", batch_size=batch_size
  )
  assert [e["class"] for e in found] == [
    "dark",
    "dark",
    "middle",
    "middle",
    "light",
  ]
  assert [e["overlay"] for e in found] == [f"{i}.jpg" for i in range(5)]


def test_views_are_the_users_choice(restored, tmp_path):
  file = picture(tmp_path / "a.png", 128)
  (entry,) = written.rows(restored, [file], tmp_path / "out", views="flip")
  # The model's box is always the same, so its mirror image goes with it.
  assert entry["box"]["normalised"] == [0.125, 0.5, 0.875, 0.75]
  assert entry["class"] == "middle"
  with pytest.raises(errors.InputError, match="'flop'"):
    written.rows(restored, [file], tmp_path / "out", views="flop")
  assert restored.config.eval.views == "whole"


def test_a_closer_look_is_told_in_the_whole_image(restored, tmp_path):
  restored.config.eval.zoom_margin = 2.0
  file = picture(tmp_path / "a.png", 128)
  (entry,) = written.rows(restored, [file], tmp_path / "out", views="zoom")
  # All of the width is seen again, and of the height 0.375 ... 0.875.
  assert entry["box"]["normalised"] == [0.25, 0.625, 1, 0.75]


def test_one_task_alone(monkeypatch, tmp_path):
  file = picture(tmp_path / "a.png", 0)
  only_box = fake_model.restored_of(monkeypatch, ("box",))
  (entry,) = written.rows(only_box, [file], tmp_path / "1")
  assert entry["class"] is None and entry["top5"] is None
  only_class = fake_model.restored_of(monkeypatch, ("class",))
  (entry,) = written.rows(only_class, [file], tmp_path / "2")
  assert entry["box"] is None and entry["class"] == "dark"
  assert "pixel_x1" in (tmp_path / "2" / "predictions.csv").read_text()


def test_names_that_collide_get_numbers(restored, tmp_path):
  one = picture(tmp_path / "x" / "a.png", 0)
  two = picture(tmp_path / "y" / "A.jpg", 0)
  three = picture(tmp_path / "y" / "a_2.png", 0)
  found = written.rows(restored, [one, two, three], tmp_path / "out")
  assert [e["overlay"] for e in found] == ["a.jpg", "A_2.jpg", "a_2_2.jpg"]


def test_an_input_is_never_overwritten(restored, tmp_path):
  file = picture(tmp_path / "a.png", 7)
  before = file.read_bytes()
  (entry,) = written.rows(restored, [file], tmp_path)
  assert entry["overlay"] == "a_2.jpg"
  assert file.read_bytes() == before


def test_what_cannot_be_read_is_a_row_with_its_reason(restored, tmp_path):
  folder, out = tmp_path / "in", tmp_path / "out"
  picture(folder / "1.png", 0)
  cut = picture(folder / "2.png", 0, (300, 300))
  cut.write_bytes(cut.read_bytes()[:100])
  picture(folder / "3.png", 255)
  bad = tmp_path / "bad.png"
  bad.write_text("no image")
  found = predict(restored, [folder, bad], out)
  assert (found.count, found.unreadable) == (4, 2)
  assert "2.png cannot be read" in found.first_error
  rows = json.loads((out / "predictions.json").read_text())
  assert [row["overlay"] for row in rows] == ["1.jpg", None, "3.jpg", None]
  assert [row["class"] for row in rows] == ["dark", None, "light", None]
  for row in (rows[1], rows[3]):
    assert row["error"].startswith(row["id"]) and "\n" not in row["error"]
    assert row["width"] is row["box"] is row["probability"] is None
    assert row["experts"] == {}


def test_nothing_at_all_can_be_read(restored, tmp_path):
  bad = tmp_path / "bad.png"
  bad.write_text("no image")
  (row,) = written.rows(restored, [bad], tmp_path / "out")
  assert row["error"] and row["class"] is None


def test_nothing_is_half_written(restored, tmp_path, monkeypatch):
  file = picture(tmp_path / "a.png", 0)
  out = tmp_path / "out"

  def fail(*_):
    raise ValueError("a fault")

  with monkeypatch.context() as patch:
    patch.setattr(run_lib.formats, "write", fail)
    with pytest.raises(ValueError, match="a fault"):
      written.rows(restored, [file], out)
  assert not list(out.glob("predictions*"))
  written.rows(restored, [file], out)
  assert not (out / ".predict").exists()


def test_a_full_disk_is_one_line(restored, tmp_path, monkeypatch):
  file = picture(tmp_path / "a.png", 0)

  def fail(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(run_lib.formats, "write", fail)
  with pytest.raises(errors.InputError, match="No space left on device"):
    written.rows(restored, [file], tmp_path / "out")


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
      written.rows(restored, paths, out)
