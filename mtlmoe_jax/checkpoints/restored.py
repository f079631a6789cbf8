"""What a checkpoint gives back, and which checkpoint of a run is meant.

Nothing here needs JAX or Orbax.
"""

import dataclasses
import pathlib
from typing import Any

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import calibration as calibration_lib

FOLDER = "checkpoints"


@dataclasses.dataclass(frozen=True)
class Restored:
  """A model read back.

  Attributes:
    variables: {"params", "batch_stats"}, averaged parameters where kept.
    config: the config of its run.
    class_names: L names.
    step: the checkpoint's step.
    meta: everything else that was saved with it.
    workdir: the folder of its run.
    calibration: the temperature kept there, and what it belongs to.
    digest: of the variables, see `digests.digest`; "" where none was computed.
  """

  variables: dict[str, Any]
  config: ml_collections.ConfigDict
  class_names: tuple[str, ...]
  step: int
  meta: dict[str, Any]
  workdir: pathlib.Path
  calibration: calibration_lib.Calibration | None = None
  digest: str = ""

  @property
  def temperature(self) -> float | None:
    """Of this checkpoint in the views of its config; None without one."""
    kept = self.calibration
    if kept is None or not kept.fits(self.config, self.step):
      return None
    return kept.temperature


def of_meta(
  run: pathlib.Path,
  step: int,
  meta: dict[str, Any],
  variables: dict[str, Any],
  digest: str = "",
) -> Restored:
  """A model read back, from its variables and the item `meta`.

  Args:
    run: the folder of the run.
    step: the checkpoint's step.
    meta: what was saved beside the arrays.
    variables: {"params", "batch_stats"}.
    digest: of the variables.

  Raises:
    InputError: a calibration.json that is none.
  """
  return Restored(
    variables=variables,
    config=config_lib.from_saved(meta["config"]),
    class_names=tuple(meta["class_names"]),
    step=step,
    meta=meta,
    workdir=run,
    calibration=calibration_lib.read(run),
    digest=digest,
  )


def none_in(folder: pathlib.Path, workdir: str | pathlib.Path) -> Exception:
  """The error of a run without a checkpoint."""
  return errors.InputError(
    f"no checkpoint in {folder}: train first, with mtlmoe train "
    f"--workdir={workdir}"
  )


def choose_step(step: str | int, scores: dict[int, float | None]) -> int:
  """The step meant by "best", "latest" or a number.

  Args:
    step: what the user wrote.
    scores: {step: validation score or None} of the checkpoints there are.

  Raises:
    InputError: not one of them.
  """
  if step == "latest":
    return max(scores)
  if step == "best":

    def rank(candidate: int) -> tuple[float, int]:
      # The later one among equals, as the preservation policy keeps.
      score = scores[candidate]
      return -1.0 if score is None else score, candidate

    return max(scores, key=rank)
  if not str(step).isdigit() or int(step) not in scores:
    raise errors.InputError(
      f"no checkpoint at step {step!r}: there are best, latest, "
      f"{', '.join(map(str, sorted(scores)))}"
    )
  return int(step)


def folders(workdir: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """The run's folder, and that of its checkpoints, absolute.

  Raises:
    InputError: it is neither a run nor the `checkpoints` folder of one.
  """
  if not workdir.is_dir():
    raise errors.InputError(f"no such workdir: {workdir}")
  if (workdir / FOLDER).is_dir():
    return workdir, (workdir / FOLDER).absolute()
  if workdir.absolute().name == FOLDER:
    return workdir.absolute().parent, workdir.absolute()
  raise errors.InputError(
    f"{workdir} holds no checkpoints/ folder: is it the --workdir of a run?"
  )
