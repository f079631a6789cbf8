"""Findings as JSON, or packed by xz: pages are made again from it alone."""

import dataclasses
import json
import lzma
import math
import pathlib
import typing
from typing import Any

import numpy as np

from mtlmoe_jax import errors
from mtlmoe_jax.reports.suite.findings import Findings
from mtlmoe_jax.utils import files

# Significant digits of a stored number: more than any page shows.
DIGITS = 7


# Ending of a packed file, a quarter of the size.
PACKED = ".xz"


def write(findings: Findings, path: pathlib.Path) -> None:
  """Writes all but the gates' weights of each image: large, on no page.

  Args:
    findings: what to write.
    path: .json, or .json.xz for a packed file.
  """
  experts = {
    name: [{k: v for k, v in s.items() if k != "weights"} for s in studies]
    for name, studies in findings.experts.items()
  }
  value = dataclasses.asdict(dataclasses.replace(findings, experts=experts))
  value = _rounded(files.plain(value))
  text = json.dumps(value, separators=(",", ":"), allow_nan=False)
  data = f"{text}\n".encode()
  if path.suffix == PACKED:
    data = lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
  files.write_bytes(path, data)


def _rounded(value: Any) -> Any:
  """The same with `DIGITS` digits of each number that is not whole."""
  if isinstance(value, float):
    return value if value.is_integer() else float(f"{value:.{DIGITS}g}")
  if isinstance(value, dict):
    return {key: _rounded(v) for key, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_rounded(v) for v in value]
  return value


def read(path: str | pathlib.Path) -> Findings:
  """The findings that `write` wrote.

  What was NaN or infinite is NaN; the studies' `weights` are not there.

  Raises:
    InputError: no such file, or not such findings.
  """
  try:
    data = pathlib.Path(path).read_bytes()
    if pathlib.Path(path).suffix == PACKED:
      data = lzma.decompress(data)
    value = json.loads(data)
    return _build(Findings, value)
  except (
    *(OSError, ValueError, TypeError, KeyError, AttributeError),
    lzma.LZMAError,
  ) as error:
    raise errors.InputError(
      f"{path}: no numbers of a suite ({error}); give a .json or .json.xz "
      "file that reproduce.py wrote"
    ) from None


def _build(kind: Any, value: Any) -> Any:
  """A value of a type, of what JSON has in its place."""
  if isinstance(kind, type) and dataclasses.is_dataclass(kind):
    types = typing.get_type_hints(kind)
    return kind(**{key: _build(types[key], v) for key, v in value.items()})
  if kind is np.ndarray:
    return np.asarray(value, float)
  if isinstance(value, dict):
    inner = (typing.get_args(kind) or (Any, Any))[1]
    return {key: _build(inner, v) for key, v in value.items()}
  if isinstance(value, list):
    kinds = typing.get_args(kind) or (Any,)
    if kinds[-1] is Ellipsis or len(kinds) < len(value):
      kinds = kinds[:1] * len(value)
    items = [_build(inner, v) for inner, v in zip(kinds, value)]
    return tuple(items) if typing.get_origin(kind) is tuple else items
  return math.nan if value is None else value
