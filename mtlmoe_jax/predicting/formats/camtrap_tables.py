"""Tables of Camtrap DP 1.0.2: their columns, and what a row becomes in them."""

import os
import pathlib
from typing import Any

from mtlmoe_jax.predicting.formats import camtrap_facts
from mtlmoe_jax.predicting.formats.about import About, Row
from mtlmoe_jax.predicting.formats.naming import clean
from mtlmoe_jax.predicting.formats.values import (
  Corners,
  box_of,
  category_of,
  confidence_of,
  finite,
  is_classified,
  with_sides,
)

# All columns of the standard, in its order, as validators want them.
DEPLOYMENTS = (
  *("deploymentID", "locationID", "locationName", "latitude", "longitude"),
  *("coordinateUncertainty", "deploymentStart", "deploymentEnd", "setupBy"),
  *("cameraID", "cameraModel", "cameraDelay", "cameraHeight", "cameraDepth"),
  *("cameraTilt", "cameraHeading", "detectionDistance", "timestampIssues"),
  *("baitUse", "featureType", "habitat", "deploymentGroups"),
  *("deploymentTags", "deploymentComments"),
)
MEDIA = (
  *("mediaID", "deploymentID", "captureMethod", "timestamp", "filePath"),
  *("filePublic", "fileName", "fileMediatype", "exifData", "favorite"),
  "mediaComments",
)
OBSERVATIONS = (
  *("observationID", "deploymentID", "mediaID", "eventID", "eventStart"),
  *("eventEnd", "observationLevel", "observationType", "cameraSetupType"),
  *("scientificName", "count", "lifeStage", "sex", "behavior"),
  *("individualID", "individualPositionRadius", "individualPositionAngle"),
  *("individualSpeed", "bboxX", "bboxY", "bboxWidth", "bboxHeight"),
  *("classificationMethod", "classifiedBy", "classificationTimestamp"),
  *("classificationProbability", "observationTags", "observationComments"),
)
# Words of detectors and of class names for what the standard calls otherwise.
_KINDS = {
  **dict.fromkeys(("person", "human", "people", "homo sapiens"), "human"),
  **dict.fromkeys(("vehicle", "car"), "vehicle"),
  **dict.fromkeys(("blank", "empty", "nothing"), "blank"),
  **dict.fromkeys(("unknown", "unidentifiable"), "unknown"),
}


def file_path(key: str, name: str) -> str:
  """A path below the images' folder, or an address: the standard's pattern.

  It has no path that begins with a dot, slash or tilde, or has two dots.
  """
  if name[0] in "./~" or ".." in name:
    address = pathlib.Path(os.path.abspath(key)).as_uri()
    return address.replace("..", ".%2E")
  return name


def observation(
  row: Row, facts: camtrap_facts.Facts, about: About
) -> dict[str, Any]:
  """What a row says of its image, without ids and times."""
  category = category_of(row)
  label = row.get("class") if is_classified(row) else None
  cells: dict[str, Any] = {
    "observationLevel": "media",
    "classificationMethod": "machine",
    "classifiedBy": clean(about.model),
    "classificationTimestamp": camtrap_facts.text(
      camtrap_facts.moment(about.time)
    ),
  }
  if "detection" in row and not row["detection"]:
    return cells | {"observationType": "blank"}
  if label is not None:
    known = facts.name(label)
    kind = _KINDS.get(label.lower(), "animal")
    cells["observationType"] = known.kind or kind
    if cells["observationType"] == "animal":
      cells["scientificName"] = clean(known.scientific)
    if known.scientific != label:
      cells["observationTags"] = f"class:{clean(label).replace('|', '/')}"
    probability = finite(row.get("probability"))
  else:
    kind = "animal" if category.lower() == "animal" else "unclassified"
    cells["observationType"] = _KINDS.get(category.lower(), kind)
    probability = confidence_of(row)
  if cells["observationType"] == "blank":
    return cells | {"classificationProbability": probability}
  corners = box_of(row)
  if corners is not None:
    cells |= _box(corners)
  if cells["observationType"] in ("animal", "human"):
    cells["count"] = 1
  return cells | {"classificationProbability": probability}


def _box(corners: Corners) -> dict[str, float]:
  """bboxX ... bboxHeight; none of a box without area, which is no box there."""
  x, y, width, height = with_sides(corners)
  if not width or not height:
    return {}
  return {"bboxX": x, "bboxY": y, "bboxWidth": width, "bboxHeight": height}
