"""Several trained models that answer together.

The mean of separately trained models' answers is mostly better than the answer
of each (Lakshminarayanan et al. 2017, "Deep Ensembles"), at the cost of
all of them: the control that a mixture of experts has to stand beside.

Letters: M models, n images of the split, L classes.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.evaluation import evaluate, results, test_time
from mtlmoe_jax.metrics.predictions import Evaluation, Predictions

# Metrics of each model that are kept beside those of all together.
METRICS = ("top1", "top5", "miou", "acc_iou_50", "top1_loc", "loss_class")


# A checkpoint with the config of its evaluation, images -> their batches.
Batches = Callable[[Restored, data_lib.Source], Sequence[data_lib.Batch] | None]


class Member(NamedTuple):
  """One model's part.

  Attributes:
    workdir: folder of its run.
    step: of its checkpoint.
    class_names: L names.
    config: as it was evaluated.
    evaluation: of it alone.
  """

  workdir: str
  step: int
  class_names: tuple[str, ...]
  config: ml_collections.ConfigDict
  evaluation: Evaluation


def combine(members: Sequence[Predictions]) -> Predictions:
  """The joint predictions of M models.

  Args:
    members: of the same images in the same order.

  Returns:
    Their predictions: `logits` are the logarithm of the mean of probabilities,
    each model's at its own temperature; `boxes` the mean of corners. There is
    no routing: each model has its own experts.

  Raises:
    InputError: other images, labels or classes, or a task that only some have.
  """
  first = members[0]
  for other in members[1:]:
    _check(first, other)
  # All have a task or none has it.
  scaled = [
    m.logits / (m.temperature or 1.0) for m in members if m.logits is not None
  ]
  logits = test_time.mean_logits(np.stack(scaled)) if scaled else None
  corners = [m.boxes for m in members if m.boxes is not None]
  boxes = np.mean(corners, axis=0) if corners else None
  return Predictions(
    ids=first.ids,
    labels=first.labels,
    has_label=first.has_label,
    logits=logits,
    boxes=boxes,
    true_boxes=first.true_boxes,
    has_box=first.has_box,
    routing={},
  )


def _check(one: Predictions, other: Predictions) -> None:
  """Refuses models that did not answer the same questions."""
  same = one.ids == other.ids and np.array_equal(one.labels, other.labels)
  if not same:
    raise errors.InputError(
      f"the runs differ in their images or labels ({len(one)} and "
      f"{len(other)} images): they must be of one data set and split"
    )
  for task, name in (("class", "logits"), ("box", "boxes")):
    a, b = getattr(one, name), getattr(other, name)
    if (a is None) != (b is None):
      raise errors.InputError(
        f"only some of the runs have the task {task!r} in config.model.tasks: "
        "take runs of the same tasks"
      )
    if a is not None and a.shape != b.shape:
      raise errors.InputError(
        f"the runs know {a.shape[1]} and {b.shape[1]} classes: take runs of "
        "the same config.data.classes"
      )


def evaluate_together(
  runs: Iterable[Restored],
  folder: str | pathlib.Path,
  split: str = "test",
  *,
  data_path: str = "",
  batch_size: int = 0,
  views: str = "",
  progress: bool = True,
  batches_of: Batches | None = None,
) -> tuple[list[Member], Evaluation]:
  """Evaluates runs one after the other, and all together.

  Nothing is written into the runs' own folders.

  Args:
    runs: a checkpoint of each (`checkpoints.restore_for_eval`); a generator
      keeps one model in memory at a time.
    folder: for metrics.json (each run's metrics in `meta`), predictions.csv
      and report.html.
    split: one of `evaluate.SPLITS`.
    data_path: where the data set is now; "" as when a run was trained.
    batch_size: images at a time; 0 for each run's `config.eval.batch_size`.
    views: of each image; "" for each run's `config.eval.views`.
    progress: whether to show how far it is.
    batches_of: the batches of a split for a run, if they may be at hand; what
      it gives None for is read.

  Returns:
    (each run's evaluation, that of all).

  Raises:
    InputError: fewer than two runs, what `evaluate.open_split` refuses, or
      runs that do not go together (`combine`).
  """
  members: list[Member] = []
  meta: dict[str, Any] = {}
  source = None
  for restored in runs:
    _check_run(restored, members)
    config, data = evaluate.open_split(
      restored,
      split,
      data_path=data_path,
      batch_size=batch_size,
      views=views,
    )
    if not members:
      source = getattr(data, split)
      meta = {
        "versions": restored.meta.get("versions"),
        "dataset_fingerprint": data.fingerprint,
      }
    run = dataclasses.replace(restored, config=config)
    evaluation = evaluate.evaluate_split(
      run,
      data,
      split,
      progress=progress,
      batches=batches_of(run, getattr(data, split)) if batches_of else None,
    )
    members.append(
      Member(
        workdir=str(restored.workdir),
        step=restored.step,
        class_names=restored.class_names,
        config=config,
        evaluation=evaluation,
      )
    )
    # Before the next one is evaluated: a mistake should not cost its time.
    _check(members[0].evaluation.predictions, evaluation.predictions)
  check_count(len(members))
  predictions = combine([m.evaluation.predictions for m in members])
  together = Evaluation(
    metrics=evaluate.compute_metrics(predictions),
    predictions=predictions,
    seconds=sum(m.evaluation.seconds for m in members),
  )
  results.save(
    together,
    folder,
    {
      **meta,
      "split": split,
      "views": ", ".join(sorted({m.config.eval.views for m in members})),
      "models": ", ".join(m.workdir for m in members),
      "members": [
        {"workdir": m.workdir, "step": m.step, **_metrics(m)} for m in members
      ],
      "config": {m.workdir: m.config.to_dict() for m in members},
    },
    class_names=members[0].class_names,
    source=source,
  )
  return members, together


def check_count(count: int) -> None:
  """Refuses an ensemble of fewer than two runs.

  Raises:
    InputError: it is one.
  """
  if count < 2:
    raise errors.InputError(
      f"an ensemble of {count} run{'s' * (count != 1)}: name two or more; "
      "mtlmoe evaluate evaluates one"
    )


def _check_run(restored: Restored, members: Sequence[Member]) -> None:
  """Refuses what can be refused before a run is evaluated."""
  workdir = str(restored.workdir)
  if workdir in [m.workdir for m in members]:
    raise errors.InputError(f"{workdir} is named twice: name each run once")
  if members and restored.class_names != members[0].class_names:
    raise errors.InputError(
      f"{workdir} has other classes than {members[0].workdir}: take runs of "
      "the same config.data.classes"
    )


def _metrics(member: Member) -> dict[str, float]:
  values = member.evaluation.metrics
  return {name: values[name] for name in METRICS if name in values}


def table(members: Sequence[Member], together: Evaluation) -> str:
  """The metrics of each run, their mean, and those of all together.

  Args:
    members: M runs.
    together: all of them.

  Returns:
    Lines of text.
  """
  names = [n for n in METRICS if n in together.metrics]
  rows = [[_metrics(m)[n] for n in names] for m in members]
  lines = [
    *((m.workdir, row) for m, row in zip(members, rows)),
    ("mean of the runs", np.mean(rows, axis=0)),
    ("all together", [together.metrics[n] for n in names]),
  ]
  width = max(len(label) for label, _ in lines)
  head = " " * width + "".join(f"{name:>12}" for name in names)
  body = [
    f"{label:<{width}}" + "".join(f"{value:12.4f}" for value in row)
    for label, row in lines
  ]
  return "\n".join([head, *body])
