"""One small data set in many layouts of annotations, with its truth."""

import json
import pathlib
from typing import NamedTuple

from PIL import Image

from mtlmoe_jax.config import default_config
from mtlmoe_jax.data import opening
from mtlmoe_jax.data.readers.problems import Problems
from tests.support import layouts

CLASSES = ("Sky blue bird", "wren", "Auk_2")


class Shot(NamedTuple):
  """A photograph: name, upright size, how it is stored, objects, part."""

  name: str
  width: int
  height: int
  orientation: int
  objects: tuple[tuple[int, tuple[float, ...]], ...]
  split: str


# A picture on its side, boxes at an edge and at 0, 0, two objects, fractions.
SHOTS = (
  Shot("plain.jpg", 240, 160, 1, ((0, (29, 13, 185, 159)),), "train"),
  Shot("side.jpg", 240, 160, 6, ((0, (67, 14, 140, 141)),), "train"),
  Shot("edge.jpg", 240, 180, 1, ((1, (69, 19, 240, 180)),), "train"),
  Shot(
    "two.jpg",
    240,
    180,
    1,
    ((1, (97, 13, 176, 177)), (0, (5, 6, 30, 40))),
    "train",
  ),
  Shot("frac.jpg", 240, 152, 1, ((2, (51.25, 16.5, 238.6, 151.25)),), "val"),
  Shot("touch.jpg", 160, 240, 1, ((2, (0, 0, 145, 233)),), "val"),
)
_TURN_BACK = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}


def photograph(path: pathlib.Path, shot: Shot) -> None:
  """Writes the picture, turned as a camera on its side stores it."""
  path.parent.mkdir(parents=True, exist_ok=True)
  seed = sum(shot.name.encode())
  image = Image.fromarray(layouts.picture(seed, shot.width, shot.height))
  exif = Image.Exif()
  if shot.orientation != 1:
    image = image.transpose(_TURN_BACK[shot.orientation])
    exif[274] = shot.orientation
  image.save(path, exif=exif)


def photographs(root, place="images/{name}") -> None:
  for shot in SHOTS:
    where = place.format(name=shot.name, split=shot.split, label=_folder(shot))
    photograph(root / where, shot)


def _folder(shot):
  return CLASSES[shot.objects[0][0]]


def xywh(box):
  x1, y1, x2, y2 = box
  return [x1, y1, x2 - x1, y2 - y1]


def coco_value(ids=(3, 7, 9), size=True):
  images, rows = [], []
  for i, shot in enumerate(SHOTS):
    images.append({"id": 10 + i, "file_name": shot.name})
    if size:
      images[-1] |= {"width": shot.width, "height": shot.height}
    rows += [
      {
        "id": len(rows) + k,
        "image_id": 10 + i,
        "category_id": ids[label],
        "bbox": xywh(box),
      }
      for k, (label, box) in enumerate(shot.objects)
    ]
  categories = [{"id": n, "name": c} for n, c in zip(ids, CLASSES)]
  return {"images": images, "annotations": rows, "categories": categories}


def write(path: pathlib.Path, content) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  if not isinstance(content, str):
    content = json.dumps(content, indent=1)
  path.write_text(content, encoding="utf-8")


def coco(root):
  photographs(root)
  write(root / "annotations.json", coco_value())


def roboflow(root):
  photographs(root, "{split}/{name}")
  for split in ("train", "val"):
    value = coco_value()
    kept = [
      image
      for image, shot in zip(value["images"], SHOTS)
      if shot.split == split
    ]
    ids = {image["id"] for image in kept}
    rows = [row for row in value["annotations"] if row["image_id"] in ids]
    value |= {"images": kept, "annotations": rows}
    write(root / split / "_annotations.coco.json", value)


def yolo_text(shot):
  rows = []
  for label, (x1, y1, x2, y2) in shot.objects:
    w, h = shot.width, shot.height
    centre = ((x1 + x2) / 2 / w, (y1 + y2) / 2 / h)
    values = (*centre, (x2 - x1) / w, (y2 - y1) / h)
    rows.append(f"{label} " + " ".join(f"{v:.5f}" for v in values))
  return "\n".join(rows) + "\n"


