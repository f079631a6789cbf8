"""A model's variables beside its checkpoint, in a file that is read quickly.

WORKDIR/exported/STEP/ holds weights.safetensors and about.json, which tells
the digest of the weights and the checkpoint that they are of. They may be
deleted at any time. Of anything that is not as it was written nothing is used.
"""

import json
import pathlib
import shutil
from collections.abc import Collection
from typing import Any

import numpy as np

from mtlmoe_jax.checkpoints import digests
from mtlmoe_jax.utils import files, trees
from mtlmoe_jax.version import __version__

FOLDER = "exported"
WEIGHTS = "weights.safetensors"
ABOUT = "about.json"
# Of the two files; a reader of another one does not use them.
FORMAT = 1
# What NumPy and .safetensors both know.
_DTYPES = ("float16", "float32", "float64", "int8", "int32", "uint8", "bool")


def folder_of(run: pathlib.Path, step: int) -> pathlib.Path:
  """Where the files of a step are."""
  return run / FOLDER / str(step)


def read(
  folder: pathlib.Path, checkpoint: str
) -> tuple[dict[str, Any], str] | None:
  """The variables of a checkpoint, if they are there and whole.

  Args:
    folder: of the step, see `folder_of`.
    checkpoint: its identity, see `digests.identity`.

  Returns:
    ({"params", "batch_stats"}, nested dicts of arrays, their digest), or None.
  """
  import safetensors
  import safetensors.numpy

  try:
    about = json.loads((folder / ABOUT).read_text("utf-8"))
    if about["format"] != FORMAT or about["checkpoint"] != checkpoint:
      return None
    arrays = safetensors.numpy.load((folder / WEIGHTS).read_bytes())
    if digests.digest(arrays) != about["digest"]:
      return None
    variables: dict[str, Any] = {k: {} for k in about["collections"]}
    variables |= trees.unflatten(arrays)
  except (
    OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError
  ):  # fmt: skip
    return None
  if set(variables) != {"params", "batch_stats"}:
    return None
  return variables, about["digest"]


def write(
  folder: pathlib.Path, variables: dict[str, Any], checkpoint: str, digest: str
) -> None:
  """Writes both files, so that `read` finds them; about.json is the last.

  Does nothing where they cannot be written: nobody needs them.

  Args:
    folder: of the step, made where missing.
    variables: {"params", "batch_stats"}, nested dicts of arrays.
    checkpoint: its identity, see `digests.identity`.
    digest: of the variables, see `digests.digest`.
  """
  import safetensors.numpy

  if not folder.parents[1].is_dir():  # The run was removed meanwhile.
    return
  arrays = {
    # The library writes memory as it lies: rows must follow each other.
    name: np.asarray(value, order="C")
    for name, value in trees.flatten(variables).items()
  }
  if any(array.dtype.name not in _DTYPES for array in arrays.values()):
    return
  about = {
    "format": FORMAT,
    "digest": digest,
    "checkpoint": checkpoint,
    "collections": sorted(variables),
    "version": __version__,
  }
  try:
    data = safetensors.numpy.save(arrays, {"format": "mtlmoe_jax"})
    # The digest tells what a power cut leaves.
    files.write_bytes(folder / WEIGHTS, data, durable=False)
    files.write_json(folder / ABOUT, about)
  except OSError:
    return


def forget(run: pathlib.Path, steps: Collection[str]) -> None:
  """Removes what was written of checkpoints that are gone.

  Args:
    run: the folder of the run.
    steps: names of the checkpoints that there are.
  """
  for folder in run.glob(f"{FOLDER}/*"):
    if folder.name.isdecimal() and folder.name not in steps:
      shutil.rmtree(folder, ignore_errors=True)
