"""All formats: what may be asked for, and what holds of each."""

import datetime
import gc
import json
import sys
import tracemalloc

import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.predicting import formats
from mtlmoe_jax.predicting.formats import camtrap_facts, parquet
from tests.support import predicted

ALL = formats.NAMES


def write(name, rows, folder, **values):
  """The texts that a format writes, by file name."""
  about = predicted.about(**values)
  folder.mkdir(parents=True, exist_ok=True)
  written = formats.write(name, lambda: iter(rows), about, folder)
  return {file: (folder / file).read_bytes() for file in written}


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("", formats.DEFAULT),
    ("csv", ("csv",)),
    (" coco, csv ,coco,", ("coco", "csv")),
    (",".join(ALL), ALL),
  ],
)
def test_names(text, expected):
  assert formats.check(text) == expected


@pytest.mark.parametrize(
  ("text", "parts"),
  [
    ("cvs", ["'cvs'", "did you mean csv?", "label_studio"]),
    ("csv,Camtrap-DP", ["'Camtrap-DP'", "did you mean camtrap_dp?"]),
    ("MegaDetector", ["did you mean megadetector?"]),
    ("xyz", ["'xyz': there are json, jsonl"]),
  ],
)
def test_unknown_names(text, parts):
  with pytest.raises(errors.InputError) as raised:
    formats.check(text)
  for part in parts:
    assert part in str(raised.value)


def test_an_unknown_option_is_refused():
  with pytest.raises(errors.InputError, match="did you mean coco_images"):
    formats.check("coco", {"coco_image": "a.json"})
  assert formats.check("coco", {"coco_images": "a.json"}) == ("coco",)


def test_parquet_without_its_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, "pyarrow", None)
  monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
  with pytest.raises(errors.InputError, match=r"mtlmoe_jax\[parquet\]"):
    formats.check("csv,parquet")
  assert formats.check("csv") == ("csv",)


# Whatever may happen to a row, in one run.
AWKWARD = [
  predicted.row("photos/a/one.jpg", probability=float("nan")),
  predicted.row(
    "photos/ä, \"b\"\n;=/'x'\u2028.jpg",
    1,
    box=predicted.corners(0.9, 0.9, 1.0, 0.9),
  ),
  predicted.row("photos/\udcff\ud800.jpg", 2),
  predicted.failed("photos/a/bad.jpg", error='cut at "3", <b>\udcff'),
]
PLACED = {"camtrap_location": "1,2", "camtrap_times": "times.csv"}


@pytest.fixture
def timed(tmp_path, monkeypatch):
  """Times of all awkward rows, and a folder for outputs."""
  monkeypatch.chdir(tmp_path)
  lines = ["file,timestamp"]
  for row in AWKWARD:
    name = row["id"].removeprefix("photos/").replace('"', '""')
    name = name.encode("utf-8", "backslashreplace").decode()
    lines.append(f'"{name}",2026-05-31T14:03:07')
  (tmp_path / "times.csv").write_text("\n".join(lines), encoding="utf-8")
  return tmp_path


@pytest.mark.parametrize("name", ALL)
def test_awkward_rows(name, timed):
  texts = write(name, AWKWARD, timed / "out", options=PLACED)
  again = write(name, AWKWARD, timed / "again", options=PLACED)
  assert texts == again
  assert texts
  for file, text in texts.items():
    if file.endswith(".parquet"):
      continue
    assert b"\r" not in text
    assert b"NaN" not in text and b"nan" not in text.replace(b"Ranand", b"")
    text.decode("utf-8")
    if file.endswith(".json"):
      json.loads(text)


@pytest.mark.parametrize("name", ALL)
def test_no_row_at_all(name, tmp_path):
  texts = write(name, [], tmp_path / "out", options={"camtrap_location": "1,2"})
  assert all(text for file, text in texts.items() if "jsonl" not in file)


@pytest.mark.parametrize("name", ALL)
def test_only_its_own_files_are_written(name, timed):
  out = timed / "out"
  written = write(name, AWKWARD, out, options=PLACED)
  found = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
  assert found == set(written)


def counted(most):
  """A factory of that many rows, three objects an image."""

  def rows():
    pattern = predicted.detected()
    for i in range(most):
      yield {**pattern, "id": f"photos/s{i // 3 % 7}/{i // 3}.jpg"}

  return rows


@pytest.mark.parametrize("name", ALL)
def test_memory_does_not_grow_with_rows(name, tmp_path, monkeypatch):
  monkeypatch.setattr(parquet, "ROWS", 60)
  noon = datetime.datetime(2026, 5, 31, 12, tzinfo=datetime.UTC)
  monkeypatch.setattr(camtrap_facts, "taken", lambda path: noon)
  about = predicted.about(
    has_detections=True, options={"camtrap_location": "1,2"}
  )

  def peak(most):
    # As users have it: tests collect seldom, and indented JSON leaves circles.
    seldom = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    tracemalloc.start()
    formats.write(name, counted(most), about, tmp_path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gc.set_threshold(*seldom)
    return most

  peak(3)  # What is imported when it is used first.
  few, many = 120, 360
  assert peak(many) < 1.1 * peak(few) + 50_000


def test_rows_are_read_one_after_the_other(tmp_path):
  # A list of them all would want the last before the first is written.
  def rows():
    for i in range(2000):
      if i == 1999:
        size = (tmp_path / "predictions.csv").stat().st_size
        assert size > 100_000
      yield predicted.row(f"photos/{i}.jpg")

  formats.write("csv", rows, predicted.about(), tmp_path)


def test_foresee_asks_only_the_formats_that_were_chosen(tmp_path):
  about = predicted.about(options={"coco_images": str(tmp_path / "no.json")})
  formats.foresee(["json", "csv"], ["photos/a.jpg"], about)
  with pytest.raises(errors.InputError, match=r"coco_images=.*no\.json"):
    formats.foresee(["coco"], ["photos/a.jpg"], about)
  with pytest.raises(errors.InputError, match="latitude and longitude"):
    formats.foresee(["camtrap_dp"], ["photos/a.jpg"], predicted.about())
