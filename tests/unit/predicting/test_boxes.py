"""Which objects of a detector's file are predicted."""

import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.predicting import boxes
from mtlmoe_jax.predicting.inputs import Detection
from tests.support import annotated


@pytest.fixture
def here(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ("night/a.jpg", "night/b.jpg", "day/a.jpg", "day/c.jpg"):
    annotated.write(tmp_path / "photos" / name, "no image: not looked at")
  return tmp_path


def detector(folder, images, **more):
  """MegaDetector's file; of each image (category, confidence, box)."""
  rows = []
  for name, found in images.items():
    row = {"file": name, "detections": found}
    if found is None:
      row["failure"] = "image access failure"
    else:
      row["detections"] = [
        {"category": key, "conf": conf, "bbox": list(box), **rest}
        for key, conf, box, *rest_ in found
        for rest in (rest_ or [{}])
      ]
    rows.append(row)
  value = {
    "images": rows,
    "detection_categories": {"1": "animal", "2": "person", "3": "vehicle"},
    "info": {"format_version": "1.6"},
    **more,
  }
  annotated.write(folder / "md.json", value)


def read(*images, path="md.json", names=(), **options):
  config = config_lib.default_config()
  for name, value in options.items():
    config.data[name] = value
  return boxes.read(path, images, config, names)


BOX = (0.25, 0.5, 0.5, 0.25)


def test_what_the_detector_says_is_kept(here, capsys):
  found = [
    ("1", 0.9, BOX),
    ("1", 0.375, (0, 0, 1, 1)),
    ("1", 0.1, (0.1, 0.1, 0.1, 0.1)),
  ]
  detector(
    here,
    {"card/night/b.jpg": found, "card/day/a.jpg": [("1", 0.5, BOX)]},
  )
  items = read("photos")
  assert [item.path for item in items] == [
    *("photos/night/b.jpg", "photos/night/b.jpg", "photos/day/a.jpg")
  ]
  assert [item.detection for item in items] == [
    Detection((0.25, 0.5, 0.75, 0.75), 0.9, "animal"),
    Detection((0, 0, 1, 1), 0.375, "animal"),
    Detection((0.25, 0.5, 0.75, 0.75), 0.5, "animal"),
  ]
  assert "1 detections below" in capsys.readouterr().err
  assert len(read("photos", min_confidence=0.0)) == 4
  assert read() == [  # Beside the file.
    *read(".")
  ]


def test_what_is_left_out_is_told(here, capsys):
  out = (1.5, 0.1, 0.2, 0.2)
  detector(
    here,
    {
      "photos/night/a.jpg": [("1", 0.9, BOX), ("2", 0.9, BOX), ("1", 1, out)],
      "photos/night/b.jpg": [],
      "photos/day/a.jpg": None,
      "photos/day/c.jpg": [("3", 0.9, BOX), ("1", 0.9, (0.5, 0.5, 0, 0.1))],
      "photos/day/film.mp4": [("1", 0.9, BOX, {"frame_number": 3})],
    },
  )
  item, blank = read()
  assert (blank.path, blank.is_blank) == ("photos/night/b.jpg", True)
  assert item.path == "photos/night/a.jpg"
  told = capsys.readouterr().err
  for words in (
    "1 images that the detector could not read",
    "1 images without an object",
    "2 boxes without an area",
    "2 persons and vehicles",
    "1 videos",
  ):
    assert words in told, told


def test_persons_are_predicted_by_a_model_of_persons(here):
  detector(here, {"photos/day/a.jpg": [("1", 0.9, BOX), ("2", 0.9, BOX)]})
  found = read(names=("Person", "wren"))
  assert [item.detection.category for item in found] == ["animal", "person"]


def test_a_classifiers_word_does_not_count(here):
  """Neither what it named nor what it did not."""
  classified = {"classifications": [["7", 0.8]]}
  detector(
    here,
    {
      "photos/day/a.jpg": [
        ("1", 0.9, BOX, classified),
        ("1", 0.8, (0, 0, 1, 1)),
      ]
    },
    classification_categories={"7": "wren"},
  )
  assert [i.detection.category for i in read()] == ["animal", "animal"]


def test_other_layouts_have_boxes_too(tmp_path):
  annotated.coco(tmp_path)
  items = read(path=str(tmp_path / "annotations.json"))
  assert len(items) == 7
  by_name = {item.path.rpartition("/")[2]: item.detection for item in items}
  side = by_name["side.jpg"]  # A picture on its side, in the upright frame.
  want = [67 / 240, 14 / 160, 140 / 240, 141 / 160]
  assert side.box == pytest.approx(want, abs=1e-6)
  assert side.confidence is None and side.category == annotated.CLASSES[0]


def test_mistakes(here):
  detector(here, {"x/gone.jpg": [("1", 0.9, BOX)], "day/a.jpg": []})
  for match, images, path in (
    ("the one folder that they lie in, not 2", ("a", "b"), "md.json"),
    (r"--boxes='none.json': no such file or folder$", (), "none.json"),
    (r"^the folder of the images: 'md.json': no such", ("md.json",), "md.json"),
    (r"gone\.jpg.*the folder that they lie in after the flags", (), "md.json"),
  ):
    with pytest.raises(errors.InputError, match=match) as caught:
      read(*images, path=path)
    assert "\n" not in str(caught.value)
    assert "config.boxes" not in str(caught.value)
  detector(here, {"photos/day/a.jpg": [("2", 0.9, BOX)]})
  with pytest.raises(errors.InputError, match=r"names no box .*1 persons"):
    read()
