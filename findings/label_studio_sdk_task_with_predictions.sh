#!/usr/bin/env bash
# label-studio-sdk 2.1.2: LabelInterface.validate_task cannot look at a task that
# has predictions or annotations.
#
# Seen: with a labeling config of rectangles, validate_prediction accepts a
# prediction, and validate_task accepts a task without one. The same task with
# the same prediction in its list is a TypeError ("missing 1 required positional
# argument"): it calls validate_prediction without what to validate; with
# annotations likewise. One would expect True. validate_prediction itself also
# accepts a rectangle that ends at 110 % of the width.
#
# For us: the tests of predictions.label_studio.json validate the task without
# its predictions, then each of these, and give all of them to the converter
# (tests/unit/predicting/formats/test_validators.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet label-studio-sdk==2.1.2
cat > "$folder/run.py" <<'P'
import importlib.metadata

from label_studio_sdk.label_interface import LabelInterface

interface = LabelInterface(
  '<View><Image name="image" value="$image"/><RectangleLabels name="box" '
  'toName="image"><Label value="wren"/></RectangleLabels></View>'
)


def prediction(width):
  value = {"x": 90.0, "y": 10.0, "width": width, "height": 20.0}
  value |= {"rotation": 0, "rectanglelabels": ["wren"]}
  region = {"id": "r1", "from_name": "box", "to_name": "image"}
  region |= {"type": "rectanglelabels", "value": value}
  return {"model_version": "m", "score": 0.5, "result": [region]}


def outcome(function, *arguments):
  try:
    return str(function(*arguments))
  except TypeError as error:
    return f"TypeError: {error}"


bare = {"data": {"image": "a.jpg"}}
whole = {**bare, "predictions": [prediction(10.0)]}
marked = {**bare, "annotations": [prediction(10.0)]}
seen = {
  "prediction": outcome(interface.validate_prediction, prediction(10.0)),
  "task without": outcome(interface.validate_task, bare),
  "task with predictions": outcome(interface.validate_task, whole),
  "task with annotations": outcome(interface.validate_task, marked),
  "ends at 110 %": outcome(interface.validate_prediction, prediction(20.0)),
}
print("label-studio-sdk", importlib.metadata.version("label-studio-sdk"))
for name, found in seen.items():
  print(f"{name:22} {found}")
failed = [name for name, found in seen.items() if found != "True"]
assert failed == ["task with predictions", "task with annotations"], failed
assert all("required positional argument" in seen[name] for name in failed)
P
"$folder/venv/bin/python" "$folder/run.py" 2> "$folder/log" \
  || { cat "$folder/log" >&2; exit 1; }
