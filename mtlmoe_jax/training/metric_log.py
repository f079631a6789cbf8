"""Metrics of a run: metrics.jsonl always, TensorBoard and W&B on request."""

import json
import pathlib
from typing import Any

import ml_collections

from mtlmoe_jax import errors
from mtlmoe_jax.utils import files

FILE = "metrics.jsonl"


class MetricLog:
  """Appends one JSON object a line; mirrors it to the optional services."""

  def __init__(
    self,
    workdir: pathlib.Path,
    config: ml_collections.ConfigDict,
    start_step: int,
  ):
    self._path = workdir / FILE
    _truncate(self._path, start_step)
    self._file = self._path.open("a", encoding="utf-8")
    self._board = _tensorboard(workdir) if config.log.tensorboard else None
    self._wandb = _wandb(workdir, config) if config.log.wandb else None

  def write(
    self,
    *,
    step: int,
    epoch: float,
    split: str,
    seconds: float,
    **values: Any,
  ) -> None:
    """One line: step, epoch, split, seconds since the start, and metrics."""
    values = files.plain(values)
    row = dict(
      step=step, epoch=round(epoch, 4), split=split, seconds=round(seconds, 3)
    )
    self._file.write(json.dumps({**row, **values}) + "\n")
    self._file.flush()
    numbers = {
      f"{split}/{k}": v for k, v in values.items() if isinstance(v, int | float)
    }
    if self._board is not None:
      for name, value in numbers.items():
        self._board.add_scalar(name, value, step)
    if self._wandb is not None:
      self._wandb.log(numbers, step=step)

  def close(self) -> None:
    """Flushes everything."""
    self._file.close()
    if self._board is not None:
      self._board.close()
    if self._wandb is not None:
      self._wandb.finish()


class NoLog:
  """Takes the place of `MetricLog` in processes that write nothing."""

  def write(self, **values: Any) -> None:
    """Nothing."""

  def close(self) -> None:
    """Nothing."""


def read(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
  """All rows of a workdir's metrics.jsonl; [] when there is none."""
  path = pathlib.Path(workdir) / FILE
  if not path.exists():
    return []
  rows = []
  for line in path.read_text("utf-8").splitlines():
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:
      continue  # the last line of a run that was killed while writing
  return rows


def _truncate(path: pathlib.Path, step: int) -> None:
  """Drops rows after `step`: a resumed run writes them again."""
  if path.exists():
    kept = [r for r in read(path.parent) if r["step"] <= step]
    files.write_text(path, "".join(json.dumps(r) + "\n" for r in kept))


def _tensorboard(workdir: pathlib.Path) -> Any:
  try:
    import tensorboardX
  except ImportError:
    raise errors.InputError(
      "config.log.tensorboard=True needs tensorboardX: pip install "
      "'mtlmoe_jax[tb]'"
    ) from None
  return tensorboardX.SummaryWriter(str(workdir / "tensorboard"))


def _wandb(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> Any:
  try:
    import wandb
  except ImportError:
    raise errors.InputError(
      "config.log.wandb=True needs wandb: pip install 'mtlmoe_jax[wandb]'"
    ) from None
  return wandb.init(
    project=config.log.wandb_project,
    dir=str(workdir),
    config=config.to_dict(),
    resume="allow",
    # The same workdir goes on as the same run.
    id=workdir.absolute().name,
  )
