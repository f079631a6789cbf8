"""camtrap_dp/: the tables of a camera-trap project, Camtrap DP 1.0.2.

camtrap-dp.tdwg.org. GBIF takes such packages; camtrapdp (R) and frictionless
read them. The standard asks for what photographs do not tell; what the user
does not say either is refused or marked, never made up (see docs/outputs.md).
"""

import dataclasses
import datetime
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from mtlmoe_jax import errors
from mtlmoe_jax.devices import processes
from mtlmoe_jax.predicting.formats import camtrap_facts, camtrap_package
from mtlmoe_jax.predicting.formats.about import About, Row, Rows, by_image
from mtlmoe_jax.predicting.formats.camtrap_tables import (
  DEPLOYMENTS,
  MEDIA,
  OBSERVATIONS,
  file_path,
  observation,
)
from mtlmoe_jax.predicting.formats.naming import (
  Some,
  clean,
  media_type,
  relative,
  root_of,
)
from mtlmoe_jax.predicting.formats.values import finite
from mtlmoe_jax.predicting.formats.writing import Table, open_text

FOLDER = "camtrap_dp"


@dataclasses.dataclass
class _Deployment:
  """When a camera took its first and its last photograph.

  Attributes:
    first: the earliest time.
    last: the latest time.
    is_doubtful: whether a time zone was not told.
  """

  first: datetime.datetime
  last: datetime.datetime
  is_doubtful: bool = False

  def add(self, time: datetime.datetime, is_doubtful: bool) -> None:
    """Takes one more time into account."""
    self.first = min(self.first, time)
    self.last = max(self.last, time)
    self.is_doubtful |= is_doubtful


def foresee(ids: Sequence[str], about: About) -> None:
  """Says what the package will lack, before hours of prediction.

  Args:
    ids: of the images.
    about: the run.

  Raises:
    InputError: an option cannot be read, a deployment has no place, or no
      image has a time.
  """
  facts = camtrap_facts.read(about)
  found: set[str] = set()
  has_time = False
  root = root_of(lambda: ({"id": key} for key in ids), about)
  for key in ids:
    name = relative(key, root)
    found.add(_deployment(name, root, about))
    has_time = has_time or facts.time(key, name) is not None
  _require_places(sorted(found), facts)
  if found and not has_time:
    raise _no_time()


def write(rows: Rows, about: About, folder: pathlib.Path) -> list[str]:
  """Writes the four files of camtrap_dp/.

  An observation a row, at the level of media. What has no time is left out,
  and said so.

  Args:
    rows: read once or twice.
    about: the run, with the options camtrap_*.
    folder: in which camtrap_dp/ is made.

  Returns:
    Names of the files written, with their folder.

  Raises:
    InputError: an option cannot be read, a deployment has no place, or no
      image has a time.
  """
  facts = camtrap_facts.read(about)
  root = root_of(rows, about)
  out = folder / FOLDER
  out.mkdir(exist_ok=True)
  deployments: dict[str, _Deployment] = {}
  names: dict[str, None] = {}
  without, unreadable = Some(), Some()
  count = 0
  with (
    open_text(out / "media.csv") as media_file,
    open_text(out / "observations.csv") as observations_file,
  ):
    media = Table(media_file, MEDIA)
    observations = Table(observations_file, OBSERVATIONS)
    for key, group in by_image(rows):
      name = relative(key, root)
      taken = facts.time(key, name)
      if taken is None:
        is_read = any(row.get("error") is None for row in group)
        (without if is_read else unreadable).add(name)
        continue
      station = _deployment(name, root, about)
      media.add(_medium(key, name, station, taken, group))
      when = deployments.setdefault(station, _Deployment(taken[0], taken[0]))
      when.add(*taken)
      for row in group:
        if row.get("error") is not None:
          continue
        count += 1
        cells = observation(row, facts, about)
        begin = taken[0] + datetime.timedelta(
          seconds=finite(row.get("seconds")) or 0.0
        )
        cells |= {
          "observationID": f"o{count}",
          "deploymentID": station,
          "mediaID": name,
          "eventStart": camtrap_facts.text(begin),
          "eventEnd": camtrap_facts.text(begin),
        }
        when.add(begin.replace(microsecond=0), taken[1])
        if cells.get("scientificName"):
          names[cells["scientificName"]] = None
        observations.add(cells)
  if without.count and not deployments:
    raise _no_time(without)
  _require_places(list(deployments), facts)
  _write_deployments(out, deployments, facts)
  camtrap_package.write(
    out / "datapackage.json",
    about,
    facts,
    [(when.first, when.last) for when in deployments.values()],
    list(names),
  )
  _say(without, unreadable, deployments)
  return [
    f"{FOLDER}/{name}"
    for name in (
      *("datapackage.json", "deployments.csv"),
      *("media.csv", "observations.csv"),
    )
  ]


