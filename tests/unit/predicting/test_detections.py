"""Boxes of a detector are predicted one by one, in windows around them."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from mtlmoe_jax import errors
from mtlmoe_jax.data import windows
from mtlmoe_jax.predicting import verify
from tests.support import annotated, fake_model, written


@pytest.fixture
def restored(monkeypatch):
  restored = fake_model.restored_of(monkeypatch)
  restored.config.data.objects = "each"
  return restored


def dark_and_light(root):
  """An image that is black and white, an object in each half, their file."""
  image = np.zeros((100, 200, 3), np.uint8)
  image[:, 100:] = 255
  (root / "photos/night").mkdir(parents=True)
  Image.fromarray(image).save(root / "photos/night/a.png")
  Image.fromarray(image).save(root / "photos/night/unseen.png")
  boxes = ([10, 10, 40, 40], [150, 60, 40, 40])
  found = [
    {"category": "1", "conf": 0.8, "bbox": [x / 200, y / 100, w / 200, h / 100]}
    for x, y, w, h in boxes
  ]
  value = {
    "images": [{"file": "card/night/a.png", "detections": found}],
    "detection_categories": {"1": "animal"},
  }
  annotated.write(root / "md.json", value)
  return boxes


def test_each_box_is_an_entry_in_terms_of_its_image(restored, tmp_path):
  boxes = dark_and_light(tmp_path)
  entries = written.rows(
    restored,
    [tmp_path / "photos"],
    tmp_path / "out",
    boxes=str(tmp_path / "md.json"),
  )
  assert [entry["class"] for entry in entries] == ["dark", "light"]
  for entry, (x, y, w, h) in zip(entries, boxes, strict=True):
    assert (entry["width"], entry["height"]) == (200, 100)
    assert entry["detection"]["pixels"] == pytest.approx([x, y, x + w, y + h])
    # The model says the right lower quarter of what it sees.
    shares = np.array([x, y, x + w, y + h], np.float32) / [200, 100, 200, 100]
    x1, y1, x2, y2 = windows.around(shares, (100, 200), windows.EVALUATION)
    left, top, right, bottom = entry["box"]["pixels"]
    assert x1 <= left < right <= x2 and y1 <= top < bottom <= y2
    assert right == pytest.approx(min(x2, 200), abs=0.5)
  names = [entry["overlay"] for entry in entries]
  assert names == ["a.jpg", "a_2.jpg"]
  found = json.loads((tmp_path / "out/predictions.json").read_text())
  assert found == entries
  with (tmp_path / "out/predictions.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert float(rows[1]["detection_x1"]) == pytest.approx(0.75)


def test_an_image_in_which_nothing_was_found_is_a_row(restored, tmp_path):
  dark_and_light(tmp_path)
  value = json.loads((tmp_path / "md.json").read_text())
  value["images"].append({"file": "card/night/unseen.png", "detections": []})
  (tmp_path / "md.json").write_text(json.dumps(value))
  out = tmp_path / "out"
  *_, row = written.rows(
    restored,
    [tmp_path / "photos"],
    out,
    boxes=str(tmp_path / "md.json"),
    out_format="jsonl,csv,megadetector,coco",
    crops=True,
  )
  assert row["id"].endswith("unseen.png") and row["error"] is None
  assert (row["width"], row["height"]) == (200, 100)
  for name in ("class", "probability", "box", "detection", "overlay", "crop"):
    assert row[name] is None
  found = json.loads((out / "predictions.megadetector.json").read_text())
  counts = [len(image["detections"]) for image in found["images"]]
  assert counts == [2, 0]
  assert verify.verify(restored, out / "predictions.jsonl").equal == 3


def test_the_images_are_found_beside_the_file(restored, tmp_path):
  dark_and_light(tmp_path)
  entries = written.rows(
    restored, [], tmp_path / "out", boxes=str(tmp_path / "md.json")
  )
  assert len(entries) == 2


def test_mistakes(restored, tmp_path, capsys):
  dark_and_light(tmp_path)

  def refused(said, paths=(), boxes=str(tmp_path / "md.json")):
    with pytest.raises(errors.InputError, match=said):
      written.rows(restored, paths, tmp_path / "out", boxes=boxes)

  photos = tmp_path / "photos"
  refused("the one folder that they lie in, not 2", [photos, photos])
  refused("boxes=.*no such file or folder", boxes=str(tmp_path / "none.json"))
  # Whole images are predicted, with a word.
  written.rows(restored, [photos], tmp_path / "whole")
  assert "has learned from windows" in capsys.readouterr().err
