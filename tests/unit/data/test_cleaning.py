import csv
import pathlib
import shutil

import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.data import check, cleaning, listing, opening
from tests.support import layouts


@pytest.fixture
def root(tmp_path):
  """A folder with one mistake of each kind."""
  root = tmp_path / "mine"
  names = [
    f"{part}/{name}/{i}.jpg"
    for part in ("train", "val", "test")
    for name in ("a", "b, or c")
    for i in (1, 2)
  ]
  for seed, name in enumerate(names):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(layouts.encode(layouts.picture(seed, 40, 20)))
  for source, copy in (
    ("train/a/1.jpg", "train/b, or c/copy.jpg"),
    ("test/a/1.jpg", "train/a/leak.jpg"),
    ("val/a/2.jpg", "train/a/leak2.jpg"),
  ):
    shutil.copy(root / source, root / copy)
  broken = root / "test/a/2.jpg"
  broken.write_bytes(broken.read_bytes()[:-60])
  (root / "boxes.csv").write_text(
    "path,x_min,y_min,x_max,y_max\n"
    "train/a/1.jpg,0.1,0.25,0.5,0.75\n"
    "train/a/2.jpg,0.9,0.25,0.5,0.75\n"
  )
  return root


def checked(root, classes="all"):
  config = config_lib.default_config()
  config.data.name, config.data.path = "folder", str(root)
  config.data.classes = classes
  return check.check(config)


def test_what_has_a_problem_is_left_out_and_told(root, tmp_path):
  report = checked(root)
  assert len(report.problems) == 2
  lines = cleaning.write(tmp_path / "out", str(root), report)
  with (tmp_path / "out/images.csv").open(newline="") as file:
    reader = csv.DictReader(file)
    rows = {row.pop("path"): row for row in reader}
  assert tuple(reader.fieldnames) == cleaning.COLUMNS
  splits = {"train": "train", "val": "validation", "test": "test"}
  wanted = {
    *("train/a/1.jpg", "train/b, or c/1.jpg", "train/b, or c/2.jpg"),
    *("val/a/1.jpg", "val/a/2.jpg", "val/b, or c/1.jpg", "val/b, or c/2.jpg"),
    *("test/a/1.jpg", "test/b, or c/1.jpg", "test/b, or c/2.jpg"),
  }
  assert set(rows) == wanted
  for name, row in rows.items():
    assert row["class"] == name.split("/")[1]
    assert row["split"] == splits[name.split("/")[0]]
  corners = [rows["train/a/1.jpg"][key] for key in cleaning.COLUMNS[2:6]]
  assert list(map(float, corners)) == [4, 5, 20, 15]
  assert rows["val/a/1.jpg"]["x_min_px"] == ""
  assert lines[0].endswith("images.csv: 10 of 14 records")
  text = "\n".join(lines)
  for part in (
    "1 that cannot be decoded (test/a/2.jpg)",
    "1 that has the contents of another image of its part, which is kept "
    "(train/b, or c/copy.jpg)",
    "of the test part, which is kept (train/a/leak.jpg)",
    "of the validation part, which is kept (train/a/leak2.jpg)",
    "that the errors above name",
  ):
    assert part in text
  assert len(lines) == 6
  # It is read as any list.
  again = config_lib.default_config()
  again.data.path = str(tmp_path / "out/images.csv")
  again.data.images = str(root)
  data = opening.open_data(again)
  assert listing.parts_of(data) == {
    name: splits[name.split("/")[0]] for name in wanted
  }


def test_classes_that_are_not_chosen_are_left_out(root, tmp_path):
  lines = cleaning.write(tmp_path, str(root), checked(root, "a"))
  assert any("7 that is in no part" in line for line in lines)
  assert "and 4 more)" in "\n".join(lines)
  assert "b, or c" not in (tmp_path / cleaning.FILE).read_text()


def test_records_of_one_file_are_no_copies():
  paths = [pathlib.Path(name) for name in ("1", "1", "2", "1")]
  parts = ["train", "train", "train", "test"]
  found = cleaning.find(parts[:3], paths[:3], ["x", "x", "x"], range(3))
  assert list(found) == [2]
  # A file that is listed in two parts stays in the test part alone.
  found = cleaning.find(parts, paths, ["x"] * 4, range(4))
  assert sorted(found) == [0, 1, 2]


def test_no_list_is_written_over(root, tmp_path):
  report = checked(root)
  (tmp_path / cleaning.FILE).write_text("mine")
  with pytest.raises(errors.InputError, match="is there already"):
    cleaning.write(tmp_path, str(root), report)
  assert (tmp_path / cleaning.FILE).read_text() == "mine"
  with pytest.raises(errors.InputError, match="image files that can be opened"):
    cleaning.write(tmp_path / "new", "/none", checked("/none"))
  assert not (tmp_path / "new").exists()
