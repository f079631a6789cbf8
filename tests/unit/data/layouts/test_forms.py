"""What tools, and people, write in their own way within a layout."""

import csv
import json
import pathlib

import pytest

from mtlmoe_jax import errors
from tests.support import annotated
from tests.support.annotated import SHOTS, opened, truth, write


def same(root, wanted=None, within=0.5, **options):
  """Reads a data set, which must be the truth; returns it."""
  whole = opened(root, **options)
  found = annotated.objects(whole.source)
  annotated.assert_same(found, truth() if wanted is None else wanted, within)
  return whole


def refused(root, said, **options):
  with pytest.raises(errors.InputError, match=said) as info:
    opened(root, **options)
  assert "\n" not in str(info.value)


def coco_with(root, change, place="images/{name}"):
  annotated.photographs(root, place)
  value = annotated.coco_value()
  change(value)
  write(root / "a.json", value)


def text_ids(value):
  """Uuids, text and numbers mixed, nothing in order, no info or areas."""
  for image in value["images"]:
    image["id"] = f"uuid-{image['id']}"
  for row in value["annotations"]:
    row["image_id"] = f"uuid-{row['image_id']}"
    row["category_id"] = str(row["category_id"])
    del row["id"]
  for part in value.values():
    part.reverse()


def without_sizes(value):
  for image in value["images"]:
    image["width"] = image["height"] = None


def swapped_sizes(value):
  """By mistake, of images that nothing turns; one stands on its side."""
  for image, shot in zip(value["images"], SHOTS, strict=True):
    if shot.orientation == 1:
      image["width"], image["height"] = image["height"], image["width"]


def all_sizes_swapped(value):
  """By the program, so what looks like the stored frame is none."""
  for image in value["images"]:
    image["width"], image["height"] = image["height"], image["width"]


def of_the_stored_frame(value):
  """A picture on its side, annotated as it lies in its file."""
  (i,) = (i for i, shot in enumerate(SHOTS) if shot.orientation == 6)
  image = value["images"][i]
  image["width"], image["height"] = SHOTS[i].height, SHOTS[i].width
  (row,) = (r for r in value["annotations"] if r["image_id"] == image["id"])
  x1, y1, x2, y2 = SHOTS[i].objects[0][1]
  # Upright x is stored H - y, upright y is stored x.
  row["bbox"] = annotated.xywh(
    (y1, SHOTS[i].width - x2, y2, SHOTS[i].width - x1)
  )


def scaled(value):
  """Images were made smaller after they had been annotated."""
  for image in value["images"]:
    image["width"], image["height"] = 2 * image["width"], 2 * image["height"]
  for row in value["annotations"]:
    row["bbox"] = [2 * v for v in row["bbox"]]


def paths_of_elsewhere(value):
  names = (
    "/home/a/b/{}",
    "../up/{}",
    "C:\\x\\{}",
    "0a1b2c3d-{}",
    "./images/{}",
  )
  for i, image in enumerate(value["images"]):
    image["file_name"] = names[i % len(names)].format(image["file_name"])