def yolo(root):
  photographs(root, "images/{split}/{name}")
  for shot in SHOTS:
    label = pathlib.Path("labels", shot.split, shot.name).with_suffix(".txt")
    write(root / label, yolo_text(shot))
  write(
    root / "data.yaml", f"path: /old\nnc: 3\nnames: {json.dumps(CLASSES)}\n"
  )


def darknet(root):
  """Labels beside images, lists that name folders of another machine."""
  photographs(root, "obj_train_data/{name}")
  for shot in SHOTS:
    path = root / "obj_train_data" / shot.name
    write(path.with_suffix(".txt"), yolo_text(shot))
  write(root / "obj.names", "\n".join(CLASSES) + "\n")
  for split, name in (("train", "train.txt"), ("val", "valid.txt")):
    names = [f"data/{s.name}" for s in SHOTS if s.split == split]
    write(root / name, "\n".join(names) + "\n")


def voc_text(shot, shift=1):
  objects = "".join(
    f"<object><name>{CLASSES[label]}</name><bndbox><xmin>{b[0] + shift}</xmin>"
    f"<ymin>{b[1] + shift}</ymin><xmax>{b[2]}</xmax><ymax>{b[3]}</ymax>"
    "</bndbox></object>"
    for label, b in shot.objects
  )
  return (
    f"<annotation><filename>{shot.name}</filename><size><width>{shot.width}"
    f"</width><height>{shot.height}</height></size>{objects}</annotation>\n"
  )


def voc(root):
  photographs(root, "VOC2012/JPEGImages/{name}")
  for shot in SHOTS:
    name = pathlib.Path(shot.name).with_suffix(".xml").name
    write(root / "VOC2012/Annotations" / name, voc_text(shot))
  for split in ("train", "val"):
    stems = [s.name.split(".")[0] for s in SHOTS if s.split == split]
    write(root / f"VOC2012/ImageSets/Main/{split}.txt", "\n".join(stems) + "\n")


def table(root):
  """Semicolons, sides, a row for each object, parts in a column."""
  photographs(root)
  rows = ["Filename;Species;X;Y;W;H;Split"]
  for shot in SHOTS:
    rows += [
      ";".join(map(str, (shot.name, CLASSES[n], *xywh(b), shot.split)))
      for n, b in shot.objects
    ]
  write(root / "labels.csv", "\n".join(rows) + "\n")


def imagefolder(root):
  """Hugging Face's: JSON lines beside the images of each part."""
  photographs(root, "{split}/{name}")
  for split in ("train", "val"):
    lines = [
      json.dumps(
        {
          "file_name": shot.name,
          "objects": {
            "bbox": [xywh(b) for _, b in shot.objects],
            "categories": [CLASSES[n] for n, _ in shot.objects],
          },
        }
      )
      for shot in SHOTS
      if shot.split == split
    ]
    write(root / split / "metadata.jsonl", "\n".join(lines) + "\n")


def shares(shot, box):
  x, y, w, h = xywh(box)
  return [x / shot.width, y / shot.height, w / shot.width, h / shot.height]


def megadetector(root):
  photographs(root, "station/2026/{split}/{name}")
  rows = [
    {
      "file": f"D:\\cards\\2026\\{shot.split}\\{shot.name}",
      "detections": [
        {
          "category": "1",
          "conf": 0.9,
          "bbox": shares(shot, box),
          "classifications": [[str(5 + label), 0.8], ["5", 0.1]],
        }
        for label, box in shot.objects
      ]
      + [{"category": "1", "conf": 0.1, "bbox": [0.1, 0.1, 0.1, 0.1]}],
    }
    for shot in SHOTS
  ]
  names = {str(5 + label): name for label, name in enumerate(CLASSES)}
  value = {
    "images": rows,
    "detection_categories": {"1": "animal", "2": "person"},
    "classification_categories": names,
    "info": {"format_version": "1.4"},
  }
  write(root / "md.json", value)


