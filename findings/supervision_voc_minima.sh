#!/usr/bin/env bash
# supervision 0.31.2: Pascal VOC counts from 1 at its left and upper edges, from
# 0 at the others.
#
# Seen: as_pascal_voc adds 1 to xmin and ymin alone: a box 10, 20, 30, 60 is
# written as 11, 21, 30, 60, one pixel narrower and lower for every reader that
# takes the numbers as they are, or subtracts 1 from all four. Fractions are
# rounded after that, halves to even: 10.5, 20.5, 30.5, 60.5 is written as 12,
# 22, 30, 60, whose sides are 18 and 38 of 20 and 40. from_pascal_voc subtracts
# 1 from the minima alone: a file that counts from 0, with a box at 0, 0, is
# read as -1, -1. One would expect all four numbers to be treated alike.
#
# For us: whether a set counts from 0 or 1 is told by evidence over all its
# files, else asked for (config.data.voc_first_pixel, docs/data.md).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet supervision==0.31.2 \
  opencv-python-headless
cat > "$folder/run.py" <<'P'
import pathlib
import re
import sys

import cv2
import numpy as np
import supervision as sv

root = pathlib.Path(sys.argv[1])
(root / "images").mkdir(parents=True)
image = str(root / "images/a.jpg")
cv2.imwrite(image, np.full((100, 120, 3), 90, np.uint8))


def written(*box):
  found = sv.Detections(
    xyxy=np.array([box], np.float32), class_id=np.array([0])
  )
  data = sv.DetectionDataset(["wren"], [image], {image: found})
  data.as_pascal_voc(annotations_directory_path=str(root / "xml"))
  text = (root / "xml/a.xml").read_text()
  keys = ("xmin", "ymin", "xmax", "ymax")
  return [int(re.search(f"<{key}>(-?\\d+)<", text)[1]) for key in keys]


def read_again(old, new):
  file = root / "xml/a.xml"
  file.write_text(file.read_text().replace(old, new))
  data = sv.DetectionDataset.from_pascal_voc(
    str(root / "images"), str(root / "xml")
  )
  ((_, _, found),) = data
  return found.xyxy[0].tolist()


halves = written(10.5, 20.5, 30.5, 60.5)
whole = written(10, 20, 30, 60)
for old, new in (("<xmin>11<", "<xmin>0<"), ("<ymin>21<", "<ymin>0<")):
  from_zero = read_again(old, new)
print("supervision", sv.__version__)
print("10, 20, 30, 60 is written as        ", whole)
print("10.5, 20.5, 30.5, 60.5 is written as", halves)
print("0, 0, 30, 60 in a file is read as   ", from_zero)
assert whole == [11, 21, 30, 60], whole
assert halves == [12, 22, 30, 60], halves
assert from_zero == [-1, -1, 30, 60], from_zero
P
"$folder/venv/bin/python" "$folder/run.py" "$folder/data"