def outlines(value):
  for row in value["annotations"]:
    x, y, w, h = row.pop("bbox")
    row["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]


def crowds_and_nothing(value):
  """A crowd, and an image of COCO Camera Traps' class `empty`."""
  value["categories"].append({"id": 0, "name": "empty"})
  value["annotations"] += [
    {
      "id": "x",
      "image_id": 10,
      "category_id": 7,
      "iscrowd": 1,
      "bbox": [1] * 4,
    },
    {"id": "y", "image_id": 11, "category_id": 0},
  ]


COCO = (
  *(text_ids, without_sizes, swapped_sizes, all_sizes_swapped),
  *(of_the_stored_frame, scaled),
  *(paths_of_elsewhere, outlines, crowds_and_nothing),
)


@pytest.mark.parametrize("change", COCO)
def test_coco_in_many_hands(tmp_path, change):
  coco_with(tmp_path, change)
  same(tmp_path)


def stored_sizes(value):
  """As Pillow tells them, beside boxes of the upright picture."""
  for image, shot in zip(value["images"], SHOTS, strict=True):
    if shot.orientation == 6:
      image["width"], image["height"] = shot.height, shot.width


def stored_boxes(value):
  """Beside the upright size."""
  of_the_stored_frame(value)
  for image, shot in zip(value["images"], SHOTS, strict=True):
    image["width"], image["height"] = shot.width, shot.height


def test_the_frame_that_is_chosen_counts_more_than_a_size(tmp_path):
  coco_with(tmp_path, stored_sizes)
  told = "1 of 6 images looked at are turned by EXIF, and the size of the st"
  assert any(told in note for note in opened(tmp_path).notes)
  whole = same(tmp_path, box_frame="upright")
  assert not any("looked at" in note for note in whole.notes)
  coco_with(tmp_path, stored_boxes)
  same(tmp_path, box_frame="stored")
  coco_with(tmp_path, of_the_stored_frame)
  same(tmp_path, box_frame="stored")


BAD_COCO = {
  "annotation 0: image_id 99 is not among the 6": (
    lambda v: v["annotations"][0].update(image_id=99)
  ),
  r"category_id 8 is not among .* \(3, 7, 9\)": (
    lambda v: v["annotations"][0].update(category_id=8)
  ),
  "bbox 'a' must be four numbers": (
    lambda v: v["annotations"][0].update(bbox="a")
  ),
  r"bbox \[1, 2, None, 4\] must be": (
    lambda v: v["annotations"][0].update(bbox=[1, 2, None, 4])
  ),
  "have one id, '10'": lambda v: v["images"][1].update(id=10),
  "has no file_name": lambda v: v["images"][0].pop("file_name"),
  "says 500 x 160 pixels, but the image has 240 x 160": (
    lambda v: v["images"][0].update(width=500)
  ),
}


@pytest.mark.parametrize("said", BAD_COCO)
def test_mistakes_in_coco(tmp_path, said):
  coco_with(tmp_path, BAD_COCO[said])
  if said.startswith("says"):  # Known once the image is read.
    source = opened(tmp_path).source
    with pytest.raises(errors.InputError, match=said):
      source[0]
    with pytest.raises(errors.InputError, match=said):
      source.upright(0)
  else:
    refused(tmp_path, said)


def test_headers_are_not_read_where_the_file_says_the_size(tmp_path):
  coco_with(tmp_path, lambda value: None)
  for path in (tmp_path / "images").iterdir():
    path.write_bytes(b"no image")
  whole = opened(tmp_path)
  assert len(whole.source) == 7
  with pytest.raises(errors.InputError, match="cannot be read as an image"):
    whole.source[0]


def test_two_photographs_of_one_name(tmp_path):
  """As cameras number them: told apart by their folders, else asked."""
  coco_with(tmp_path, lambda value: None)
  annotated.photograph(tmp_path / "other/plain.jpg", SHOTS[0])
  refused(tmp_path, r"'plain\.jpg' may be images/plain\.jpg or other/plain")
  value = annotated.coco_value()
  value["images"][0]["file_name"] = "images/plain.jpg"
  write(tmp_path / "a.json", value)
  whole = same(tmp_path)
  assert any("1 images that no annotation names" in n for n in whole.notes)


def yolo_with(root, change):
  annotated.yolo(root)
  for path in sorted(root.rglob("*.txt")):
    rows = [line.split() for line in path.read_text().splitlines()]
    text = "\n".join(" ".join(change(row)) for row in rows)
    path.write_text(text + "\n")


def polygon(row):
  """Four corners, as rows of turned rectangles have them: nine columns."""
  x, y, w, h = map(float, row[1:])
  x1, y1, x2, y2 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
  return [row[0], *map(str, (x1, y1, x2, y1, x2, y2, x1, y2))]


YOLO_ROWS = {
  "confidence": lambda row: [*row, "0.9"],
  "polygon": polygon,
  "name": lambda row: [annotated.CLASSES[int(row[0])], *row[1:]],
  "as a float": lambda row: [f"{row[0]}.0", *row[1:]],
}


@pytest.mark.parametrize("form", YOLO_ROWS)
def test_rows_of_yolo(tmp_path, form):
  yolo_with(tmp_path, YOLO_ROWS[form])
  same(tmp_path)


def test_names_in_the_rows_need_no_list(tmp_path):
  yolo_with(tmp_path, YOLO_ROWS["name"])
  (tmp_path / "data.yaml").unlink()
  same(tmp_path)


BAD_YOLO = {
  "class 7, but there are 3 names": lambda row: ["7", *row[1:]],
  "class -1 is what a converter": lambda row: ["-1", *row[1:]],
  "class 'emu' is not among the 3": lambda row: ["emu", *row[1:]],
  "must be a class and 4 numbers": lambda row: row[:4],
  "as shares of the image": lambda row: [row[0], "120", "80", "60", "40"],
}


@pytest.mark.parametrize("said", BAD_YOLO)
def test_mistakes_in_yolo(tmp_path, said):
  yolo_with(tmp_path, BAD_YOLO[said])
  refused(tmp_path, said)


YAML = {
  "names: {0: Sky blue bird, 1: wren, 2: Auk_2}\n": "",
  "names: {1: Sky blue bird, 2: wren, 3: Auk_2}\n": "0, 1, ... without a gap",
  "names: [Sky blue bird, wren, Auk_2]\nnc: 80\n": "nc=80, but names has 3",
  "names: [wren, wren, Auk_2]\n": "a name of its own",
  "names: 3\n": "must be a list",
  "names: [a\n": "is no YAML",
  "nc: 3\n": "nothing names them",
}


@pytest.mark.parametrize("text", YAML)
def test_the_settings_of_yolo(tmp_path, text):
  annotated.yolo(tmp_path)
  write(tmp_path / "data.yaml", text)
  if YAML[text]:
    refused(tmp_path, YAML[text])
  else:
    same(tmp_path)


def test_the_settings_of_yolo_say_the_parts(tmp_path):
  """Whatever folders of another machine they name; lists, too."""
  annotated.photographs(tmp_path, "images/{name}")
  for shot in SHOTS:
    path = pathlib.Path("labels", shot.name).with_suffix(".txt")
    write(tmp_path / path, annotated.yolo_text(shot))
  parts = {
    part: [s.name for s in SHOTS if s.split == part]
    for part in ("train", "val")
  }
  for part, names in parts.items():
    lines = "\n".join(f"/old/my images/{name}" for name in names)
    write(tmp_path / f"my_{part}.txt", lines + "\n")
  yaml = "path: /old\nnames: [Sky blue bird, wren, Auk_2]\n"
  settings = tmp_path / "data.yaml"
  write(settings, f"{yaml}train: my_train.txt\nval: [my_val.txt]\n")
  whole = same(tmp_path)
  test = {whole.source.paths[i].name for i in whole.official["test"]}
  assert whole.has_split and test == set(parts["val"])
  # One image in two parts is a leak, by lists as by folders.
  write(settings, f"{yaml}train: images\nval: my_val.txt\n")
  refused(tmp_path, r"my_val\.txt: images/frac\.jpg is in train as well")
  write(settings, f"{yaml}train: images\nval: ../images\n")
  refused(tmp_path, r"6 images of val are in train as well")


def test_yolo_of_the_stored_frame_has_to_be_said(tmp_path):
  annotated.yolo(tmp_path)
  (shot,) = (s for s in SHOTS if s.orientation == 6)
  x1, y1, x2, y2 = shot.objects[0][1]
  stored = shot._replace(
    width=shot.height,
    height=shot.width,
    objects=((0, (y1, shot.width - x2, y2, shot.width - x1)),),
  )
  write(tmp_path / "labels/train/side.txt", annotated.yolo_text(stored))
  same(tmp_path, box_frame="stored")
  assert any("box_frame" in note for note in opened(tmp_path).notes)


@pytest.mark.parametrize("shift", (0, 1))
def test_voc_counts_from_0_or_1(tmp_path, shift):
  annotated.voc(tmp_path)
  folder = tmp_path / "VOC2012/Annotations"
  for shot in SHOTS:
    path = folder / pathlib.Path(shot.name).with_suffix(".xml").name
    write(path, annotated.voc_text(shot, shift))
  whole = same(tmp_path)
  assert any(f"to count from {shift}" in note for note in whole.notes)
  # Without the box at an edge nothing tells.
  (folder / "touch.xml").unlink()
  (tmp_path / "VOC2012/JPEGImages/touch.jpg").unlink()
  refused(tmp_path, "voc_first_pixel=1 or .*voc_first_pixel=0")
  wanted = [row for row in truth() if row[0] != "touch.jpg"]
  same(tmp_path, wanted, voc_first_pixel=str(shift))


BAD_XML = {
  '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>': "a document type of its own",
  "<annotation><object></annotation>": "is no XML that can be read",
  "<annotation><object/></annotation>": "an object has no <name>",
  "<annotation><object><name>a</name><bndbox><xmin>1</xmin></bndbox></object>"
  "</annotation>": "must have four numbers xmin, ymin, xmax, ymax",
}


@pytest.mark.parametrize("text", BAD_XML)
def test_mistakes_in_voc(tmp_path, text):
  annotated.voc(tmp_path)
  write(tmp_path / "VOC2012/Annotations/edge.xml", text)
  refused(tmp_path, BAD_XML[text])


def test_voc_goes_by_the_name_of_the_file(tmp_path):
  """Renamed together, image and file belong together."""
  annotated.voc(tmp_path)
  root = tmp_path / "VOC2012"
  (root / "JPEGImages/edge.jpg").rename(root / "JPEGImages/e1.jpg")
  (root / "Annotations/edge.xml").rename(root / "Annotations/e1.xml")
  wanted = [("e1.jpg" if r[0] == "edge.jpg" else r[0], *r[1:]) for r in truth()]
  same(tmp_path, sorted(wanted))
  # An image with another file's contents is a mistake.
  (root / "Annotations/e1.xml").write_bytes(
    (root / "Annotations/plain.xml").read_bytes()
  )
  refused(tmp_path, r"lies beside .*e1\.jpg, but names 'plain\.jpg'")


def table_of(root, header, row, place="images/{name}"):
  """A table with a row for each object."""
  annotated.photographs(root, place)
  rows = [header]
  for shot in SHOTS:
    for label, box in shot.objects:
      cells = row(shot, annotated.CLASSES[label], box)
      rows.append(",".join(map(str, cells)))
  write(root / "t.csv", "\n".join(rows) + "\n")


def per_cent(shot, box):
  return [100 * v / s for v, s in zip(box, (shot.width, shot.height) * 2)]


TABLES = {
  "file_name,label,bbox": lambda s, c, b: (
    s.name,
    c,
    f'"{annotated.xywh(b)}"',
  ),
  "image,category,xmin,ymin,xmax,ymax": lambda s, c, b: (s.name, c, *b),
  "x1,y1,x2,y2,class,img_path": lambda s, c, b: (*b, c, f"old/{s.name}"),
  "filename,width,height,class,xmin,ymin,xmax,ymax": lambda s, c, b: (
    *(s.name, s.width, s.height, c),
    *b,
  ),
  "id of it,image id,species,bbox_x,bbox_y,bbox_width,bbox_height": (
    lambda s, c, b: (7, s.name.split(".")[0], c, *annotated.xywh(b))
  ),
  "path,class,x_min_pct,y_min_pct,x_max_pct,y_max_pct": lambda s, c, b: (
    *(s.name, c),
    *per_cent(s, b),
  ),
}


@pytest.mark.parametrize("header", TABLES)
def test_tables_of_many_hands(tmp_path, header):
  table_of(tmp_path, header, TABLES[header])
  same(tmp_path)


def test_a_table_without_a_header(tmp_path):
  table_of(tmp_path, "", lambda s, c, b: (f"images/{s.name}", *b, c))
  path = tmp_path / "t.csv"
  path.write_text(path.read_text().lstrip())
  whole = same(tmp_path)
  assert any("it has no header" in note for note in whole.notes)


def test_numbers_that_a_header_does_not_explain(tmp_path):
  """Corners of boxes that might be sides are asked for."""

  def row(shot, name, box):
    return shot.name, name, '"[10, 10, 60, 60]"'

  table_of(tmp_path, "path,class,bbox", row)
  refused(tmp_path, "box_unit='percent' or .*box_unit='pixels'")
  refused(tmp_path, "possible as xyxy and xywh: .*box_fo", box_unit="pixels")
  source = opened(tmp_path, box_unit="pixels", box_format="xywh").source
  assert annotated.objects(source)[0][2] == pytest.approx((10, 10, 70, 70))
  source = opened(tmp_path, box_unit="percent", box_format="xyxy").source
  assert annotated.objects(source)[1][2] == pytest.approx((24, 15.2, 144, 91.2))


def test_sides_under_the_names_of_corners(tmp_path):
  table_of(
    tmp_path,
    "path,class,x_min_px,y_min_px,x_max_px,y_max_px",
    lambda s, c, b: (s.name, c, *annotated.xywh(b)),
  )
  refused(tmp_path, "header says xyxy, which 1 of 7 boxes are not.*'xywh'")
  same(tmp_path, box_format="xywh")


def test_a_table_and_folders_that_name_other_classes(tmp_path):
  table_of(
    tmp_path,
    "path,class,xmin,ymin,xmax,ymax",
    lambda s, c, b: (s.name, "bird", *b),
    "{label}/{name}",
  )
  refused(tmp_path, "class_from='annotations' or .*class_from='folder'")
  assert opened(tmp_path, class_from="folder").source.name == "folder"
  told = opened(tmp_path, class_from="annotations").source
  assert told.class_names == ("bird",)
  # Stations are no classes, if every image has one in the table.
  table_of(
    tmp_path / "b",
    "path,class,xmin,ymin,xmax,ymax",
    lambda s, c, b: (s.name, c, *b),
    "{split}_station/{name}",
  )
  whole = same(tmp_path / "b")
  assert any("are not taken for classes" in note for note in whole.notes)


def test_an_images_class_alone(tmp_path):
  table_of(tmp_path, "path,label", lambda s, c, b: (s.name, c))
  refused(tmp_path, r"1 images have several classes without boxes \(.*two")
  path = tmp_path / "t.csv"
  rows = path.read_text().splitlines()
  path.write_text("\n".join(r for r in rows if r != "two.jpg,wren") + "\n")
  source = opened(tmp_path, objects="single").source
  assert len(source) == 6 and not source.has_box.any()


def megadetector_with(root, change):
  annotated.megadetector(root)
  value = json.loads((root / "md.json").read_text())
  change(value)
  write(root / "md.json", value)


def without_classifier(value):
  del value["classification_categories"]
  for image in value["images"]:
    for found in image["detections"]:
      found.pop("classifications", None)


def test_a_detector_that_names_no_species(tmp_path):
  """Classes are folders, or just animals: asked."""
  megadetector_with(tmp_path, without_classifier)
  refused(tmp_path, "class_from='annotations' or .*class_from='folder'")
  source = opened(tmp_path, class_from="folder").source
  assert source.class_names == ("station",)
  source = opened(tmp_path, class_from="annotations").source
  assert source.class_names == ("animal",)
  # What is hardly seen counts where that is asked for.
  least = opened(tmp_path, class_from="annotations", min_confidence=0.05)
  assert len(least.source) == len(source) + len(SHOTS)


def test_a_detector_that_failed(tmp_path):
  def fail(value):
    value["images"][0] |= {"detections": None, "failure": "no image"}

  megadetector_with(tmp_path, fail)
  whole = same(tmp_path, [r for r in truth() if r[0] != "plain.jpg"])
  assert any("1 images that the detector could not" in n for n in whole.notes)


def test_label_studios_csv_and_other_structures_in_a_cell(tmp_path):
  annotated.label_studio(tmp_path)
  tasks = json.loads((tmp_path / "export.json").read_text())
  (tmp_path / "export.json").unlink()
  rows = [["image", "id", "label", "annotator", "annotation_id"]]
  for i, task in enumerate(tasks):
    marks = [
      result["value"]
      | {key: result[key] for key in ("original_width", "original_height")}
      for result in task["annotations"][0]["result"]
    ]
    rows.append([task["data"]["image"], i, json.dumps(marks), 1, i])
  file = tmp_path / "project.csv"
  with file.open("w", newline="") as stream:
    csv.writer(stream).writerows(rows)
  assert same(tmp_path).source.name == "label_studio"
  write(file, file.read_text().replace(']"', '"', 1))
  refused(tmp_path, r"project\.csv line 2: label .*is no JSON, or is cut")
  # Without the columns that tell: such a text is no class.
  with file.open("w", newline="") as stream:
    csv.writer(stream).writerows(row[:3] for row in rows)
  refused(tmp_path, r"line 2: label .* must be the name of one class")
  file.unlink()
  lines = [json.dumps({"image": s.name, "label": ["a"]}) for s in SHOTS]
  write(tmp_path / "a.jsonl", "\n".join(lines))
  assert names_of(opened(tmp_path)) == ["a"]
  write(tmp_path / "a.jsonl", lines[0].replace('"a"', '"a", "b"'))
  refused(tmp_path, r"line 1: label .* must be the name of one class")


def test_a_json_list_of_rows(tmp_path):
  annotated.photographs(tmp_path)
  keys = ("xmin", "ymin", "xmax", "ymax")
  rows = [
    {"file": s.name, "species": annotated.CLASSES[label], **dict(zip(keys, b))}
    for s in SHOTS
    for label, b in s.objects
  ]
  write(tmp_path / "birds.json", rows)
  assert same(tmp_path).source.name == "table"
  same(tmp_path / "birds.json")
  rows[1]["xmax"] = "far"
  write(tmp_path / "birds.json", rows)
  refused(tmp_path, r"birds\.json row 2: .*far.* must be four numbers")


def test_tables_of_datumaro_and_pylabel(tmp_path):
  """Names without a suffix; a column of paths that is empty."""
  one = {s.name: s for s in SHOTS if len(s.objects) == 1}
  wanted = [row for row in truth() if row[0] in one]
  for program in ("datumaro", "pylabel"):
    annotated.photographs(tmp_path / program, "train/{label}/{name}")
    next((tmp_path / program).rglob("two.jpg")).unlink()
  lines = ["NAME_ID,X,Y,W,H"]
  for shot in one.values():
    ((label, box),) = shot.objects
    name = f"{annotated.CLASSES[label]}/{shot.name.removesuffix('.jpg')}"
    lines.append(",".join(map(str, (name, *annotated.xywh(box)))))
  write(tmp_path / "datumaro/bb_landmark/loose_bb_train.csv", "\n".join(lines))
  same(tmp_path / "datumaro", wanted)
  lines = [
    "img_folder,img_filename,img_path,img_width,img_height,ann_bbox_xmin,"
    "ann_bbox_ymin,ann_bbox_xmax,ann_bbox_ymax,ann_bbox_width,ann_bbox_height,"
    "cat_id,cat_name,split"
  ]
  for shot in one.values():
    ((label, box),) = shot.objects
    sides = annotated.xywh(box)[2:]
    row = ("../x", shot.name, "", shot.width, shot.height, *box, *sides)
    lines.append(",".join(map(str, (*row, 7, annotated.CLASSES[label], ""))))
  write(tmp_path / "pylabel/a.csv", "\n".join(lines))
  same(tmp_path / "pylabel", wanted)


def test_polygons_of_label_studio(tmp_path):
  """Read as the box around each, as the tool's other exports have it."""
  annotated.label_studio(tmp_path)
  value = json.loads((tmp_path / "export.json").read_text())
  results = [r for t in value for r in t["annotations"][0]["result"]]
  for result in results:
    mark = result["value"]
    x, y, w, h = (mark.pop(key) for key in ("x", "y", "width", "height"))
    mark["points"] = [[x, y + h / 2], [x + w / 3, y], [x + w, y + h]]
    mark["polygonlabels"] = mark.pop("rectanglelabels")
    result["type"] = "polygonlabels"
  write(tmp_path / "export.json", value)
  whole = same(tmp_path)
  assert any(f"{len(results)} marks are polygons" in n for n in whole.notes)
  results[0]["value"]["points"][0] = [1, None]
  write(tmp_path / "export.json", value)
  refused(tmp_path, r"task \d+: points .* must be three or more pairs")


def test_a_table_of_classes_and_one_of_boxes(tmp_path):
  """Joined by image; a box whose class cannot be told is a mistake."""
  alone = [shot for shot in SHOTS if len(shot.objects) == 1]
  annotated.photographs(tmp_path, "pictures/{name}")
  for shot in set(SHOTS) - set(alone):
    (tmp_path / "pictures" / shot.name).unlink()
  classes, boxes = ["image,species"], ["filename,xmin,ymin,xmax,ymax"]
  for shot in alone:
    ((label, box),) = shot.objects
    classes.append(f"{shot.name},{annotated.CLASSES[label]}")
    boxes.append(",".join(map(str, (shot.name, *box))))
  write(tmp_path / "classes.csv", "\n".join(classes) + "\n")
  write(tmp_path / "boxes.csv", "\n".join(boxes) + "\n")
  names = {shot.name for shot in alone}
  wanted = [row for row in truth() if row[0] in names]
  whole = same(tmp_path, wanted)
  assert any("boxes.csv have the class of their im" in n for n in whole.notes)
  # An image without a box keeps its class.
  write(tmp_path / "boxes.csv", "\n".join(boxes[:-1]) + "\n")
  source = opened(tmp_path).source
  assert len(source) == len(alone) and sum(source.has_box) == len(alone) - 1
  write(tmp_path / "boxes.csv", "\n".join(boxes) + "\n")
  write(tmp_path / "classes.csv", "\n".join(classes[:-1]) + "\n")
  refused(tmp_path, r"boxes\.csv line \d+: .* has 0 classes in the table")
  other = classes[1].replace(annotated.CLASSES[alone[0].objects[0][0]], "emu")
  write(tmp_path / "classes.csv", "\n".join([*classes, other]) + "\n")
  refused(tmp_path, r"boxes\.csv line 2: .* has 2 classes in the table")


def test_one_file_of_a_detector_for_each_card(tmp_path):
  """Files that together are one data set, each with its own numbers."""
  annotated.megadetector(tmp_path)
  value = json.loads((tmp_path / "md.json").read_text())
  (tmp_path / "md.json").unlink()
  second = json.loads(json.dumps(value))
  del value["images"][3:], second["images"][:3]
  shift = {key: f"{key}0" for key in second["classification_categories"]}
  second["classification_categories"] = {
    shift[key]: name
    for key, name in second["classification_categories"].items()
  }
  for image in second["images"]:
    for found in image["detections"]:
      for word in found.get("classifications", ()):
        word[0] = shift[word[0]]
  write(tmp_path / "card1.json", value)
  write(tmp_path / "card2.json", second)
  assert same(tmp_path).source.class_names == tuple(annotated.CLASSES)
  # The same image in both, seen otherwise.
  again = json.loads(json.dumps(value["images"][0]))
  again["detections"][0]["bbox"][0] += 0.01
  write(tmp_path / "card2.json", {**value, "images": [again]})
  refused(tmp_path, r"card2\.json .*plain\.jpg has other objects than in card1")
  without_classifier(second)
  write(tmp_path / "card2.json", second)
  refused(tmp_path, r"card1\.json has classification_cat.*card2\.json has none")


def names_of(whole):
  return sorted({row[1] for row in annotated.objects(whole.source)})


def test_classes_whose_names_are_numbers_or_words_of_yaml(tmp_path):
  """A number in a row is a place in the list; no and yes are names."""
  annotated.yolo(tmp_path / "a")
  write(tmp_path / "a/data.yaml", "names: ['1', '2', '0']\n")
  wanted = {"Sky blue bird": "1", "wren": "2", "Auk_2": "0"}
  same(tmp_path / "a", sorted((a, wanted[b], c) for a, b, c in truth()))
  annotated.yolo(tmp_path / "b")
  write(tmp_path / "b/data.yaml", "names: [no, yes, null]\n")
  assert names_of(opened(tmp_path / "b")) == ["no", "null", "yes"]


def test_keypoints_behind_a_box(tmp_path):
  yolo_with(tmp_path, lambda row: [*row, *["0.5", "0.5"] * 12])
  refuse = annotated.objects(opened(tmp_path).source) != truth()
  assert refuse  # Without a word on them they are corners.
  yaml = (tmp_path / "data.yaml").read_text()
  write(tmp_path / "data.yaml", f"{yaml}kpt_shape: [12, 2]\n")
  same(tmp_path)


def test_six_numbers_are_no_box_and_no_polygon(tmp_path):
  yolo_with(tmp_path, lambda row: [*row, "0.9", "1"])
  refused(tmp_path, "must be a class and 4 numbers")


def test_boxes_in_shares_where_the_layout_has_pixels(tmp_path):
  def change(value):
    for row, image in (
      (r, value["images"][r["image_id"] - 10]) for r in value["annotations"]
    ):
      sides = (image["width"], image["height"]) * 2
      row["bbox"] = [v / s for v, s in zip(row["bbox"], sides)]

  coco_with(tmp_path, change)
  whole = same(tmp_path)
  assert any("taken for shares of the image" in n for n in whole.notes)


def test_parts_of_annotations_come_before_a_folder_called_train(tmp_path):
  """As where all images lie in train/, and a column tells the parts."""
  annotated.photographs(tmp_path, "train/{name}")
  rows = [
    f"{s.name},{annotated.CLASSES[n]},{s.split},{','.join(map(str, b))}"
    for s in SHOTS
    for n, b in s.objects
  ]
  header = "path,class,split,xmin,ymin,xmax,ymax"
  write(tmp_path / "t.csv", "\n".join([header, *rows]) + "\n")
  whole = same(tmp_path)
  test = {whole.source.paths[i].name for i in whole.official["test"]}
  assert test == {"frac.jpg", "touch.jpg"}
  assert any("the annotations are gone by" in note for note in whole.notes)


def test_names_alone_of_numbered_photographs_are_not_enough(tmp_path):
  """One card is missing: its objects are not those of another station."""
  annotated.photograph(tmp_path / "st0/IMG_1.jpg", SHOTS[0])
  header = "station,file,class,xmin,ymin,xmax,ymax"
  rows = [f"st{i},IMG_1.jpg,c{i},{i},1,150,90" for i in range(2)]
  write(tmp_path / "t.csv", "\n".join([header, *rows]) + "\n")
  refused(tmp_path, r"1 of 2 images.*\(st1/IMG_1\.jpg")
  annotated.photograph(tmp_path / "st1/IMG_1.jpg", SHOTS[0])
  source = opened(tmp_path).source
  lefts = [box[0] for _, _, box in annotated.objects(source)]
  assert lefts == pytest.approx([0, 1])
  # Of one photograph it is told.
  coco_with(tmp_path / "b", lambda value: None, "here/{name}")
  value = annotated.coco_value()
  for image in value["images"]:
    image["file_name"] = f"there/{image['file_name']}"
  write(tmp_path / "b/a.json", value)
  whole = same(tmp_path / "b")
  assert any("6 images of a.json were found by their" in n for n in whole.notes)


def test_one_name_in_two_parts_is_that_of_the_annotations_part(tmp_path):
  for split in ("train", "val"):
    value = {**annotated.coco_value(), "images": [], "annotations": []}
    (shot,) = [s for s in SHOTS if s.split == split][:1]
    annotated.photograph(tmp_path / f"{split}2017/0.jpg", shot)
    value["images"].append({"id": 1, "file_name": "0.jpg"})
    (label, box), row = shot.objects[0], {"id": 1, "image_id": 1}
    row |= {"category_id": (3, 7, 9)[label], "bbox": annotated.xywh(box)}
    value["annotations"].append(row)
    write(tmp_path / f"annotations/instances_{split}2017.json", value)
  whole = opened(tmp_path)
  found = {
    str(whole.source.paths[i].relative_to(tmp_path)): whole.source.labels[i]
    for i in range(2)
  }
  names = whole.source.class_names
  assert {k: names[v] for k, v in found.items()} == {
    "train2017/0.jpg": "Sky blue bird",
    "val2017/0.jpg": "Auk_2",
  }


COLUMNS = {
  "path,class,order,family,species": "species",
  "path,label,label_name": "label_name",
  "path,species,name": "species",
  "ImageID,LabelName": "LabelName",
  "id,breed": "breed",
}


@pytest.mark.parametrize("header", COLUMNS)
def test_which_column_is_the_class(tmp_path, header):
  annotated.photographs(tmp_path)
  names = header.split(",")
  rows = [
    ",".join(
      s.name if i == 0 else ("7" if n == "label" else f"{n} {s.split}")
      for i, n in enumerate(names)
    )
    for s in SHOTS
  ]
  write(tmp_path / "t.csv", "\n".join([header, *rows]) + "\n")
  column = COLUMNS[header]
  assert names_of(opened(tmp_path)) == [f"{column} train", f"{column} val"]


def test_files_that_are_none_of_the_data_sets(tmp_path):
  """A broken one of another program stops nothing; it is told."""
  annotated.coco(tmp_path)
  write(tmp_path / "viewer/tsconfig.json", "{ // a comment\n}")
  write(tmp_path / "log.csv", "a,b\n1,2,3\n")
  whole = same(tmp_path)
  told = "\n".join(whole.notes)
  assert "tsconfig.json: is no JSON" in told and "log.csv" in told


def test_lists_of_voc(tmp_path):
  annotated.voc(tmp_path)
  lists = tmp_path / "VOC2012/ImageSets/Main"
  for path in lists.iterdir():
    lines = [f"{line}.jpg" for line in path.read_text().split()]
    path.write_text("\n".join(lines) + "\n")
  assert same(tmp_path).has_split
  write(lists / "val.txt", "nowhere\n")
  refused(tmp_path, "none of its 1 lines names an XML file")
  # trainval is for training where it is not parted.
  (lists / "train.txt").rename(lists / "trainval.txt")
  write(lists / "val.txt", "")
  write(lists / "test.txt", "frac\ntouch\n")
  (lists / "val.txt").unlink()
  whole = same(tmp_path)
  assert whole.has_split and len(whole.official["test"]) == 2
