"""Every layout gives the records that are meant, or asks."""

import json
import os
import pathlib

import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.data.readers.problems import Problems
from tests.support import annotated

NAMES = {
  "roboflow": "coco",
  "darknet": "yolo",
  "imagefolder": "table",
  "class_folders": "folder",
}


@pytest.mark.parametrize("layout", annotated.WRITERS)
def test_each_layout_is_recognised_and_read(tmp_path, layout):
  annotated.WRITERS[layout](tmp_path)
  whole = annotated.opened(tmp_path)
  source = whole.source
  assert source.name == NAMES.get(layout, layout)
  assert whole.recognised[0].startswith(f"read as {source.name}: ")
  # Class folders have no second class in one image.
  wanted = annotated.truth(drop_second=layout == "class_folders")
  within = 0.5 if layout != "table" else 1e-3
  annotated.assert_same(annotated.objects(source), wanted, within)
  assert whole.has_split == (layout in annotated.WITH_SPLIT)
  if whole.has_split:
    test = {source.paths[i].name for i in whole.official["test"]}
    assert test == {"frac.jpg", "touch.jpg"}
  # Named, it is read alike.
  again = annotated.opened(tmp_path, name=source.name)
  assert again.source.fingerprint == source.fingerprint


def test_one_object_of_each_image_or_none(tmp_path):
  annotated.coco(tmp_path)
  with pytest.raises(
    errors.InputError, match=r"1 of 6 images have several.*each"
  ):
    annotated.opened(tmp_path, objects="single")
  problems = Problems(collect=True)
  source = annotated.opened(tmp_path, problems, objects="single").source
  assert len(source) == 5 and len(problems.messages) == 1
  whole = annotated.opened(tmp_path, objects="largest")
  annotated.assert_same(
    annotated.objects(whole.source), annotated.truth(drop_second=True)
  )
  assert any("the largest of each is read" in note for note in whole.notes)
  value = annotated.coco_value()
  del value["annotations"][0]
  annotated.write(tmp_path / "annotations.json", value)
  whole = annotated.opened(tmp_path)
  assert "plain.jpg" not in {path.name for path in whole.source.paths}
  assert any("left out: 1 images without an object" in n for n in whole.notes)
  source = annotated.opened(tmp_path, empty="nothing").source
  assert annotated.objects(source)[2] == ("plain.jpg", "nothing", None)


def test_images_of_one_part_and_all_objects_stay_together(tmp_path):
  annotated.coco(tmp_path)
  whole = annotated.opened(tmp_path)
  ids = whole.source.image_ids
  parts = [{ids[i] for i in index} for index in whole.official.values()]
  assert not set.intersection(*parts)
  assert len(whole.source.ids) == len(set(whole.source.ids)) == 7


def test_two_readings_are_a_question(tmp_path):
  annotated.yolo(tmp_path)
  annotated.write(tmp_path / "annotations.json", annotated.coco_value())
  with pytest.raises(errors.InputError) as info:
    annotated.opened(tmp_path)
  text = str(info.value)
  assert "can be read in 2 ways" in text and "\n" not in text
  assert "config.data.name='coco' (annotations.json" in text
  assert "config.data.name='yolo' (6 label files" in text
  assert annotated.opened(tmp_path, name="coco").source.name == "coco"


def test_nothing_recognised_says_what_was_looked_for(tmp_path):
  annotated.photographs(tmp_path, "train/{name}")
  annotated.write(tmp_path / "notes.json", {"a": 1})
  with pytest.raises(errors.InputError, match=r"Pascal VOC.*found 6 images"):
    annotated.opened(tmp_path)
  with pytest.raises(errors.InputError, match="nothing there is in that"):
    annotated.opened(tmp_path, name="voc")
  with pytest.raises(errors.InputError, match="no such folder"):
    annotated.opened(tmp_path / "none")
  with pytest.raises(errors.InputError, match=r"is a file.*\.csv"):
    annotated.opened(tmp_path / "train/plain.jpg")


def test_annotations_may_lie_apart_from_their_images(tmp_path):
  annotated.coco(tmp_path / "there")
  file = tmp_path / "here" / "x.json"
  annotated.write(file, annotated.coco_value())
  with pytest.raises(errors.InputError, match=r"none of the 6 .*data.images"):
    annotated.opened(tmp_path / "here")
  images = str(tmp_path / "there" / "images")
  for path in (tmp_path / "here", file):
    source = annotated.opened(path, images=images).source
    annotated.assert_same(annotated.objects(source), annotated.truth())


