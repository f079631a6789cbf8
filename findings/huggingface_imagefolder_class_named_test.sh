#!/usr/bin/env bash
# datasets 5.2.0 (Hugging Face), "imagefolder": one class whose name has test,
# train, val, dev or eval as a word of its own makes all other classes vanish.
#
# Seen: three class folders, `quail`, `wren` and `crash test dummy`, two images
# each. load_dataset returns a single part, `test`, of the last class alone: two
# of six images, and no column for the class; no warning, no error. With
# `crash_dummy` in its place: one part, `train`, all six images and all three
# classes. One would expect a folder to be a part where its whole name is a word
# for one.
#
# For us: a folder is a part only by its whole name, and a class called train
# beside others that hold images stays a class (data/readers/class_folders.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 Pillow
cat > "$folder/run.py" <<'P'
import pathlib
import sys

import datasets
from PIL import Image

root = pathlib.Path(sys.argv[1])


def names_of(rows):
  return rows.features["label"].names if "label" in rows.features else None


def load(name):
  top = root / name.replace(" ", "")
  for label in ("quail", "wren", name):
    (top / label).mkdir(parents=True)
    for i in range(2):
      Image.new("RGB", (8, 8), (40 * i, 90, 200)).save(top / label / f"{i}.png")
  parts = datasets.load_dataset("imagefolder", data_dir=str(top))
  return {
    part: (len(rows), names_of(rows)) for part, rows in parts.items()
  }


plain, named = load("crash_dummy"), load("crash test dummy")
print("datasets", datasets.__version__)
print("crash_dummy      ", plain)
print("crash test dummy ", named)
assert plain == {"train": (6, ["crash_dummy", "quail", "wren"])}, plain
assert named == {"test": (2, None)}, named
P
HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 \
  "$folder/venv/bin/python" "$folder/run.py" "$folder/data" 2> "$folder/log" \
  || { cat "$folder/log" >&2; exit 1; }
