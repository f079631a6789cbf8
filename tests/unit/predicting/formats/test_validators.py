"""Outputs pass the validators of those who read them.

frictionless, megadetector-utils, pycocotools and label-studio-sdk are in the
environment of `make parity` alone.
"""

import json

import numpy as np
import pytest

from mtlmoe_jax.predicting import formats
from tests.support import camtrap_schemas, predicted

pytestmark = pytest.mark.parity

NO_CLASS = dict.fromkeys(("class", "class_index", "probability", "top5"))


def needed(module):
  """A third party's module, which others need not have."""
  return pytest.importorskip(module, reason="make parity has it")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """Two stations; times with and without a zone, and none."""
  folder = tmp_path_factory.mktemp("photos")
  return {
    "root": str(folder),
    "one": predicted.photograph(folder / "a" / "one.jpg"),
    "two": predicted.photograph(
      folder / "b..c" / 'ünï, "x".jpg', zone="+02:00"
    ),
    "none": predicted.photograph(folder / "b..c" / "none.jpg", taken=""),
    "bad": str(folder / "a" / "bad.jpg"),
    "film": str(folder / "a" / "film.mp4"),
  }


def kinds(photos):
  """Rows of each kind of run, and what is known of it."""
  one, two = photos["one"], photos["two"]
  edge = predicted.corners(0.5, 0.5, 0.5, 1.0)
  return {
    "whole": (
      [
        *(predicted.row(one), predicted.row(two, 1)),
        predicted.failed(photos["bad"]),
        predicted.row(photos["none"], probability=float("nan")),
      ],
      {},
    ),
    "boxes": (
      [
        predicted.detected(one),
        predicted.detected(one, (0.5, 0.5, 0.5, 1.0), best=2, box=edge),
        predicted.detected(two, category="person", confidence=0.5),
        predicted.detected(photos["none"], category=None, confidence=None),
        predicted.row(photos["film"][:-8] + "empty.jpg", detection=None),
        predicted.failed(photos["bad"], detection=None),
      ],
      {"has_detections": True, "detector": "md_v5a.0.0.pt"},
    ),
    "frames": (
      [
        predicted.frame(0, photos["film"]),
        predicted.frame(12, photos["film"], best=1),
        predicted.failed(photos["film"][:-8] + "broken.MP4"),
        predicted.row(one),
      ],
      {"has_frames": True},
    ),
    "boxes alone": ([predicted.row(one, **NO_CLASS)], {"tasks": ("box",)}),
    "classes alone": ([predicted.row(one, box=None)], {"tasks": ("class",)}),
    "nothing": ([], {}),
  }


KINDS = (
  *("whole", "boxes", "frames", "boxes alone", "classes alone", "nothing"),
)


@pytest.fixture(params=KINDS)
def run(request, photos, tmp_path):
  """Writes a format of each kind of run; gives its folder."""
  rows, values = kinds(photos)[request.param]
  times = tmp_path / "times.csv"
  times.write_text("file,timestamp\na/film.mp4,2026-01-01 10:00:00\n")
  options = {
    **{"camtrap_location": "51.5,4.25", "camtrap_times": str(times)},
    **values.pop("options", {}),
  }
  about = predicted.about(root=photos["root"], options=options, **values)

  def write(name):
    formats.write(name, lambda: iter(rows), about, tmp_path)
    return tmp_path

  write.kind, write.count = request.param, len(rows)
  write.rows, write.about = rows, about
  return write


def test_megadetector_utils_finds_nothing_wrong(run):
  name = "megadetector.postprocessing.validate_batch_results"
  module = needed(name)
  path = run("megadetector") / "predictions.megadetector.json"
  options = module.ValidateBatchResultsOptions()
  options.raise_errors = True
  found = module.validate_batch_results(str(path), options)
  assert found["validation_results"]["errors"] == []
  assert found["validation_results"]["warnings"] == []
  # What the format's text asks for and the validator does not look at.
  for image in json.loads(path.read_text("utf-8"))["images"]:
    for detection in image["detections"] or ():
      x, y, width, height = detection["bbox"]
      assert min(x, y, width, height) >= 0
      assert max(x + width, y + height) <= 1 + 1e-6
      scores = [p for _, p in detection.get("classifications", ())]
      assert scores == sorted(scores, reverse=True)
    if image["detections"] and image["file"].endswith("mp4"):
      assert image["frame_rate"] > 0
      assert set(image["frames_processed"]) >= {
        d["frame_number"] for d in image["detections"]
      }


def test_frictionless_finds_nothing_wrong(run):
  frictionless = needed("frictionless")
  jsonschema = needed("jsonschema")
  folder = run("camtrap_dp") / "camtrap_dp"
  package = json.loads((folder / "datapackage.json").read_text("utf-8"))
  jsonschema.validate(
    package,
    camtrap_schemas.PROFILE,
    format_checker=jsonschema.FormatChecker(),
  )
  for resource in package["resources"]:
    name = resource["name"]
    assert resource["schema"].endswith(f"/1.0.2/{name}-table-schema.json")
    resource["schema"] = camtrap_schemas.TABLES[name]
  # The profile is an address, and was looked at above.
  del package["profile"]
  report = frictionless.Package.from_descriptor(
    package, basepath=str(folder)
  ).validate()
  assert report.flatten(["fieldName", "rowNumber", "note"]) == []
  assert report.valid
  assert [task.name for task in report.tasks] == [
    *("deployments", "media", "observations")
  ]
  if report.tasks[2].stats.get("rows"):
    # A medium that is not in its table would be seen.
    path = folder / "media.csv"
    first, *_ = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text(first)
    broken = frictionless.Package.from_descriptor(
      package, basepath=str(folder)
    ).validate()
    assert {kind for (kind,) in broken.flatten(["type"])} == {"foreign-key"}


