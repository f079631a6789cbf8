"""What a Camtrap DP package needs to know and photographs may not tell."""

import csv
import datetime
import pathlib
import re
import zoneinfo
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image

from mtlmoe_jax import errors
from mtlmoe_jax.data import images
from mtlmoe_jax.predicting.formats.about import About

_EXIF_FOLDER, _TAKEN, _OFFSET = 0x8769, 0x9003, 0x9011
# Editors write other signs between the numbers than cameras do.
_TIME = re.compile(r"(\d{4})\D(\d\d)\D(\d\d)\D(\d\d)\D(\d\d)\D(\d\d)")
_KINDS = ("animal", "human", "vehicle", "blank", "unknown", "unclassified")


class Name(NamedTuple):
  """What the standard calls a class.

  Attributes:
    scientific: its scientific name; the class itself where nobody says.
    kind: observationType; "" where nobody says.
  """

  scientific: str
  kind: str


class Facts(NamedTuple):
  """What the options camtrap_* tell.

  Attributes:
    zone: of times that have none; None: not told.
    location: (latitude, longitude) of deployments that the table lacks.
    deployments: cells of the user's table by deploymentID.
    times: text by file.
    names: what the standard calls classes.
    package: metadata of the user's datapackage.json.
  """

  zone: datetime.tzinfo | None
  location: tuple[str, str] | None
  deployments: Mapping[str, Mapping[str, str]]
  times: Mapping[str, str]
  names: Mapping[str, Name]
  package: str

  def place(self, deployment: str) -> tuple[str, str] | None:
    """(latitude, longitude) of a deployment, in degrees, as text."""
    row = self.deployments.get(deployment)
    if row and row["latitude"] and row["longitude"]:
      return row["latitude"], row["longitude"]
    return self.location

  def deployment(self, name: str) -> Mapping[str, str]:
    """What the user's table says of a deployment."""
    return self.deployments.get(name, {})

  def name(self, label: str) -> Name:
    """What the standard calls a class."""
    return self.names.get(label) or Name(label, "")

  def time(self, path: str, name: str) -> tuple[datetime.datetime, bool] | None:
    """When a file was recorded.

    Args:
      path: of the file.
      name: its path from the folder of the images.

    Returns:
      (time, whether its zone is a guess), or None where nothing tells.

    Raises:
      InputError: the time that the user gives is none.
    """
    given = self.times.get(name) or self.times.get(path)
    told = moment(given) if given else taken(path)
    if told is None:
      return None
    if told.tzinfo is not None:
      return told, False
    if self.zone is None:
      return told.replace(tzinfo=datetime.UTC), True
    return told.replace(tzinfo=self.zone), False


def read(about: About) -> Facts:
  """Reads the options.

  Args:
    about: the run.

  Returns:
    What they tell.

  Raises:
    InputError: one of them cannot be read.
  """
  path = about.option("camtrap_deployments")
  rows = _table(
    path, "camtrap_deployments", ("deploymentID", "latitude", "longitude")
  )
  for row in rows:
    _degrees(f"camtrap_deployments={path}", row["latitude"], row["longitude"])
  named = _table(
    about.option("camtrap_names"), "camtrap_names", ("class", "scientificName")
  )
  for row in named:
    kind = row.get("observationType", "")
    if kind and kind not in _KINDS:
      raise errors.InputError(
        f"camtrap_names: observationType {kind!r} of {row['class']} is none "
        f"of {', '.join(_KINDS)}"
      )
  times = _table(
    about.option("camtrap_times"), "camtrap_times", ("file", "timestamp")
  )
  return Facts(
    zone(about.option("camtrap_timezone")),
    _location(about.option("camtrap_location")),
    {row["deploymentID"]: row for row in rows},
    {row["file"].replace("\\", "/"): row["timestamp"] for row in times},
    {
      row["class"]: Name(row["scientificName"], row.get("observationType", ""))
      for row in named
    },
    about.option("camtrap_package"),
  )


