"""The arrays of a checkpoint, read without Orbax.

Orbax lays the leaves of a tree into one store of TensorStore (OCDBT) as Zarr
arrays, and says in `_METADATA` what they are. Its own reading takes most of a
second for a model of 360 arrays, of which these are a tenth.
"""

import json
import pathlib
from typing import Any

import numpy as np

from mtlmoe_jax.utils import trees

MODEL = "model"


class UnknownLayoutError(Exception):
  """A store that this module does not know; Orbax may."""


def read_variables(folder: pathlib.Path) -> dict[str, Any]:
  """The variables of a checkpoint, averaged parameters where kept.

  Args:
    folder: of the step; its item `model` is read.

  Returns:
    {"params", "batch_stats"}, nested dicts of arrays.

  Raises:
    UnknownLayoutError: Orbax wrote them in another way.
    OSError, ValueError: files that are missing or damaged.
  """
  leaves = _leaves(folder / MODEL)
  averaged = {path[1:] for path in leaves if path[0] == "ema"}
  wanted = {
    path: name
    for path, name in leaves.items()
    # Of a parameter that is averaged there are two.
    if path[0] != "params" or path[1:] not in averaged
  }
  values = _read(folder / MODEL, list(wanted.values()))
  flat: dict[str, dict[str, Any]] = {"params": {}, "batch_stats": {}}
  for path, value in zip(wanted, values):
    kind = "params" if path[0] == "ema" else path[0]
    flat[kind]["/".join(path[1:])] = value
  return {kind: trees.unflatten(part) for kind, part in flat.items()}


def _leaves(folder: pathlib.Path) -> dict[tuple[str, ...], str]:
  """Path of each array in the tree -> its name in the store."""
  told = json.loads((folder / "_METADATA").read_text("utf-8"))
  try:
    if not told["use_ocdbt"] or told["use_zarr3"]:
      raise UnknownLayoutError(folder)
    leaves = {}
    for leaf in told["tree_metadata"].values():
      path = tuple(str(part["key"]) for part in leaf["key_metadata"])
      kind = leaf["value_metadata"]["value_type"]
      if path[0] not in ("params", "batch_stats", "ema"):
        raise UnknownLayoutError(f"{folder}: {path}")
      if kind == "jax.Array":
        leaves[path] = ".".join(path)
      elif kind != "Dict":  # Which is an empty one.
        raise UnknownLayoutError(f"{folder}: {kind}")
  except (AttributeError, KeyError, TypeError, IndexError) as error:
    raise UnknownLayoutError(folder) from error
  return leaves


def _read(folder: pathlib.Path, names: list[str]) -> list[np.ndarray]:
  """Arrays of a store, all at once."""
  import tensorstore

  base = f"file://{folder.absolute()}/"
  context = tensorstore.Context({"file_io_concurrency": {"limit": 128}})
  opened = [
    tensorstore.open(
      {
        "driver": "zarr",
        "kvstore": {"driver": "ocdbt", "base": base, "path": f"{name}/"},
      },
      open=True,
      context=context,
    )
    for name in names
  ]
  reads = [store.result().read() for store in opened]
  return [np.asarray(read.result()) for read in reads]
