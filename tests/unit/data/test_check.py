import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.data import check
from mtlmoe_jax.reports import sample_sheet
from tests.support import layouts

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture
def root(tmp_path):
  return layouts.make_cub(tmp_path / "cub")


def make_config(root, name="cub", classes="all"):
  config = config_lib.default_config()
  config.data.name, config.data.path = name, str(root)
  config.data.classes = classes
  return config


def test_good_data_set(root, tmp_path):
  out = tmp_path / "look.png"
  report = check.check(make_config(root))
  sample_sheet.write(out, report.source, report.readable)
  assert report.problems == []
  lines = report.text.splitlines()
  assert lines[0].split() == ["class", "train", "test", "validation"]
  assert lines[1].split() == ["001.Red_bird", "1", "1", "1"]
  assert lines[2].split() == ["002.Sky_blue_bird", "1", "1", "0"]
  assert lines[3].split() == ["all", "2", "2", "1"]
  assert "boxes: 5 of 5" in report.text
  # x centres .35 .5 .5 .45 .5; areas .25 1 .125 .25 .25
  table = {line.rsplit(maxsplit=4)[0]: line.split()[-4:] for line in lines[4:]}
  assert table["x centre"] == ["0.460", "0.350", "0.500", "0.500"]
  assert table["area"] == ["0.375", "0.125", "0.250", "1.000"]
  sheet = np.asarray(Image.open(out).convert("RGB"))
  # Five samples in a row; the first is 40 x 30 and drawn at its own size, its
  # box from (4, 6) to (24, 21) below a caption of 28 pixels.
  assert sheet.shape == (252, 1120, 3)
  red = (sheet == (255, 40, 40)).all(-1)
  ys, xs = np.nonzero(red[:, :224])
  assert (xs.min(), xs.max()) == (4, 24)
  assert (ys.min(), ys.max()) == (28 + 6, 28 + 21)


def test_every_problem_is_listed(root):
  layouts.edit(
    root / "bounding_boxes.txt", "1 4.0 6.0 20.0 15.0", "1 90.0 6.0 20.0 15.0"
  )
  layouts.edit(root / "image_class_labels.txt", "6 2", "6 9")
  truncated = root / "images" / layouts.cub_name(2)
  truncated.write_bytes(truncated.read_bytes()[:-100])
  (root / "images" / layouts.cub_name(9)).unlink()
  report = check.check(make_config(root))
  text = "\n".join(report.problems)
  assert len(report.problems) == 4
  for part in (
    "outside its image",
    "'9', which is not in classes.txt",
    f"{layouts.cub_name(2)} cannot be read",
    "no such image file",
  ):
    assert part in text


def test_attributes_of_a_folder_are_counted(tmp_path):
  rows = ["path,camera"]
  for i in range(4):
    file = tmp_path / "ab"[i % 2] / f"{i}.jpg"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(layouts.encode(layouts.picture(i, 20, 10)))
    rows.append(f"{file.relative_to(tmp_path)},{('north', 'south', '')[i % 3]}")
  (tmp_path / "attributes.csv").write_text("\n".join(rows))
  report = check.check(make_config(tmp_path, "folder"))
  assert report.problems == []
  assert "attribute camera: 2 value(s), known of 3 of 4 readable" in report.text


def test_what_is_left_out_and_cannot_be_learned_is_told(tmp_path):
  for name in ("a/1.jpg", "a/deep/2.jpg", "a/3.jpg"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(layouts.encode(layouts.picture(1, 20, 10)))
  (tmp_path / "a/4.cr2").touch()
  report = check.check(make_config(tmp_path, "folder"))
  (problem,) = report.problems
  assert "one class alone, 'a'" in problem
  assert "1 of 3 images lie in folders below" in report.text
  assert "left out: files that are not read (1 .cr2)" in report.text
  assert "no training image of" in report.text


def test_class_without_training_images(root):
  layouts.edit(root / "train_test_split.txt", "6 1", "6 0")
  report = check.check(make_config(root))
  assert report.problems == [
    "class '002.Sky_blue_bird' has no training image: add some or leave it "
    "out with config.data.classes"
  ]


def test_bad_subset_and_bad_path(root):
  report = check.check(make_config(root, classes="crow"))
  assert len(report.problems) == 1
  assert "unknown class 'crow'" in report.problems[0]
  assert "boxes: 5 of 5" in report.text
  report = check.check(make_config("/none"))
  assert len(report.problems) == 1


def test_script_exits_with_2_on_problems(root):
  layouts.edit(root / "train_test_split.txt", "6 1", "6 7")
  layouts.edit(root / "train_test_split.txt", "9 0", "9 8")
  done = subprocess.run(
    [
      sys.executable,
      str(ROOT / "launch" / "check_data.py"),
      "--data.name=cub",
      f"--data.path={root}",
    ],
    capture_output=True,
    text=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    check=False,
  )
  assert done.returncode == 2
  lines = done.stderr.strip().splitlines()
  assert len([x for x in lines if x.startswith("error: ")]) == 2
  assert "2 problem(s) found" in done.stdout
  assert "Traceback" not in done.stderr
