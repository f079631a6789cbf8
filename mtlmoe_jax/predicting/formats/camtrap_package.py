"""datapackage.json of a Camtrap DP package."""

import datetime
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from mtlmoe_jax import errors
from mtlmoe_jax.predicting.formats.about import About
from mtlmoe_jax.predicting.formats.camtrap_facts import Facts, moment, text
from mtlmoe_jax.predicting.formats.naming import clean
from mtlmoe_jax.predicting.formats.writing import dumps, open_text

VERSION = "1.0.2"
_BASE = f"https://raw.githubusercontent.com/tdwg/camtrap-dp/{VERSION}"
_TABLES = ("deployments", "media", "observations")
# What a photograph tells nothing of and the standard does not let be absent:
# the weakest of its words.
_PROJECT = {
  "title": "untitled",
  "samplingDesign": "opportunistic",
  "captureMethod": ["activityDetection"],
  "individualAnimals": False,
  "observationLevel": ["media"],
}


def read(path: str) -> dict[str, Any]:
  """The metadata that the user has written; nothing for no path.

  Raises:
    InputError: it cannot be read, or is no JSON object.
  """
  if not path:
    return {}
  what = f"camtrap_package={path}"
  try:
    value = json.loads(pathlib.Path(path).read_text("utf-8-sig"))
  except OSError as error:
    raise errors.InputError(
      f"{what}: cannot be read ({error.strerror}); give a datapackage.json"
    ) from None
  except ValueError as error:
    raise errors.InputError(
      f"{what}: is no JSON ({error}); give a datapackage.json"
    ) from None
  if not isinstance(value, dict):
    raise errors.InputError(f"{what}: must be a JSON object")
  return value


def write(
  path: pathlib.Path,
  about: About,
  facts: Facts,
  times: Sequence[tuple[datetime.datetime, datetime.datetime]],
  names: Sequence[str],
) -> None:
  """Writes the file.

  Args:
    path: of the file.
    about: the run.
    facts: what the options tell.
    times: first and last of each deployment; none without a row.
    names: scientific names that were observed.

  Raises:
    InputError: the user's metadata cannot be read.
  """
  given = read(facts.package)
  now = moment(about.time)
  first = min((t for t, _ in times), default=now)
  last = max((t for _, t in times), default=now)
  project = given.pop("project", {})
  package = {
    "profile": f"{_BASE}/camtrap-dp-profile.json",
    "name": "predictions",
    "created": text(now),
    "contributors": [{"title": "not stated", "role": "contributor"}],
    "sources": [{"title": clean(about.model)}],
    "project": _PROJECT | (project if isinstance(project, dict) else {}),
    "spatial": _spatial(facts),
    "temporal": {
      "start": first.date().isoformat(),
      "end": last.date().isoformat(),
    },
    "taxonomic": [{"scientificName": name} for name in names],
    **given,
  }
  # These are facts of the tables beside it, whatever the user's file says.
  package["profile"] = f"{_BASE}/camtrap-dp-profile.json"
  package["resources"] = [_resource(name) for name in _TABLES]
  with open_text(path) as file:
    file.write(dumps(package, indent=2) + "\n")


def _resource(name: str) -> dict[str, str]:
  return {
    "name": name,
    "path": f"{name}.csv",
    "profile": "tabular-data-resource",
    "format": "csv",
    "mediatype": "text/csv",
    "encoding": "utf-8",
    "schema": f"{_BASE}/{name}-table-schema.json",
  }


def _spatial(facts: Facts) -> dict[str, Any]:
  """GeoJSON of all places: a point, or the rectangle around several."""
  rows = facts.deployments.values()
  places = [(row["longitude"], row["latitude"]) for row in rows]
  if facts.location:
    places.append((facts.location[1], facts.location[0]))
  points = [(float(x), float(y)) for x, y in places if x and y]
  west, east = (f((x for x, _ in points), default=0.0) for f in (min, max))
  south, north = (f((y for _, y in points), default=0.0) for f in (min, max))
  if west == east and south == north:
    return {"type": "Point", "coordinates": [west, south]}
  ring = [[west, south], [east, south], [east, north], [west, north]]
  return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
