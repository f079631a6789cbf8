"""MegaDetector's format, as its text says."""

import json

import pytest

from mtlmoe_jax.predicting import formats
from tests.support import predicted

NO_CLASS = dict.fromkeys(("class", "class_index", "probability", "top5"))


def document(rows, folder, **values):
  """What the file says."""
  about = predicted.about(**values)
  (name,) = formats.write("megadetector", lambda: iter(rows), about, folder)
  return json.loads((folder / name).read_text("utf-8"))


def images(rows, folder, **values):
  return document(rows, folder, **values)["images"]


def test_a_run_over_images(tmp_path):
  rows = [predicted.row("photos/a/ü.jpg", 1), predicted.failed()]
  assert document(rows, tmp_path) == {
    "info": {
      "format_version": "1.6",
      "detector": predicted.MODEL,
      "detection_completion_time": predicted.TIME,
      "classifier": predicted.MODEL,
      "classification_completion_time": predicted.TIME,
    },
    "detection_categories": {"1": "animal"},
    "classification_categories": dict(zip("012", predicted.NAMES)),
    "images": [
      {
        "file": "a/ü.jpg",
        "width": 400,
        "height": 200,
        "detections": [
          {
            "category": "1",
            "conf": 1.0,
            "bbox": [0.25, 0.1, 0.5, 0.5],
            "classifications": [["1", 0.75], ["0", 0.1875], ["2", 0.0625]],
          }
        ],
      },
      {
        "file": "a/bad.jpg",
        "failure": "image file is truncated",
        "detections": None,
      },
    ],
  }


def test_objects_of_an_image_are_one_entry(tmp_path):
  rows = [
    predicted.detected(shares=(0.1, 0.2, 0.3, 0.5), confidence=0.8),
    predicted.detected(category="person", confidence=0.25),
    predicted.detected("photos/b/two.jpg", category="Drone"),
    predicted.row("photos/b/empty.jpg", detection=None),
    predicted.failed("photos/b/x.jpg", detection=predicted.corners(0, 0, 1, 1)),
    predicted.failed("photos/b/x.jpg", detection=predicted.corners(0, 0, 1, 1)),
  ]
  found = document(rows, tmp_path, has_detections=True, detector="md_v5a.pt")
  assert found["info"]["detector"] == "md_v5a.pt"
  assert "detection_completion_time" not in found["info"]
  assert found["detection_categories"] == {
    **{"1": "animal", "2": "person", "3": "vehicle", "4": "Drone"}
  }
  one, two, empty, bad = found["images"]
  animal, person = one["detections"]
  # The boxes are the detector's, as the confidence is.
  assert animal["bbox"] == [0.1, 0.2, 0.2, 0.3]
  assert (animal["conf"], person["conf"]) == (0.8, 0.25)
  assert "classifications" not in person and person["category"] == "2"
  assert two["detections"][0]["category"] == "4"
  assert empty["detections"] == []
  assert bad["detections"] is None and bad["failure"]


def test_frames_of_a_video_are_one_entry(tmp_path):
  rows = [
    *(predicted.frame(n, rate=29.97) for n in (0, 30, 60)),
    predicted.failed("photos/a/film.mp4", frame=90, seconds=3.0),
    predicted.frame(0, "photos/a/short.avi"),
    predicted.failed("photos/a/broken.mov"),
  ]
  film, short, broken = images(rows, tmp_path, has_frames=True)
  assert film["frame_rate"] == 29.97
  assert film["frames_processed"] == [0, 30, 60]
  assert [d["frame_number"] for d in film["detections"]] == [0, 30, 60]
  assert "failure" not in film
  assert (short["frame_rate"], short["frames_processed"]) == (1.0, [0])
  assert broken["frame_rate"] == -1 and broken["frames_processed"] == []
  assert broken["detections"] is None


def test_tasks_that_a_model_lacks(tmp_path):
  whole = document([predicted.row(box=None)], tmp_path, tasks=("class",))
  assert whole["images"][0]["detections"][0]["bbox"] == [0.0, 0.0, 1.0, 1.0]
  boxes = document([predicted.row(**NO_CLASS)], tmp_path, tasks=("box",))
  assert "classification_categories" not in boxes
  assert "classifier" not in boxes["info"]
  assert "classifications" not in boxes["images"][0]["detections"][0]


def test_the_category_may_be_named(tmp_path):
  options = {"megadetector_category": "bird"}
  found = document([predicted.row()], tmp_path, options=options)
  assert found["detection_categories"] == {"1": "bird"}


@pytest.mark.parametrize(
  ("root", "path", "expected"),
  [
    ("photos", "photos/a/x.jpg", "a/x.jpg"),
    ("photos/", "photos/x.jpg", "x.jpg"),
    (".", "photos/x.jpg", "photos/x.jpg"),
    ("photos", "./photos//a/../x.jpg", "x.jpg"),
    ("photos", "photos2/x.jpg", "{cwd}/photos2/x.jpg"),
    ("/", "/data/x.jpg", "data/x.jpg"),
    ("", "photos/a/x.jpg", "x.jpg"),
  ],
)
def test_files_are_named_from_the_folder(
  root, path, expected, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (found,) = images([predicted.row(path)], tmp_path, root=root)
  assert found["file"] == expected.format(cwd=tmp_path.as_posix())


def test_without_a_folder_it_is_the_one_that_holds_all(tmp_path):
  names = ["/d/p/a/b/1.jpg", "/d/p/a/2.jpg", "/d/p/ab/3.jpg"]
  found = images([predicted.row(name) for name in names], tmp_path, root="")
  assert [i["file"] for i in found] == ["a/b/1.jpg", "a/2.jpg", "ab/3.jpg"]


def test_numbers_stay_in_range(tmp_path):
  rows = [
    predicted.row(box=predicted.corners(-0.1, 0.4, 1.2, 0.3)),
    predicted.row(box=predicted.corners(float("nan"), 0, 1, 1)),
    predicted.detected(confidence=float("nan")),
  ]
  found = images(rows, tmp_path, has_detections=True)
  first, second, third = found[0]["detections"]
  assert first["bbox"] == [0.0, 0.4, 1.0, 0.0]
  assert second["bbox"] == [0.0, 0.0, 1.0, 1.0]
  assert third["conf"] == 1.0