def camtrap_dp(root):
  photographs(root, "media/{split}/{name}")
  media = ["mediaID,deploymentID,filePath,fileMediatype"]
  rows = [
    "observationID,mediaID,observationLevel,observationType,scientificName,"
    "bboxX,bboxY,bboxWidth,bboxHeight"
  ]
  for shot in SHOTS:
    media.append(f"{shot.name},d,{shot.split}/{shot.name},image/jpeg")
    for label, box in shot.objects:
      cells = [len(rows), shot.name, "media", "animal", CLASSES[label]]
      cells += shares(shot, box)
      rows.append(",".join(map(str, cells)))
  write(root / "media.csv", "\n".join(media) + "\n")
  write(root / "observations.csv", "\n".join(rows) + "\n")


def label_studio(root):
  photographs(root, "{split}/{name}")
  tasks = []
  for shot in SHOTS:
    results = [
      {
        "type": "rectanglelabels",
        "original_width": shot.width,
        "original_height": shot.height,
        "value": {
          **dict(
            zip(
              ("x", "y", "width", "height"),
              (100 * v for v in shares(shot, box)),
            )
          ),
          "rotation": 0,
          "rectanglelabels": [CLASSES[label]],
        },
      }
      for label, box in shot.objects
    ]
    data = {"image": f"/data/upload/1/0a1b2c3d-{shot.name}"}
    tasks.append({"data": data, "annotations": [{"result": results}]})
  write(root / "export.json", tasks)


def class_folders(root):
  """A row for each object, in shares, under the usual names."""
  photographs(root, "{split}/{label}/{name}")
  rows = ["path,x_min,y_min,x_max,y_max"]
  for shot in SHOTS:
    size = (shot.width, shot.height) * 2
    for label, box in shot.objects:
      if CLASSES[label] == _folder(shot):
        values = (v / s for v, s in zip(box, size))
        path = f"{shot.split}/{_folder(shot)}/{shot.name}"
        rows.append(",".join(map(str, (path, *values))))
  write(root / "boxes.csv", "\n".join(rows) + "\n")


# Writers of a whole data set, by the name that it is read as.
WRITERS = {
  "coco": coco,
  "roboflow": roboflow,
  "yolo": yolo,
  "darknet": darknet,
  "voc": voc,
  "table": table,
  "imagefolder": imagefolder,
  "megadetector": megadetector,
  "camtrap_dp": camtrap_dp,
  "label_studio": label_studio,
  "class_folders": class_folders,
}
# Those that say which image is in which part.
WITH_SPLIT = set(WRITERS) - {"coco"}


def opened(root, problems=None, **options):
  """The whole data set, as `config.data` has it with these options."""
  config = default_config()
  config.data.path = str(root)
  config.data.objects = "each"
  for name, value in options.items():
    config.data[name] = value
  return opening.open_whole(config, problems or Problems())


def objects(source):
  """(file name, class, box in pixels of the upright image or None), sorted."""
  found = []
  for i in range(len(source)):
    (height, width), box = source.upright(i)
    assert (source[i]["box"] == box).all()
    pixels = tuple(box * (width, height, width, height))
    name = source.class_names[source.labels[i]]
    has_box = bool(source.has_box[i])
    found.append((source.paths[i].name, name, pixels if has_box else None))
  return sorted(found)


def truth(drop_second=False):
  """What `objects` should give."""
  return sorted(
    (shot.name, CLASSES[label], tuple(map(float, box)))
    for shot in SHOTS
    for label, box in shot.objects[: 1 if drop_second else None]
  )


def assert_same(found, wanted, within=0.5):
  assert [row[:2] for row in found] == [row[:2] for row in wanted]
  for (name, _, box), (_, _, right) in zip(found, wanted, strict=True):
    assert box is not None, name
    # Half a pixel is what rounding costs; boxes are kept in float32.
    error = max(abs(a - b) for a, b in zip(box, right, strict=True))
    assert error <= within + 1e-5, name