def _table(
  path: str, option: str, needed: Sequence[str]
) -> list[dict[str, str]]:
  """Rows of a CSV file with a header; none for no path."""
  if not path:
    return []
  try:
    with open(path, encoding="utf-8-sig", newline="") as file:
      reader = csv.DictReader(file)
      columns = [name.strip() for name in reader.fieldnames or ()]
      reader.fieldnames = columns
      rows = [
        {k: (v or "").strip() for k, v in row.items() if k} for row in reader
      ]
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise errors.InputError(
      f"{option}={path}: cannot be read ({error}); give a CSV file"
    ) from None
  missing = [name for name in needed if name not in columns]
  if missing:
    raise errors.InputError(
      f"{option}={path}: has no column {', '.join(missing)}; it needs "
      f"{', '.join(needed)}"
    )
  return rows


def _location(text: str) -> tuple[str, str] | None:
  if not text:
    return None
  parts = [part.strip() for part in text.split(",")]
  if len(parts) != 2:
    raise errors.InputError(
      f"camtrap_location={text}: must be LATITUDE,LONGITUDE in degrees, such "
      "as 51.5,4.25"
    )
  _degrees(f"camtrap_location={text}", *parts)
  return parts[0], parts[1]


def _degrees(what: str, latitude: str, longitude: str) -> None:
  for name, text, most in (
    ("latitude", latitude, 90),
    ("longitude", longitude, 180),
  ):
    try:
      value = float(text or "0")
    except ValueError:
      value = float("nan")
    if not abs(value) <= most:
      raise errors.InputError(
        f"{what}: {name} {text!r} must be degrees from -{most} to {most}"
      )


def zone(text: str) -> datetime.tzinfo | None:
  """A time zone: `UTC`, `+02:00` or a name such as `Europe/Berlin`.

  Raises:
    InputError: it is none.
  """
  if not text:
    return None
  if text[0] in "+-":
    try:
      sign = text if ":" in text else f"{text[:3]}:{text[3:] or '00'}"
      return datetime.datetime.strptime(sign, "%z").tzinfo
    except ValueError:
      pass
  try:
    return zoneinfo.ZoneInfo(text)
  except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
    raise errors.InputError(
      f"camtrap_timezone={text}: no such zone; write one as +02:00, UTC or "
      "Europe/Berlin"
    ) from None


def moment(value: str) -> datetime.datetime:
  """A time in ISO 8601, perhaps with a space for its T.

  Raises:
    InputError: it is none.
  """
  try:
    return datetime.datetime.fromisoformat(value.strip())
  except ValueError:
    raise errors.InputError(
      f"time {value!r}: must be as 2026-05-31T14:03:07, with a zone or without"
    ) from None


def text(time: datetime.datetime) -> str:
  """`2026-05-31T14:03:07+02:00`, as the standard's tables say."""
  if time.tzinfo is None:
    time = time.replace(tzinfo=datetime.UTC)
  offset = time.strftime("%z")
  tail = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:5]}"
  return time.strftime("%Y-%m-%dT%H:%M:%S") + tail


def taken(path: str) -> datetime.datetime | None:
  """When a photograph was taken, by its EXIF data.

  Args:
    path: of the file.

  Returns:
    The time, with its zone where the camera tells it; None where there is no
    DateTimeOriginal, or the file cannot be read.
  """
  if not images.is_named_image(path):
    return None
  try:
    # Teaches Pillow to read HEIC, whether or not this run has decoded any.
    images.frame(path)
    with Image.open(pathlib.Path(path)) as image:
      inner = image.getexif().get_ifd(_EXIF_FOLDER)
    match = _TIME.match(str(inner.get(_TAKEN, "")).strip())
    if match is None:
      return None
    time = datetime.datetime.strptime(
      " ".join(match.groups()), "%Y %m %d %H %M %S"
    )
  # Whatever cameras and editors wrote: Pillow parses it as it finds it.
  except (*images.BAD_FILE, AttributeError, LookupError, TypeError):
    return None
  try:
    offset = str(inner.get(_OFFSET, "")).strip("\0 ")
    return time.replace(tzinfo=datetime.datetime.strptime(offset, "%z").tzinfo)
  except ValueError:
    return time