def test_frictionless_would_find_something(photos, tmp_path):
  frictionless = needed("frictionless")
  rows = [predicted.row(photos["one"])]
  about = predicted.about(
    root=photos["root"], options={"camtrap_location": "51.5,4.25"}
  )
  formats.write("camtrap_dp", lambda: iter(rows), about, tmp_path)
  folder = tmp_path / "camtrap_dp"
  table = folder / "observations.csv"
  table.write_text(table.read_text("utf-8").replace(",animal,", ",bird,"))
  report = frictionless.validate(
    "observations.csv",
    basepath=str(folder),
    schema=frictionless.Schema.from_descriptor(
      {**camtrap_schemas.OBSERVATIONS, "foreignKeys": []}
    ),
  )
  assert report.flatten(["fieldName", "type"]) == [
    ["observationType", "constraint-error"]
  ]


def test_pycocotools_loads_the_results(run, capsys):
  coco = needed("pycocotools.coco")
  folder = run("coco")
  truth = coco.COCO(str(folder / "predictions.coco_images.json"))
  entries = json.loads((folder / "predictions.coco.json").read_text())
  if not entries:
    # `loadRes` looks at the first of them.
    assert run.kind == "nothing"
    return
  loaded = truth.loadRes(str(folder / "predictions.coco.json"))
  assert len(loaded.anns) == len(entries)
  names = {image["file_name"] for image in truth.imgs.values()}
  assert len(names) == len(truth.imgs)
  assert all(np.isfinite(a["score"]) for a in loaded.anns.values())


def test_pycocotools_evaluates_against_the_users_file(photos, tmp_path):
  coco = needed("pycocotools.coco")
  cocoeval = needed("pycocotools.cocoeval")
  rows = [predicted.row(photos["one"]), predicted.row(photos["two"], 1)]
  truth = {
    "images": [
      {"id": 70, "file_name": "one.jpg", "width": 400, "height": 200},
      {"id": 71, "file_name": 'b..c/ünï, "x".jpg', "width": 400, "height": 200},
    ],
    "categories": [
      {"id": 9, "name": predicted.NAMES[1]},
      {"id": 4, "name": predicted.NAMES[0]},
    ],
    "annotations": [
      {
        **{"id": i, "image_id": image, "category_id": key, "iscrowd": 0},
        **{"bbox": [100, 20, 200, 100], "area": 20_000},
      }
      for i, (image, key) in enumerate(((70, 4), (71, 9)), 1)
    ],
  }
  path = tmp_path / "instances.json"
  path.write_text(json.dumps(truth))
  about = predicted.about(
    root=photos["root"], options={"coco_images": str(path)}
  )
  written = formats.write("coco", lambda: iter(rows), about, tmp_path)
  assert written == ["predictions.coco.json"]
  given = coco.COCO(str(path))
  loaded = given.loadRes(str(tmp_path / "predictions.coco.json"))
  evaluation = cocoeval.COCOeval(given, loaded, "bbox")
  evaluation.evaluate()
  evaluation.accumulate()
  evaluation.summarize()
  assert evaluation.stats[0] == pytest.approx(1.0)


def test_label_studio_takes_tasks_and_their_config(run, tmp_path):
  label_interface = needed("label_studio_sdk.label_interface")
  folder = run("label_studio")
  config = (folder / "predictions.label_studio.xml").read_text("utf-8")
  tasks = json.loads((folder / "predictions.label_studio.json").read_text())
  interface = label_interface.LabelInterface(config)
  interface.validate()
  for task in tasks:
    assert interface.validate_task({"data": task["data"]})
    for prediction in task["predictions"]:
      assert interface.validate_prediction(prediction, return_errors=True) == []


@pytest.mark.parametrize("run", KINDS[:4], indirect=True)
def test_label_studios_converter_gives_the_boxes_back(run, tmp_path):
  converter = needed("label_studio_sdk.converter.converter")
  folder = run("label_studio")
  tasks = json.loads((folder / "predictions.label_studio.json").read_text())
  for number, task in enumerate(tasks, 1):
    # As a person who accepts all of them leaves them.
    (prediction,) = task.pop("predictions")
    task |= {"id": number, "annotations": [{"result": prediction["result"]}]}
  path = tmp_path / "accepted.json"
  path.write_text(json.dumps(tasks))
  made = converter.Converter(
    (folder / "predictions.label_studio.xml").read_text("utf-8"),
    str(tmp_path),
    download_resources=False,
  )
  made.convert_to_coco(str(path), str(tmp_path / "coco"), is_dir=False)
  result = json.loads((tmp_path / "coco" / "result.json").read_text())
  found = [annotation["bbox"] for annotation in result["annotations"]]
  expected = [
    [x1, y1, x2 - x1, y2 - y1]
    for row in run.rows
    if row["error"] is None and row.get("detection", 1) and "frame" not in row
    for x1, y1, x2, y2 in [row["box"]["pixels"]]
  ]
  assert np.allclose(found, expected, atol=0.01)
  names = {c["id"]: c["name"] for c in result["categories"]}
  assert set(names.values()) >= {
    names[a["category_id"]] for a in result["annotations"]
  }
