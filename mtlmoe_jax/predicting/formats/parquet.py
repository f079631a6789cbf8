"""predictions.parquet: typed columns, named as those of predictions.csv."""

import itertools
import pathlib
from typing import Any

from mtlmoe_jax import errors
from mtlmoe_jax.predicting.formats.about import About, Row, Rows
from mtlmoe_jax.predicting.formats.naming import clean
from mtlmoe_jax.predicting.formats.values import finite

NAME = "predictions.parquet"
# Of a group; as Python's objects they take some 40 MB.
ROWS = 4096
_SIDES = ("x1", "y1", "x2", "y2")
_BOXES = (
  ("box", "box", "normalised"),
  ("pixel", "box", "pixels"),
  ("detection", "detection", "normalised"),
)


def require() -> None:
  """Raises an error where pyarrow is missing.

  Raises:
    InputError: the extra `parquet` is not installed.
  """
  try:
    import pyarrow.parquet  # noqa: F401
  except ImportError:
    raise errors.InputError(
      "out_format parquet needs pyarrow: pip install 'mtlmoe_jax[parquet]'"
    ) from None


def write(rows: Rows, about: About, folder: pathlib.Path) -> list[str]:
  """Writes predictions.parquet.

  Columns are flat, as in predictions.csv and with its names, but top5 is a
  list of (class, probability) and experts_<task> a list of (expert, weight);
  class_index is there, too. What is not there is null.

  Args:
    rows: read once, in groups.
    about: tells the columns; its model and time are in the file's metadata.
    folder: of the file.

  Returns:
    Names of the files written.
  """
  require()
  import pyarrow
  from pyarrow import parquet

  schema = _schema(about)
  iterator = rows()
  with parquet.ParquetWriter(
    folder / NAME, schema, compression="zstd"
  ) as writer:
    while group := list(itertools.islice(iterator, ROWS)):
      flat = [_flat(row, about) for row in group]
      writer.write_batch(pyarrow.RecordBatch.from_pylist(flat, schema=schema))
  return [NAME]


def _schema(about: About) -> Any:
  import pyarrow as pa

  real, text, whole = pa.float64(), pa.string(), pa.int32()
  top = pa.struct([("class", text), ("probability", real)])
  expert = pa.struct([("expert", whole), ("weight", real)])
  fields = [
    pa.field("id", text, nullable=False),
    *(("width", whole), ("height", whole), ("class", text)),
    *(("class_index", whole), ("probability", real), ("top5", pa.list_(top))),
    *((f"{n}_{s}", real) for n in ("box", "pixel") for s in _SIDES),
  ]
  if about.has_detections:
    fields += [(f"detection_{side}", real) for side in _SIDES]
    fields += [("detection_confidence", real), ("detection_category", text)]
  fields += [(f"experts_{task}", pa.list_(expert)) for task in about.tasks]
  if about.has_frames:
    fields += [("frame", pa.int64()), ("seconds", real)]
  fields += [(name, text) for name in (*about.pictures, "error", "passport")]
  metadata = {"model": clean(about.model), "time": about.time}
  return pa.schema(fields, metadata=metadata)


def _flat(row: Row, about: About) -> dict[str, Any]:
  flat = {
    name: clean(value) if isinstance(value, str) else value
    for name, value in row.items()
    if not isinstance(value, dict | list)
  }
  flat["probability"] = finite(row.get("probability"))
  flat["seconds"] = finite(row.get("seconds"))
  if row.get("top5") is not None:
    flat["top5"] = [
      {"class": clean(t["class"]), "probability": finite(t["probability"])}
      for t in row["top5"]
    ]
  for name, key, unit in _BOXES:
    corners = (row.get(key) or {}).get(unit) or [None] * 4
    flat |= {f"{name}_{s}": finite(v) for s, v in zip(_SIDES, corners)}
  found = row.get("detection") or {}
  flat["detection_confidence"] = finite(found.get("confidence"))
  category = found.get("category")
  flat["detection_category"] = None if category is None else clean(category)
  for task in about.tasks:
    experts = row["experts"].get(task)
    flat[f"experts_{task}"] = experts and [
      {"expert": e["expert"], "weight": finite(e["weight"])} for e in experts
    ]
  return flat
