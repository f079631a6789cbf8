"""COCO results, and the ids that they refer to."""

import json

import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.predicting import formats
from tests.support import predicted

NO_CLASS = dict.fromkeys(("class", "class_index", "probability", "top5"))


def documents(rows, folder, **values):
  """What each file says."""
  about = predicted.about(**values)
  names = formats.write("coco", lambda: iter(rows), about, folder)
  return [json.loads((folder / name).read_text("utf-8")) for name in names]


def given(folder, images, names=predicted.NAMES):
  """A user's COCO file; its categories count from 5."""
  path = folder / "instances.json"
  value = {
    "images": [{"id": key, "file_name": name} for key, name in images],
    "categories": [{"id": 5 + i, "name": n} for i, n in enumerate(names)],
  }
  path.write_text(json.dumps(value))
  return {"coco_images": str(path)}


def test_results_and_their_images(tmp_path):
  rows = [
    predicted.row("photos/a/one.jpg"),
    predicted.failed(),
    predicted.row("photos/b/two.jpg", 2),
  ]
  results, images = documents(rows, tmp_path)
  assert results == [
    {
      **{"image_id": 1, "category_id": 1, "score": 0.75},
      "bbox": [100.0, 20.0, 200.0, 100.0],
    },
    {
      **{"image_id": 2, "category_id": 3, "score": 0.75},
      "bbox": [100.0, 20.0, 200.0, 100.0],
    },
  ]
  assert images == {
    "info": {"description": predicted.MODEL},
    "images": [
      {"id": 1, "file_name": "a/one.jpg", "width": 400, "height": 200},
      {"id": 2, "file_name": "b/two.jpg", "width": 400, "height": 200},
    ],
    "annotations": [],
    "categories": [
      {"id": i, "name": name} for i, name in enumerate(predicted.NAMES, 1)
    ],
  }


def test_objects_and_frames(tmp_path):
  rows = [
    predicted.detected(confidence=0.5),
    predicted.detected(best=1, box=None),
    predicted.detected(category="person"),
    predicted.row("photos/b/empty.jpg", detection=None),
    predicted.frame(7, "photos/c/film.mp4"),
  ]
  results, images = documents(rows, tmp_path, has_detections=True)
  assert [image["file_name"] for image in images["images"]] == [
    *("a/one.jpg", "b/empty.jpg", "c/film.mp4#7")
  ]
  assert [r["image_id"] for r in results] == [1, 1, 3]
  assert results[0]["score"] == 0.375
  assert results[1]["bbox"] == [80.0, 20.0, 200.0, 80.0]


def test_without_classes_there_is_one_category(tmp_path):
  results, images = documents(
    [predicted.row(**NO_CLASS)], tmp_path, tasks=("box",)
  )
  assert images["categories"] == [{"id": 1, "name": "object"}]
  assert (results[0]["category_id"], results[0]["score"]) == (1, 1.0)


def test_ids_of_the_users_file(tmp_path, capsys):
  rows = [
    predicted.row("photos/a/one.jpg"),
    predicted.row("photos/a/two.jpg", 1),
    predicted.row("photos/a/three.jpg", 2),
    predicted.row("photos/a/four.jpg"),
    predicted.row("photos/.hidden.jpg"),
  ]
  options = given(
    tmp_path,
    [
      *((11, "one.jpg"), ("x", "../photos/a/two.jpg"), (13, "b/three.jpg")),
      (14, ".hidden.jpg"),
    ],
  )
  (results,) = documents(rows, tmp_path, options=options)
  assert [(r["image_id"], r["category_id"]) for r in results] == [
    *((11, 5), ("x", 6), (14, 5))
  ]
  (line,) = capsys.readouterr().err.splitlines()
  assert "a/three.jpg, a/four.jpg" in line and "instances.json" in line


def test_the_exact_name_wins_and_doubt_is_an_error(tmp_path):
  images = [
    (1, "one.jpg"),
    (2, "a/one.jpg"),
    (3, "x/b/one.jpg"),
    (4, "y/b/one.jpg"),
  ]
  options = given(tmp_path, images)
  (results,) = documents([predicted.row()], tmp_path, options=options)
  assert results[0]["image_id"] == 2
  with pytest.raises(
    errors.InputError, match=r"b/one\.jpg may be one\.jpg, x/b"
  ):
    documents([predicted.row("photos/b/one.jpg")], tmp_path, options=options)


def test_a_class_that_the_users_file_lacks(tmp_path, capsys):
  options = given(tmp_path, [(1, "one.jpg")], predicted.NAMES[:1])
  rows = [predicted.row(), predicted.row(best=1)]
  (results,) = documents(rows, tmp_path, options=options)
  assert len(results) == 1
  assert "no category quail, common" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("{", "is no JSON"),
    ("[]", "needs images with id and file_name"),
    ('{"images": [{"id": 1}]}', "needs images with id and file_name"),
    ('{"images": [], "categories": []}', "is a class of the model"),
    (
      '{"images": [{"id": 1, "file_name": "z.jpg"}], '
      '"categories": [{"id": 1, "name": "wren"}]}',
      "has none of the images",
    ),
  ],
)
def test_files_that_will_not_do(text, message, tmp_path):
  path = tmp_path / "instances.json"
  path.write_text(text)
  with pytest.raises(errors.InputError, match=message) as raised:
    documents([predicted.row()], tmp_path, options={"coco_images": str(path)})
  assert "\n" not in str(raised.value)
  about = predicted.about(options={"coco_images": str(path)})
  with pytest.raises(errors.InputError, match=message):
    formats.foresee(["coco"], ["photos/a/one.jpg"], about)


def test_one_image_of_the_users_file_is_enough(tmp_path):
  about = predicted.about(options=given(tmp_path, [(1, "one.jpg")]))
  formats.foresee(["coco"], ["photos/x.jpg", "photos/one.jpg"], about)
  formats.foresee(["coco"], ["photos/film.mp4"], about)