# Read as it is, with these options, or refused with these words; of those that
# are read: what is not the truth.
GIVEN = {
  "camtrap_dp": "animal",
  "class_folders_csv_1": "class_from",
  "class_folders_csv_2": "3 boxes",
  "class_folders_csv_3": "1 box",
  "coco_2017": "",
  "globox": "can be read in 2 ways",
  "hf_imagefolder_flat": "numbers",
  "label_studio": "can be read in 4 ways",
  "megadetector_stations": "",
  "roboflow_coco": "",
  "roboflow_voc": "were looked for",
  "roboflow_yolo": r"class 1, but there are 1 names \(0 to 0\)",
  "supervision_coco": "",
  "supervision_voc": "",
  "supervision_yolo": "",
  "ultralytics": r"classes 0, 1, 2 and nothing names them",
  "voc_devkit": "",
}
SHARED = os.environ.get("MTLMOE_LAYOUTS_DIR", "")
needs_layouts = pytest.mark.skipif(
  not SHARED, reason="MTLMOE_LAYOUTS_DIR names no folder of layouts"
)


def given_truth(rename=None):
  """(name, class, box) of all objects of the photographs."""
  told = json.loads((pathlib.Path(SHARED) / "truth.json").read_text())
  names = {row["id"]: row["name"] for row in told["categories"]}
  return sorted(
    (image["file"], (rename or names).get(label, "?"), tuple(map(float, box)))
    for image in told["images"]
    for label, box in image["anns"]
  )


@needs_layouts
def test_every_layout_that_is_there_has_a_line():
  folders = {p.name for p in pathlib.Path(SHARED).iterdir() if p.is_dir()}
  assert folders - {"images"} == set(GIVEN)


@needs_layouts
@pytest.mark.parametrize("name", GIVEN)
def test_what_tools_have_written(name):
  path, said = pathlib.Path(SHARED) / name, GIVEN[name]
  if said not in ("", "animal", "numbers", "1 box", "3 boxes"):
    with pytest.raises(errors.InputError, match=said) as info:
      annotated.opened(path)
    assert "\n" not in str(info.value)
    return
  whole = annotated.opened(path)
  found = annotated.objects(whole.source)
  if said == "":
    annotated.assert_same(found, given_truth())
  elif said == "animal":  # The tool has written no name; it is told.
    names = dict.fromkeys((3, 7, 9), "animal")
    annotated.assert_same(found, given_truth(names))
    assert any("scientificName is empty" in note for note in whole.notes)
  elif said == "numbers":
    names = {n: str(n) for n in (3, 7, 9)}
    annotated.assert_same(found, given_truth(names))
    assert any("numbers alone" in note for note in whole.notes)
  else:  # Tables of some images: the others have no box.
    boxes = [box for _, _, box in found if box is not None]
    assert len(boxes) == int(said[0]) and len(found) == 6
    assert {row[:2] for row in found} <= {row[:2] for row in given_truth()}


@needs_layouts
@pytest.mark.parametrize("name", ("coco", "voc", "yolo", "label_studio"))
def test_label_studio_in_each_of_its_exports(name):
  """One rectangle is turned: told, or refused where only its box is left."""
  root, problems = pathlib.Path(SHARED), Problems(collect=True)
  whole = annotated.opened(
    root / "label_studio", problems, name=name, images=str(root / "images")
  )
  found = {row[:2]: row[2] for row in annotated.objects(whole.source)}
  wanted = {row[:2]: row[2] for row in given_truth()}
  turned = ("a_plain.jpg", "Black footed Albatross")
  if name == "coco":
    assert turned not in found and len(problems.messages) == 1
  elif name == "label_studio":
    assert any("1 rectangles are turned" in note for note in whole.notes)
    found.pop(turned)
  wanted = {key: box for key, box in wanted.items() if key in found}
  # Its XML cuts fractions of pixels off.
  within = 1.26 if name == "voc" else 0.5
  annotated.assert_same(
    [(*key, box) for key, box in found.items()],
    [(*key, wanted[key]) for key in found],
    within,
  )
