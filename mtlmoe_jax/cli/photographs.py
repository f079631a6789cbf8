"""A folder of photographs named alone: which words, which workdir."""

import json
import os
import pathlib
import re
import shlex
from collections.abc import Sequence

import ml_collections

from mtlmoe_jax import errors

CONFIG = "my_data"
_RUNS = pathlib.Path("runs")


def expanded(words: Sequence[str]) -> list[str]:
  """The words of `train`, with `--config=my_data` where PHOTOS stands alone.

  `--config` comes first, for others change what it names, and `--data.KEY` is
  `--config.data.KEY`.

  Args:
    words: flags and others. A word behind a flag without = is its value.
  """
  words = [re.sub(r"^--?data\.", "--config.data.", word) for word in words]
  words = sorted(words, key=lambda word: not re.match(r"--?config=", word))
  before = ("", *words)
  alone = any(
    not word.startswith("-") and not (last.startswith("-") and "=" not in last)
    for last, word in zip(before, words)
  )
  has_config = any(re.match(r"--?config(=|$)", word) for word in words)
  return [*([f"--config={CONFIG}"] if alone and not has_config else []), *words]


def put(config: ml_collections.ConfigDict, photos: str) -> None:
  """Names the folder in a config.

  Raises:
    InputError: a config that needs none, or has one.
  """
  if config.data.name == "synthetic":
    raise errors.InputError(
      f"{photos!r}: the config draws its images (config.data.name='synthetic') "
      f"and reads none; leave one of them out, or use --config={CONFIG}"
    )
  if config.data.path not in ("", photos):
    raise errors.InputError(
      f"{photos!r} and config.data.path={config.data.path!r}: name one folder"
    )
  config.data.path = photos


def workdir(photos: str) -> str:
  """Where a run goes that was given no workdir: `runs/` and the folder's name.

  Raises:
    InputError: a run of another folder of that name is there. It is not
      numbered: nobody could tell then which run goes on.
  """
  own = os.path.realpath(os.path.expanduser(photos))
  name = re.sub(r"[^\w.-]+", "_", os.path.basename(own)).strip("._-")
  folder = _RUNS / (name or "photographs")
  try:
    saved = json.loads((folder / "config.json").read_text("utf-8"))
    path = saved["data"]["path"]
  except (OSError, ValueError, KeyError, TypeError):
    return str(folder)
  if os.path.realpath(os.path.expanduser(path)) != own:
    raise errors.InputError(
      f"{folder} holds a run of {path!r}, not of {photos!r}: name a folder for "
      f"this one, such as --workdir={folder}-2"
    )
  return str(folder)


def following(workdir: str) -> str:
  """What to do with a trained model."""
  folder = shlex.quote(workdir)
  report = pathlib.Path(workdir) / "eval" / "test" / "report.html"
  lines = [f"report: {report}"] if report.exists() else []
  lines.append(f"next: mtlmoe evaluate {folder}")
  lines.append(f"      mtlmoe predict {folder} PHOTO.jpg FOLDER")
  return "\n".join(lines)
