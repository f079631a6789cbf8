#!/usr/bin/env bash
# megadetector-utils 10.0.28: a confidence of 1 must be written 1.0, and what the
# validator lets pass need not be the format that its text describes.
#
# Seen: validate_batch_results, for files of format 1.6. `"conf": 1`, as
# JavaScript and R write the number, is refused ("illegal confidence value");
# `"conf": 1.0`, the same number to JSON, is valid. The same file with
# classifications in ascending order, with a box that ends at 1.8 of the width,
# or with a video of frame_rate 0 is valid, too, without a warning, though
# megadetector-output-format.md wants them descending, as shares of the image,
# and above 0. One would expect a number to be a number, and a validator to look
# at what its text says.
#
# For us: confidences are always written with a fraction, and the tests of
# predictions.megadetector.json ask for order, range and rate themselves
# (tests/unit/predicting/formats/test_validators.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet megadetector-utils==10.0.28
cat > "$folder/run.py" <<'P'
import importlib.metadata
import json
import pathlib
import sys

from megadetector.postprocessing import validate_batch_results as validator

path = pathlib.Path(sys.argv[1]) / "results.json"
BOX = '"bbox": [0.1, 0.1, 0.2, 0.2]'
RISING = '"classifications": [["0", 0.1], ["1", 0.9]]'


def errors(detection, image='"file": "a.jpg"'):
  text = (
    '{"info": {"format_version": "1.6"}, "detection_categories": '
    '{"1": "animal"}, "classification_categories": {"0": "a", "1": "b"}, '
    '"images": [{%s, "detections": [{"category": "1", %s}]}]}'
  ) % (image, detection)
  json.loads(text)
  path.write_text(text)
  found = validator.validate_batch_results(str(path))["validation_results"]
  assert not found["warnings"]
  return found["errors"]


video = '"file": "a.mp4", "frame_rate": 0, "frames_processed": [0]'
seen = {
  "conf 1.0": errors(f'"conf": 1.0, {BOX}'),
  "conf 1": errors(f'"conf": 1, {BOX}'),
  "ascending": errors(f'"conf": 0.5, {BOX}, {RISING}'),
  "outside": errors('"conf": 0.5, "bbox": [0.9, 0.1, 0.9, 0.2]'),
  "rate 0": errors(f'"conf": 0.5, {BOX}, "frame_number": 0', video),
}
print("megadetector-utils", importlib.metadata.version("megadetector-utils"))
for name, found in seen.items():
  print(f"{name:10} {found}")
refused = [name for name, found in seen.items() if found]
assert refused == ["conf 1"], refused
P
"$folder/venv/bin/python" "$folder/run.py" "$folder" 2> "$folder/log" \
  || { cat "$folder/log" >&2; exit 1; }
