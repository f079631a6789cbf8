"""Reading a checkpoint back in as little time as can be, to predict.

Steps and facts come from the checkpoint's own JSON, arrays from the file
beside it (`exported`) or from the checkpoint's store (`arrays`); Orbax is
asked only where both fail. What is read is the same to the last bit.
"""

import concurrent.futures
import contextlib
import dataclasses
import pathlib
from typing import Any

from mtlmoe_jax.checkpoints import arrays, digests, exported, listing
from mtlmoe_jax.checkpoints.restored import (
  FOLDER,
  Restored,
  choose_step,
  folders,
  none_in,
  of_meta,
)
from mtlmoe_jax.utils import background, garbage, trees


def restore_for_prediction(
  workdir: str | pathlib.Path, step: str | int = "best"
) -> Restored:
  """As `restore.restore_for_eval` on the first device, and with a digest.

  What was read from the checkpoint is written to WORKDIR/exported/STEP, for
  the next time, unless that folder cannot be written.

  Args:
    workdir: the folder of a run (or its `checkpoints` folder).
    step: "best" (on validation; the latest where none was scored), "latest",
      or a step number.

  Raises:
    InputError: no such workdir, no checkpoint, no such step, or a
      calibration.json that is none.
  """
  run, folder = folders(pathlib.Path(workdir))
  try:
    metas = listing.metas(folder)
  except (OSError, ValueError):
    return _by_orbax(workdir, step)
  if not metas:
    raise none_in(folder, workdir)
  chosen = choose_step(step, {s: m.get("score") for s, m in metas.items()})
  with garbage.paused(), concurrent.futures.ThreadPoolExecutor(1) as pool:
    reading = pool.submit(_read, run, folder / str(chosen), chosen)
    # Files are read and digests computed while Python is busy importing.
    import jax

    device = jax.devices()[0]
    try:
      variables, digest = reading.result()
    except (OSError, ValueError, arrays.UnknownLayoutError):
      return _by_orbax(workdir, chosen)
  placed = jax.device_put(variables, device)
  return of_meta(run, chosen, metas[chosen], placed, digest)


def _read(
  run: pathlib.Path, checkpoint: pathlib.Path, step: int
) -> tuple[dict[str, Any], str]:
  """The variables of a checkpoint, and their digest."""
  identity = digests.identity(checkpoint / arrays.MODEL)
  beside = exported.folder_of(run, step)
  known = exported.read(beside, identity)
  if known is not None:
    return known
  variables = arrays.read_variables(checkpoint)
  digest = digests.digest(trees.flatten(variables))
  background.start(_write, run, step, variables, identity, digest)
  return variables, digest


def keep(restored: Restored) -> None:
  """Writes what `restore_for_prediction` reads in place of the checkpoint.

  Args:
    restored: a checkpoint that this process has all of.
  """
  folder = restored.workdir / FOLDER / str(restored.step) / arrays.MODEL
  digest = digests.digest(trees.flatten(restored.variables))
  _write(
    restored.workdir,
    restored.step,
    restored.variables,
    digests.identity(folder),
    digest,
  )


def _write(
  run: pathlib.Path,
  step: int,
  variables: dict[str, Any],
  identity: str,
  digest: str,
) -> None:
  """Writes the files of a step, and removes those of steps that are gone."""
  exported.write(exported.folder_of(run, step), variables, identity, digest)
  with contextlib.suppress(OSError):
    exported.forget(run, [p.name for p in (run / FOLDER).iterdir()])


def _by_orbax(workdir: str | pathlib.Path, step: str | int) -> Restored:
  from mtlmoe_jax.checkpoints import restore

  restored = restore.restore_for_eval(workdir, step)
  digest = digests.digest(trees.flatten(restored.variables))
  return dataclasses.replace(restored, digest=digest)
