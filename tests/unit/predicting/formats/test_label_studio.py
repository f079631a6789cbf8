"""Label Studio's tasks and labeling config."""

import json
from xml.etree import ElementTree

from mtlmoe_jax.predicting import formats
from tests.support import predicted

NO_CLASS = dict.fromkeys(("class", "class_index", "probability", "top5"))


def documents(rows, folder, **values):
  """(tasks, the config's control tag, its labels)."""
  about = predicted.about(**values)
  tasks, config = formats.write(
    "label_studio", lambda: iter(rows), about, folder
  )
  image, control = ElementTree.parse(folder / config).getroot()
  assert image.attrib == {"name": "image", "value": "$image"}
  labels = [label.get("value") for label in control]
  return json.loads((folder / tasks).read_text("utf-8")), control, labels


def test_a_rectangle_of_each_image(tmp_path):
  rows = [predicted.row("photos/a/ü &.jpg", 2), predicted.failed()]
  tasks, control, labels = documents(rows, tmp_path)
  assert tasks == [
    {
      "data": {
        "image": "/data/local-files/?d=a/%C3%BC%20%26.jpg",
        "file": "a/ü &.jpg",
      },
      "predictions": [
        {
          "model_version": predicted.MODEL,
          "score": 0.75,
          "result": [
            {
              **{"id": "r1", "from_name": "box", "to_name": "image"},
              **{"type": "rectanglelabels", "score": 0.75},
              **{"original_width": 400, "original_height": 200},
              "image_rotation": 0,
              "value": {
                **{"x": 25.0, "y": 10.0, "width": 50.0, "height": 50.0},
                "rotation": 0,
                "rectanglelabels": [predicted.NAMES[2]],
              },
            }
          ],
        }
      ],
    }
  ]
  assert control.tag == "RectangleLabels"
  assert control.attrib == {"name": "box", "toName": "image"}
  assert labels == list(predicted.NAMES)


def test_several_objects(tmp_path):
  rows = [
    predicted.detected(),
    predicted.detected(category="person", confidence=0.25, box=None),
    predicted.row("photos/b/empty.jpg", detection=None),
  ]
  tasks, _, labels = documents(rows, tmp_path, has_detections=True)
  first, empty = (task["predictions"][0] for task in tasks)
  assert [r["id"] for r in first["result"]] == ["r1", "r2"]
  assert first["score"] == 0.25
  assert first["result"][1]["value"]["rectanglelabels"] == ["person"]
  assert first["result"][1]["value"]["x"] == 20.0
  assert empty["result"] == [] and "score" not in empty
  assert labels == [*predicted.NAMES, "person"]


def test_choices_where_there_are_no_boxes(tmp_path):
  tasks, control, labels = documents(
    [predicted.row(box=None)], tmp_path, tasks=("class",)
  )
  (result,) = tasks[0]["predictions"][0]["result"]
  assert (result["type"], result["from_name"]) == ("choices", "class")
  assert result["value"] == {"choices": [predicted.NAMES[0]]}
  assert control.tag == "Choices" and labels == list(predicted.NAMES)


def test_boxes_alone_are_objects(tmp_path):
  tasks, _, labels = documents(
    [predicted.row(**NO_CLASS)], tmp_path, tasks=("box",)
  )
  (result,) = tasks[0]["predictions"][0]["result"]
  assert result["value"]["rectanglelabels"] == labels == ["object"]
  assert "score" not in result


def test_labels_are_what_xml_can_hold(tmp_path):
  names = ("a\x07b", " two  words\n", '<&">')
  rows = [
    predicted.row(f"photos/{i}.jpg", **{"class": name})
    for i, name in enumerate(names)
  ]
  tasks, _, labels = documents(rows, tmp_path, class_names=names)
  assert labels == ["a b", "two words", '<&">']
  assert [
    t["predictions"][0]["result"][0]["value"]["rectanglelabels"][0]
    for t in tasks
  ] == labels


def test_an_address_of_the_users(tmp_path, capsys):
  rows = [predicted.row("photos/a b.jpg"), predicted.frame(0)]
  for prefix, name in (("s3://b/", "a b.jpg"), ("https://h/", "a%20b.jpg")):
    options = {"label_studio_prefix": prefix}
    tasks, _, _ = documents(rows, tmp_path, options=options)
    assert [t["data"]["image"] for t in tasks] == [prefix + name]
  assert "1 videos are left out" in capsys.readouterr().err
