"""JSON, JSON lines, CSV and Parquet: the rows themselves."""

import csv
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from mtlmoe_jax.predicting import formats
from mtlmoe_jax.utils import files
from tests.support import predicted

ROWS = [
  predicted.row(),
  predicted.row("photos/b/ü, x.jpg", 1),
  predicted.failed(),
]


def written(name, rows, folder, **values):
  """Path of the one file of a format."""
  about = predicted.about(**values)
  (file,) = formats.write(name, lambda: iter(rows), about, folder)
  return folder / file


def test_json_is_what_it_was_for_a_list(tmp_path):
  for rows in (ROWS, ROWS[:1], []):
    files.write_json(tmp_path / "whole.json", rows)
    streamed = written("json", rows, tmp_path)
    assert streamed.read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_lines(tmp_path):
  lines = written("jsonl", ROWS, tmp_path).read_text("ascii").splitlines()
  assert [json.loads(line) for line in lines] == ROWS


def test_csv_of_images(tmp_path):
  text = written("csv", ROWS, tmp_path).read_text("utf-8")
  assert text == (
    "id,width,height,class,probability,top5,box_x1,box_y1,box_x2,box_y2,"
    "pixel_x1,pixel_y1,pixel_x2,pixel_y2,experts_class,experts_box,overlay,"
    "error,passport\n"
    "photos/a/one.jpg,400,200,wren,0.750000,"
    '"wren=0.7500;quail, common=0.1875;Ñandú <&> ""é""=0.0625",'
    "0.250000,0.100000,0.750000,0.600000,100.000000,20.000000,300.000000,"
    "120.000000,2=0.6000;0=0.4000,1=1.0000,one.jpg,,0123456789abcdef\n"
    '"photos/b/ü, x.jpg",400,200,"quail, common",0.750000,'
    '"quail, common=0.7500;wren=0.1875;Ñandú <&> ""é""=0.0625",'
    "0.250000,0.100000,0.750000,0.600000,100.000000,20.000000,300.000000,"
    "120.000000,2=0.6000;0=0.4000,1=1.0000,one.jpg,,0123456789abcdef\n"
    "photos/a/bad.jpg,,,,,,,,,,,,,,,,,image file is truncated,"
    "0123456789abcdef\n"
  )


def test_csv_columns_are_those_of_the_run(tmp_path):
  row = {**predicted.frame(12), **predicted.detected("photos/a/film.mp4")}
  row |= {"crop": "crops/1.jpg", "thumbnail": None}
  path = written(
    "csv",
    [row],
    tmp_path,
    tasks=("class",),
    has_detections=True,
    has_frames=True,
    pictures=("crop", "thumbnail"),
  )
  with open(path, encoding="utf-8", newline="") as file:
    (found,) = csv.DictReader(file)
  assert found["detection_x1"] == "0.200000"
  assert found["detection_confidence"] == "0.900000"
  assert found["detection_category"] == "animal"
  assert (found["frame"], found["seconds"]) == ("12", "0.480000")
  assert (found["crop"], found["thumbnail"]) == ("crops/1.jpg", "")
  assert "overlay" not in found and "experts_box" not in found


def test_csv_without_tasks_has_empty_cells(tmp_path):
  row = predicted.row(box=None, top5=None, **{"class": None})
  with open(written("csv", [row], tmp_path), encoding="utf-8") as file:
    (found,) = csv.DictReader(file)
  assert {found[name] for name in ("class", "top5", "box_x1", "pixel_y2")} == {
    ""
  }


def test_parquet_types(tmp_path):
  path = written("parquet", ROWS, tmp_path)
  table = parquet.read_table(path)
  types = {field.name: str(field.type) for field in table.schema}
  assert types["id"] == types["class"] == types["error"] == "string"
  assert types["width"] == types["class_index"] == "int32"
  assert types["probability"] == types["pixel_x2"] == "double"
  assert (
    types["top5"] == "list<element: struct<class: string, probability: double>>"
  )
  assert (
    types["experts_box"]
    == "list<element: struct<expert: int32, weight: double>>"
  )
  assert "frame" not in types and "detection_x1" not in types
  first, _, bad = table.to_pylist()
  assert first["top5"] == ROWS[0]["top5"]
  assert first["experts_class"] == ROWS[0]["experts"]["class"]
  assert first["box_x1"] == 0.25 and first["pixel_y2"] == 120.0
  assert bad["error"] == "image file is truncated"
  assert bad["class"] is bad["top5"] is bad["experts_box"] is None
  metadata = parquet.read_schema(path).metadata
  assert metadata[b"model"].decode() == predicted.MODEL
  assert metadata[b"time"].decode() == predicted.TIME


def test_parquet_of_frames_and_detections(tmp_path):
  row = {**predicted.frame(12), **predicted.detected("photos/a/film.mp4")}
  path = written(
    "parquet", [row], tmp_path, has_detections=True, has_frames=True
  )
  (found,) = parquet.read_table(path).to_pylist()
  assert (found["frame"], found["seconds"]) == (12, 0.48)
  assert found["detection_category"] == "animal"
  assert found["detection_confidence"] == 0.9


_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
_share = st.floats(0, 1) | st.just(float("nan"))


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(_text, _text, _share, st.integers(0, 2)), max_size=4))
def test_round_trips(tmp_path_factory, drawn):
  folder = tmp_path_factory.mktemp("drawn")
  rows = [
    predicted.row(name, best, **{"class": label, "probability": probability})
    for name, label, probability, best in drawn
  ]
  expected = files.plain(rows)
  assert json.loads(written("json", rows, folder).read_text()) == expected
  lines = written("jsonl", rows, folder).read_text("ascii").split("\n")
  assert [json.loads(line) for line in lines[:-1]] == expected
  with open(written("csv", rows, folder), encoding="utf-8", newline="") as file:
    table = list(csv.DictReader(file))
  assert [(r["id"], r["class"]) for r in table] == [
    (r["id"], r["class"]) for r in rows
  ]
  for cells, row in zip(table, expected):
    known = row["probability"]
    if known is None:
      assert cells["probability"] == ""
    else:
      assert float(cells["probability"]) == pytest.approx(known, abs=1e-6)
  columns = parquet.read_table(written("parquet", rows, folder)).to_pylist()
  for cells, row in zip(columns, expected, strict=True):
    assert {k: cells[k] for k in ("id", "class", "probability", "top5")} == {
      k: row[k] for k in ("id", "class", "probability", "top5")
    }
