import json

import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.data import check, listing, opening
from mtlmoe_jax.data.readers.problems import Problems
from mtlmoe_jax.ops import boxes
from tests.support import layouts

# Path, width, height, EXIF orientation, box in pixels of the upright image.
IMAGES = (
  ("train/a/1.jpg", 40, 30, 1, (4.0, 6.5, 24.0, 21.25)),
  ("train/b/2 \u00e9.jpg", 20, 50, 6, (5.0, 0.0, 45.5, 20.0)),
  ("val/a/3.jpg", 30, 30, 1, None),
  ("test/b/4.jpg", 333, 77, 1, (0.1, 0.2, 332.7, 76.9)),
)


@pytest.fixture
def root(tmp_path):
  rows = ["path,x_min_px,y_min_px,x_max_px,y_max_px"]
  for seed, (name, width, height, orientation, box) in enumerate(IMAGES):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = layouts.Image.Exif()
    exif[274] = orientation
    picture = layouts.picture(seed, width, height)
    path.write_bytes(layouts.encode(picture, exif=exif))
    if box:
      rows.append(",".join(map(str, (name, *box))))
  (tmp_path / "boxes.csv").write_text("\n".join(rows))
  return tmp_path


def make_config(root, classes="all"):
  config = config_lib.default_config()
  config.data.name, config.data.path = "folder", str(root)
  config.data.classes = classes
  return config


def test_every_record_is_told_exactly(root, tmp_path):
  report = check.check(make_config(root))
  assert report.problems == []
  out = tmp_path / "records.json"
  listing.write(out, report.source, report.data)
  found = json.loads(out.read_text())
  splits = {"train": "train", "val": "validation", "test": "test"}
  assert sorted(found, key=lambda row: row["image"]) == sorted(
    [
      {
        "image": name,
        "class": name.split("/")[1],
        "box": box and list(box),
        "split": splits[name.split("/")[0]],
      }
      for name, _, _, _, box in IMAGES
    ],
    key=lambda row: row["image"],
  )
  # One record a line.
  assert len(out.read_text().splitlines()) == len(IMAGES) + 2


def test_records_of_no_part_have_no_split(root):
  source = opening.open_whole(make_config(root), Problems()).source
  assert {row["split"] for row in listing.rows(source, {})} == {None}
  assert listing.parts_of(None) == {}
  config = make_config(root, classes="b")
  data = opening.open_data(config)
  rows = listing.rows(source, listing.parts_of(data))
  assert {row["class"]: row["split"] for row in rows}["a"] is None


def test_drawn_birds_are_decoded_for_their_size():
  config = config_lib.default_config()
  config.data.name = "synthetic"
  config.data.synthetic.classes = 2
  config.data.synthetic.train_per_class = 1
  config.data.synthetic.test_per_class = 1
  whole = opening.open_whole(config, Problems())
  data = opening.split_data(config, whole)
  rows = listing.rows(whole.source, listing.parts_of(data))
  assert [row["split"] for row in rows] == ["train"] * 2 + ["test"] * 2
  record = whole.source[3]
  size = record["image"].shape[:2]
  want = boxes.convert(record["box"], "xyxy", "pixel_xyxy", size)
  assert rows[3]["box"] == pytest.approx(want.tolist(), abs=1e-4)
