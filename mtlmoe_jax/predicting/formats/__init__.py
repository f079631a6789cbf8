"""Formats of predictions: one module each, all written from the same rows."""

import difflib
import importlib
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from mtlmoe_jax import errors
from mtlmoe_jax.predicting.formats.about import About, Row, Rows

__all__ = [
  "DEFAULT",
  "NAMES",
  "OPTIONS",
  "About",
  "Row",
  "Rows",
  "check",
  "foresee",
  "write",
]

# Module and function of each.
_WRITERS = {
  "json": ("json_file", "write"),
  "jsonl": ("json_file", "write_lines"),
  "csv": ("csv_file", "write"),
  "parquet": ("parquet", "write"),
  "megadetector": ("megadetector", "write"),
  "camtrap_dp": ("camtrap_dp", "write"),
  "coco": ("coco", "write"),
  "label_studio": ("label_studio", "write"),
}
NAMES = tuple(_WRITERS)
DEFAULT = ("json", "jsonl", "csv")
OPTIONS: Mapping[str, str] = MappingProxyType(
  {
    "megadetector_category": "detection category of a run without --boxes",
    "coco_images": "COCO file whose image and category ids results have",
    "label_studio_prefix": "what the address of an image begins with",
    "camtrap_deployment": "deploymentID of all images; else their first folder",
    "camtrap_deployments": "CSV: deploymentID, latitude, longitude, ...",
    "camtrap_location": "LATITUDE,LONGITUDE of deployments not in that table",
    "camtrap_timezone": "of photographs that tell none: +02:00, Europe/Berlin",
    "camtrap_times": "CSV: file, timestamp of what tells no time",
    "camtrap_names": "CSV: class, scientificName[, observationType]",
    "camtrap_package": "datapackage.json with title, contributors, project ...",
  }
)


def check(
  names: str, options: Mapping[str, str] | None = None
) -> tuple[str, ...]:
  """The formats of a list with commas.

  Args:
    names: such as "csv,megadetector"; "" for the default.
    options: of the formats, by name.

  Returns:
    Each once, in the order given.

  Raises:
    InputError: an unknown format or option, or a format whose extra is not
      installed.
  """
  chosen = [name.strip() for name in names.split(",") if name.strip()]
  for name in chosen:
    if name not in NAMES:
      raise _unknown("out_format", name, NAMES)
  for name in options or ():
    if name not in OPTIONS:
      raise _unknown("option of out_format", name, tuple(OPTIONS))
  if "parquet" in chosen:
    from mtlmoe_jax.predicting.formats import parquet

    parquet.require()
  return tuple(dict.fromkeys(chosen)) or DEFAULT


def _unknown(what: str, name: str, known: tuple[str, ...]) -> errors.InputError:
  wanted = name.lower().replace("-", "_").replace(" ", "_")
  near = difflib.get_close_matches(wanted, known, 1, 0.5)
  mend = f"did you mean {near[0]}? " if near else ""
  return errors.InputError(
    f"{what} {name!r}: {mend}there are {', '.join(known)}"
  )


def foresee(names: Iterable[str], ids: Sequence[str], about: About) -> None:
  """Finds before a run what its formats would fail on after it.

  Args:
    names: of formats.
    ids: of all images of the run.
    about: the run.

  Raises:
    InputError: see the modules of the formats.
  """
  chosen = set(names)
  if "coco" in chosen:
    from mtlmoe_jax.predicting.formats import coco

    coco.foresee(ids, about)
  if "camtrap_dp" in chosen:
    from mtlmoe_jax.predicting.formats import camtrap_dp

    camtrap_dp.foresee(ids, about)


def write(
  name: str, rows: Rows, about: About, folder: str | pathlib.Path
) -> list[str]:
  """Writes one format.

  Args:
    name: of the format, as `check` returns it.
    rows: gives all rows afresh at each call; rows of one id in a row.
    about: the run.
    folder: exists; files are written in it under their own names, from the
      start: move them when all are there.

  Returns:
    Paths of the files written, from `folder`, with forward slashes.

  Raises:
    InputError: see the modules of the formats.
  """
  module, function = _WRITERS[name]
  found = importlib.import_module(f"{__name__}.{module}")
  return getattr(found, function)(rows, about, pathlib.Path(folder))
