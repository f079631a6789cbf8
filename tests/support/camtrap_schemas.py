"""Schemas of Camtrap DP 1.0.2, as dictionaries: what a validator goes by.

github.com/tdwg/camtrap-dp, release 1.0.2, MIT licence, Copyright (c) 2021
Camtrap DP Development Team. Field by field the names, types, formats,
constraints and keys of its table schemas, and the requirements of its profile;
titles, descriptions, examples and links to other vocabularies are left out.
"""

_TIME = {"type": "datetime", "format": "%Y-%m-%dT%H:%M:%S%z"}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_MISSING = ["", "NA", "NaN", "nan"]


def _required(kind, **more):
  return {**kind, "constraints": {"required": True, **more}}


def _number(least=None, most=None, kind="number", **more):
  limits = {"minimum": least, "maximum": most}
  limits = {k: v for k, v in limits.items() if v is not None}
  return {"type": kind, "constraints": {**limits, **more}}


def _whole(least=None, most=None):
  return _number(least, most, "integer")


def _one_of(*words, **more):
  return {"type": "string", "constraints": {"enum": list(words), **more}}


def _to(table, field):
  reference = {"resource": table, "fields": field}
  return {"fields": field, "reference": reference}


def _schema(name, key, fields, *references):
  return {
    "name": name,
    "fields": [{"name": field, **kind} for field, kind in fields.items()],
    "missingValues": _MISSING,
    "primaryKey": key,
    **({"foreignKeys": list(references)} if references else {}),
  }


DEPLOYMENTS = _schema(
  "deployments",
  "deploymentID",
  {
    "deploymentID": _required(_TEXT, unique=True),
    "locationID": _TEXT,
    "locationName": _TEXT,
    "latitude": _number(-90, 90, required=True),
    "longitude": _number(-180, 180, required=True),
    "coordinateUncertainty": _whole(1),
    "deploymentStart": _required(_TIME),
    "deploymentEnd": _required(_TIME),
    "setupBy": _TEXT,
    "cameraID": _TEXT,
    "cameraModel": _TEXT,
    "cameraDelay": _whole(0),
    "cameraHeight": _number(0),
    "cameraDepth": _number(0),
    "cameraTilt": _whole(-90, 90),
    "cameraHeading": _whole(0, 360),
    "detectionDistance": _number(0),
    "timestampIssues": _FLAG,
    "baitUse": _FLAG,
    "featureType": _one_of(
      *("roadPaved", "roadDirt", "trailHiking", "trailGame"),
      *("roadUnderpass", "roadOverpass", "roadBridge", "culvert", "burrow"),
      *("nestSite", "carcass", "waterSource", "fruitingTree"),
    ),
    "habitat": _TEXT,
    "deploymentGroups": _TEXT,
    "deploymentTags": _TEXT,
    "deploymentComments": _TEXT,
  },
)
MEDIA = _schema(
  "media",
  "mediaID",
  {
    "mediaID": _required(_TEXT, unique=True),
    "deploymentID": _required(_TEXT),
    "captureMethod": _one_of("activityDetection", "timeLapse"),
    "timestamp": _required(_TIME),
    "filePath": _required(_TEXT, pattern=r"^(?=^[^./~])(^((?!\.{2}).)*$).*$"),
    "filePublic": _required(_FLAG),
    "fileName": _TEXT,
    "fileMediatype": _required(_TEXT, pattern=r"^(image|video|audio)/.*$"),
    "exifData": {"type": "any"},
    "favorite": _FLAG,
    "mediaComments": _TEXT,
  },
  _to("deployments", "deploymentID"),
)
OBSERVATIONS = _schema(
  "observations",
  "observationID",
  {
    "observationID": _required(_TEXT, unique=True),
    "deploymentID": _required(_TEXT),
    "mediaID": _TEXT,
    "eventID": _TEXT,
    "eventStart": _required(_TIME),
    "eventEnd": _required(_TIME),
    "observationLevel": _one_of("media", "event", required=True),
    "observationType": _one_of(
      *("animal", "human", "vehicle", "blank", "unknown", "unclassified"),
      required=True,
    ),
    "cameraSetupType": _one_of("setup", "calibration"),
    "scientificName": _TEXT,
    "count": _whole(1),
    "lifeStage": _one_of("adult", "subadult", "juvenile"),
    "sex": _one_of("female", "male"),
    "behavior": _TEXT,
    "individualID": _TEXT,
    "individualPositionRadius": _number(0),
    "individualPositionAngle": _number(-90, 90),
    "individualSpeed": _number(0),
    "bboxX": _number(0, 1),
    "bboxY": _number(0, 1),
    "bboxWidth": _number(1e-15, 1),
    "bboxHeight": _number(1e-15, 1),
    "classificationMethod": _one_of("human", "machine"),
    "classifiedBy": _TEXT,
    "classificationTimestamp": _TIME,
    "classificationProbability": _number(0, 1),
    "observationTags": _TEXT,
    "observationComments": _TEXT,
  },
  _to("deployments", "deploymentID"),
  _to("media", "mediaID"),
)
TABLES = {s["name"]: s for s in (DEPLOYMENTS, MEDIA, OBSERVATIONS)}

_VERSION = {"type": "string", "pattern": r"1\.0", "format": "uri"}

_DAY = {"type": "string", "format": "date"}


def _words(*words):
  return {"type": "string", "enum": list(words)}


PROFILE = {
  "type": "object",
  "required": [
    *("resources", "profile", "created", "contributors", "project"),
    *("spatial", "temporal", "taxonomic"),
  ],
  "properties": {
    "profile": _VERSION,
    "created": {"type": "string", "format": "date-time"},
    "name": {"type": "string", "pattern": "^([-a-z0-9._/])+$"},
    "contributors": {
      "type": "array",
      "minItems": 1,
      "items": {
        "required": ["title"],
        "properties": {
          "role": _words(
            *("contact", "principalInvestigator", "rightsHolder"),
            *("publisher", "contributor"),
          )
        },
      },
    },
    "sources": {"type": "array", "items": {"required": ["title"]}},
    "licenses": {"minItems": 2, "items": {"required": ["scope"]}},
    "resources": {
      "minItems": 3,
      "items": {
        "required": ["name", "path", "profile", "schema"],
        "properties": {
          "name": _words("deployments", "media", "observations"),
          "profile": _words("tabular-data-resource"),
          "schema": _VERSION,
        },
      },
    },
    "project": {
      "type": "object",
      "required": [
        *("title", "samplingDesign", "captureMethod", "individualAnimals"),
        "observationLevel",
      ],
      "properties": {
        "title": {"type": "string"},
        "samplingDesign": _words(
          *("simpleRandom", "systematicRandom", "clusteredRandom"),
          *("experimental", "targeted", "opportunistic"),
        ),
        "captureMethod": {
          "type": "array",
          "items": _words("activityDetection", "timeLapse"),
          "uniqueItems": True,
          "minItems": 1,
        },
        "individualAnimals": {"type": "boolean"},
        "observationLevel": {
          "type": "array",
          "items": _words("media", "event"),
        },
      },
    },
    "spatial": {"type": "object", "required": ["type", "coordinates"]},
    "temporal": {
      "type": "object",
      "required": ["start", "end"],
      "properties": {"start": _DAY, "end": _DAY},
    },
    "taxonomic": {
      "type": "array",
      "items": {
        "type": "object",
        "required": ["scientificName"],
        "properties": {"scientificName": {"type": "string"}},
      },
    },
  },
}
