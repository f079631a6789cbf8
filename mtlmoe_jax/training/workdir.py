"""The folder of one run: made, checked, and told apart from other runs."""

import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax
import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import restore
from mtlmoe_jax.utils import files
from mtlmoe_jax.version import __version__

# A run may go on with other values of these: they change no result.
FREE = (
  "log.",
  "checkpoint.",
  "mesh.",
  "data.path",
  "data.images",
  "data.split_file",
  "data.extra.path",
  "data.threads",
  "data.cache_gib",
  "features.cache",
  "eval.",
  "transfer.source",
)


def prepare(
  path: str, config: ml_collections.ConfigDict, write: bool = True
) -> pathlib.Path:
  """Makes the workdir, or checks that it belongs to the same run.

  Args:
    path: of the folder.
    config: of the run.
    write: whether this process writes the config; one of several does.

  Raises:
    InputError: the folder cannot be made or written, or it holds a run with
      another config.
  """
  if "://" in str(path):
    raise errors.InputError(
      f"--workdir={path}: is no folder; mount the bucket (gcsfuse, s3fs) and "
      "name a folder in it"
    )
  folder = pathlib.Path(path)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
      raise PermissionError(13, "not writable")
    saved = folder / "config.json"
    # A start that failed before its first checkpoint is no run yet.
    if saved.exists() and has_checkpoint(folder):
      check_same(saved, config)
    elif write:
      files.write_json(saved, config_lib.to_saved(config))
  except OSError as error:
    raise errors.InputError(
      f"--workdir={path}: cannot write there ({error.strerror}); choose "
      "another folder"
    ) from None
  return folder


def has_checkpoint(folder: pathlib.Path) -> bool:
  """Whether a whole checkpoint is there; unfinished ones have longer names."""
  return any(p.name.isdigit() for p in folder.glob(f"{restore.FOLDER}/*"))


def check_same(saved: pathlib.Path, config: ml_collections.ConfigDict) -> None:
  """Refuses another config than that of a run, but for options of `FREE`.

  Args:
    saved: the run's config.json.
    config: what it should be.

  Raises:
    InputError: naming each option that differs, with both values.
  """
  there = config_lib.from_saved(json.loads(saved.read_text("utf-8")))
  old, new = (
    _flat(files.plain(config_lib.to_saved(c))) for c in (there, config)
  )
  differing = [
    f"{k} (there {old.get(k)!r}, now {new.get(k)!r})"
    for k in sorted(old.keys() | new.keys())
    if old.get(k) != new.get(k) and not k.startswith(FREE)
  ]
  if differing:
    raise errors.InputError(
      f"--workdir={saved.parent} holds a run with another config: "
      f"{'; '.join(differing)}. Use a new workdir, or the old values to go on"
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  out: dict[str, Any] = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      out.update(_flat(value, f"{prefix}{key}."))
    else:
      out[prefix + key] = value
  return out


def environment() -> dict[str, Any]:
  """Device, versions and commit: what a figure depends on beside the config."""
  names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain")
  device = jax.devices()[0]
  return {
    "device": f"{jax.device_count()} x {device.device_kind}",
    "backend": device.platform,
    "versions": {
      "mtlmoe_jax": __version__,
      "python": platform.python_version(),
      **{n: importlib.metadata.version(n) for n in names},
    },
    "commit": _commit(),
  }


def _commit() -> str:
  """The checkout's commit, "-dirty" when changed; "" outside a checkout."""
  root = pathlib.Path(__file__).resolve().parents[2]
  if not (root / ".git").exists():
    return ""
  try:
    out = subprocess.run(
      ["git", "describe", "--always", "--dirty", "--abbrev=40"],
      cwd=root,
      capture_output=True,
      text=True,
      timeout=10,
      check=True,
    )
  except (OSError, subprocess.SubprocessError):
    return ""
  return out.stdout.strip()