def _say(
  without: Some, unreadable: Some, deployments: dict[str, _Deployment]
) -> None:
  """What the package lacks, a line each."""
  if unreadable.count:
    processes.say(
      "note: camtrap_dp leaves out files that could not be read and tell no "
      f"time: {unreadable}"
    )
  if without.count:
    processes.say(
      "note: camtrap_dp leaves out files that tell no time: "
      f"{without}; give times in camtrap_times=FILE"
    )
  doubtful = [name for name, when in deployments.items() if when.is_doubtful]
  if doubtful:
    processes.say(
      "note: photographs do not tell their time zone; camtrap_dp calls it UTC "
      f"and sets timestampIssues ({errors.listed(doubtful, 3)}): set "
      "camtrap_timezone"
    )


def _no_time(names: Some | None = None) -> errors.InputError:
  which = f" ({names})" if names else ""
  return errors.InputError(
    f"out_format camtrap_dp: no image tells when it was taken{which}, and the "
    "standard wants times: give them in camtrap_times=FILE (CSV: file, "
    "timestamp)"
  )


def _require_places(
  stations: Sequence[str], facts: camtrap_facts.Facts
) -> None:
  missing = [name for name in stations if facts.place(name) is None]
  if missing:
    raise errors.InputError(
      "out_format camtrap_dp: the standard wants latitude and longitude of "
      f"each deployment, none is given of {errors.listed(missing, 4)}: set "
      "camtrap_location=LATITUDE,LONGITUDE or camtrap_deployments=FILE (CSV: "
      "deploymentID, latitude, longitude)"
    )


def _deployment(name: str, root: str, about: About) -> str:
  """The camera's station: the first folder below that of all images.

  That folder itself where an image lies in it, and for an image from elsewhere
  the one that it lies in.
  """
  if about.option("camtrap_deployment"):
    return about.option("camtrap_deployment")
  parts = name.split("/")
  own = parts[0] if len(parts) > 1 else os.path.basename(root)
  if name.startswith("/") or own.endswith(":"):
    own = parts[-2]
  return clean(own) or "all"


def _medium(
  key: str,
  name: str,
  station: str,
  taken: tuple[datetime.datetime, bool],
  group: list[Row],
) -> dict[str, Any]:
  bad = [row["error"] for row in group if row.get("error") is not None]
  return {
    "mediaID": name,
    "deploymentID": station,
    "timestamp": camtrap_facts.text(taken[0]),
    "filePath": file_path(key, name),
    "filePublic": "false",
    "fileName": name.rpartition("/")[2],
    "fileMediatype": media_type(key),
    "mediaComments": clean(str(bad[0])) if len(bad) == len(group) else None,
  }


def _write_deployments(
  out: pathlib.Path,
  deployments: dict[str, _Deployment],
  facts: camtrap_facts.Facts,
) -> None:
  with open_text(out / "deployments.csv") as file:
    table = Table(file, DEPLOYMENTS)
    for name, when in deployments.items():
      latitude, longitude = facts.place(name) or ("", "")
      table.add(
        {
          "deploymentID": name,
          "latitude": latitude,
          "longitude": longitude,
          "deploymentStart": camtrap_facts.text(when.first),
          "deploymentEnd": camtrap_facts.text(when.last),
          "timestampIssues": "true" if when.is_doubtful else "",
          **_told(facts.deployment(name)),
        }
      )


def _told(cells: Mapping[str, str]) -> dict[str, str]:
  """What the user's table says, in the columns of the standard."""
  return {k: v for k, v in cells.items() if v and k in DEPLOYMENTS}
