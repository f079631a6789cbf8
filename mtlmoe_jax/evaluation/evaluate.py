"""Running a model over a whole split, and writing what came out.

Letters: B images of a batch, H W of the network's input, L classes, N experts,
K selected per image, n images of the split.

Metrics are computed once, over arrays of the whole split in float64, never as
means of batch means; so they do not depend on the batch size beyond the
float32 rounding of the forward pass.
"""

import copy
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.data import membership
from mtlmoe_jax.devices import processes
from mtlmoe_jax.evaluation import calibrate as calibrate_lib
from mtlmoe_jax.evaluation import results, test_time
from mtlmoe_jax.evaluation.programs import PredictStep, make_predict_step
from mtlmoe_jax.metrics import predictions as predictions_lib
from mtlmoe_jax.metrics import split as metrics
from mtlmoe_jax.utils import progress as progress_lib

SPLITS = ("train", "validation", "test")


def evaluate_source(
  step: PredictStep,
  variables: Any,
  source: data_lib.Source,
  config: ml_collections.ConfigDict,
  *,
  temperature: float | None = None,
  progress: bool = True,
  batches: Iterable[data_lib.Batch] | None = None,
) -> predictions_lib.Evaluation:
  """Evaluates every image of a source, once, in its order.

  Args:
    step: from `make_predict_step`.
    variables: {"params", "batch_stats"}.
    source: n records.
    config: the whole config; `config.eval.batch_size` images at a time, each
      in all of `config.eval.views`.
    temperature: of the probabilities; None without calibration.
    progress: whether to show how far it is.
    batches: of the source, as `data.eval_batches` gives them, if they are at
      hand.

  Returns:
    Metrics and predictions. A metric of the `class` gate is `class/<name>`.

  Raises:
    InputError: the source is empty.
  """
  if not len(source):
    raise errors.InputError(
      f"nothing to evaluate: the split of {source.name} has no images"
    )
  start = time.monotonic()
  parts: list[dict[str, Any]] = []
  bar = progress_lib.Progress(
    -(-len(source) // config.eval.batch_size),
    unit="batch",
    items_per_step=config.eval.batch_size,
    label="evaluate",
    enabled=progress,
  )
  if batches is None:
    batches = data_lib.eval_batches(source, config, config.eval.batch_size)
  with bar:
    waiting: tuple[test_time.Answers, data_lib.Batch] | None = None
    for batch in batches:
      answers = test_time.forward(step, variables, batch, config.eval)
      # The device works on this batch while the one before is copied back.
      if waiting is not None:
        parts.append(_fetch(*waiting))
      waiting = (answers, batch)
      bar.update()
    if waiting is not None:
      parts.append(_fetch(*waiting))
  predictions = _predictions(source, parts, temperature)
  return predictions_lib.Evaluation(
    metrics=compute_metrics(predictions),
    predictions=predictions,
    seconds=time.monotonic() - start,
  )


def gate_values(
  evaluation: predictions_lib.Evaluation,
  evaluated: Callable[..., predictions_lib.Evaluation],
  source: data_lib.Source,
  config: ml_collections.ConfigDict,
  batches: Iterable[data_lib.Batch] | None = None,
) -> dict[str, float]:
  """What each gate's choice of experts is worth, image by image.

  Every image is evaluated once more with the experts, and the weights, that the
  gates chose for another one, drawn from all: `class/gate_value`, the top1
  lost, and `box/gate_value`, the mean IoU lost. About 0: which experts an image
  goes to does not matter. That it is above 0 says that experts differ and need
  their gate, not that they are better than one.

  Args:
    evaluation: of the split.
    evaluated: `evaluate_source` of the split, with all but its batches.
    source: the split.
    config: the whole config.
    batches: of the split, if they are at hand.
  """
  p = evaluation.predictions
  order = np.random.default_rng(0).permutation(len(p))
  given = {
    task: (c.experts[order], c.weights[order]) for task, c in p.routing.items()
  }
  if batches is None:
    batches = data_lib.eval_batches(source, config, config.eval.batch_size)
  after = evaluated(batches=_with_choices(batches, given)).metrics
  values: dict[str, float] = {}
  for task, name in (("class", "top1"), ("box", "miou")):
    if task in p.routing and name in evaluation.metrics:
      lost = evaluation.metrics[name] - after[name]
      values[f"{task}/gate_value"] = lost
  return values


def _with_choices(
  batches: Iterable[data_lib.Batch],
  given: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Iterator[data_lib.Batch]:
  for batch in batches:
    # Padding, with index -1, may have any.
    rows = jax.tree.map(lambda x, i=batch["index"]: x[i], given)
    yield {**batch, "choices": rows}


def compute_metrics(predictions: predictions_lib.Predictions) -> dict[str, Any]:
  """All metrics of a split; those of a task's gate as `<task>/<name>`.

  Beside `metrics.split_metrics` and `metrics.routing_metrics`: `n_label`,
  `n_box`, `n_both` (images with a label, a box, both) and, with two gates,
  `gate_divergence` (mean Jensen-Shannon divergence of their `probs`, bits) and
  `experts_per_image` (distinct ones, of both gates together).
  """
  p = predictions
  values = metrics.split_metrics(
    logits=p.logits,
    labels=p.labels,
    has_label=p.has_label,
    boxes=p.boxes,
    true_boxes=p.true_boxes,
    has_box=p.has_box,
    temperature=p.temperature,
  )
  values |= {
    "n_label": int(p.has_label.sum()),
    "n_box": int(p.has_box.sum()),
    "n_both": int((p.has_label & p.has_box).sum()),
  }
  labels = np.where(p.has_label, p.labels, -1)
  for task, choices in p.routing.items():
    of_gate = metrics.routing_metrics(
      choices.experts, choices.weights, choices.probs, labels
    )
    values |= {f"{task}/{name}": value for name, value in of_gate.items()}
  if len(p.routing) == 2:
    one, two = (choices.probs for choices in p.routing.values())
    values["experts_per_image"] = experts_per_image(
      [choices.experts for choices in p.routing.values()]
    )
    values["gate_divergence"] = float(np.mean(metrics.jensen_shannon(one, two)))
  return values


def experts_per_image(experts: Sequence[np.ndarray]) -> float:
  """Mean number of distinct experts of an image, of all its gates.

  Args:
    experts: i [n, K] of each gate.
  """
  every = np.sort(np.concatenate(experts, axis=1), axis=1)
  return float(np.mean(1 + (np.diff(every, axis=1) > 0).sum(1)))


def _fetch(answers: test_time.Answers, batch: data_lib.Batch) -> dict[str, Any]:
  """One batch on the host, without its padding."""
  truth = {k: batch[k] for k in ("label", "has_label", "has_box", "index")}
  valid = batch["valid"]
  return jax.tree.map(
    lambda x: x[valid],
    {**test_time.combine(answers), "true_box": batch["box"], **truth},
  )


def _predictions(
  source: data_lib.Source,
  parts: list[dict[str, Any]],
  temperature: float | None,
) -> predictions_lib.Predictions:
  whole = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
  if not np.array_equal(whole["index"], np.arange(len(source))):
    raise RuntimeError("evaluation did not see each image once, in order")
  return predictions_lib.Predictions(
    ids=list(source.ids),
    labels=whole["label"],
    has_label=whole["has_label"],
    logits=whole.get("logits"),
    boxes=whole.get("box"),
    true_boxes=whole["true_box"],
    has_box=whole["has_box"],
    routing=predictions_lib.choices_of(whole["routing"]),
    temperature=temperature,
  )


def evaluate_split(
  restored: Restored,
  data: data_lib.Data,
  split: str,
  *,
  calibrate: bool = False,
  step: PredictStep | None = None,
  batches: Sequence[data_lib.Batch] | None = None,
  gate_value: bool = True,
  progress: bool = True,
) -> predictions_lib.Evaluation:
  """Evaluates a checkpoint on a split, at the temperature of its run.

  Args:
    restored: the checkpoint; its config says how each image is seen.
    data: of which `split` is evaluated.
    split: one of SPLITS.
    calibrate: whether to fit the temperature first, on the validation split,
      and write it into the run's calibration.json; else the one kept there is
      used, where it belongs to this checkpoint and these views.
    step: from `make_predict_step`; None makes one for the first device.
    batches: of the split, see `evaluate_source`.
    gate_value: whether to look at every image a second time, see `gate_values`.
    progress: whether to show how far it is.

  Returns:
    The evaluation.

  Raises:
    InputError: the split is empty, or the run cannot be calibrated.
  """
  config = restored.config
  if step is None:
    model = models.build_model(config, len(restored.class_names))
    step = make_predict_step(model)
  evaluated = functools.partial(
    evaluate_source, step, restored.variables, config=config, progress=progress
  )
  temperature: float | None
  if calibrate:
    calibrate_lib.check(config, data.validation)
    assert data.validation is not None, "checked above"
    temperature = calibrate_lib.fit(
      restored.workdir,
      evaluated(data.validation).predictions,
      config,
      restored.step,
      data.fingerprint,
    )
  else:
    temperature = calibrate_lib.temperature(restored, config)
  source = getattr(data, split)
  evaluation = evaluated(source, temperature=temperature, batches=batches)
  chosen = config.model.gate not in config_lib.CONTROLS
  if not (gate_value and chosen and config.model.experts > 1):
    return evaluation
  again = functools.partial(evaluated, source)
  values = gate_values(evaluation, again, source, config, batches)
  return dataclasses.replace(
    evaluation, metrics={**evaluation.metrics, **values}
  )


def evaluate_restored(
  restored: Restored,
  folder: str | pathlib.Path | None,
  split: str = "test",
  *,
  data_path: str = "",
  batch_size: int = 0,
  views: str = "",
  calibrate: bool = False,
  metrics_jsonl: Sequence[Mapping[str, Any]] = (),
  progress: bool = True,
) -> predictions_lib.Evaluation:
  """Opens the data of a checkpoint, evaluates a split, writes what came out.

  Args:
    restored: from `checkpoints.restore_for_eval`.
    folder: the `eval` folder of a run, where `<split>/` is written; None
      writes nothing.
    split: one of SPLITS.
    data_path: where the data set is now; "" as when it was trained.
    batch_size: images at a time; 0 for `config.eval.batch_size`.
    views: of each image; "" for `config.eval.views`.
    calibrate: see `evaluate_split`.
    metrics_jsonl: rows of the run's log, for the curves of the report.
    progress: whether to show how far it is.

  Returns:
    The evaluation.

  Raises:
    InputError: unknown views, an unknown or empty split, data of other classes,
      or a run that cannot be calibrated.
  """
  config, data = open_split(
    restored,
    split,
    data_path=data_path,
    batch_size=batch_size,
    views=views,
  )
  evaluation = evaluate_split(
    dataclasses.replace(restored, config=config),
    data,
    split,
    calibrate=calibrate,
    progress=progress,
  )
  if folder is None:
    return evaluation
  results.save(
    evaluation,
    pathlib.Path(folder) / split,
    {
      **restored.meta,
      "split": split,
      "step": restored.step,
      "views": config.eval.views,
      "seed": config.seed,
      # Of the data evaluated, which may not be what was trained on.
      "dataset_fingerprint": data.fingerprint,
      **({"data_notes": list(data.notes)} if data.notes else {}),
    },
    class_names=restored.class_names,
    source=getattr(data, split),
    metrics_jsonl=metrics_jsonl,
  )
  return evaluation


def open_split(
  restored: Restored,
  split: str,
  *,
  data_path: str = "",
  batch_size: int = 0,
  views: str = "",
) -> tuple[ml_collections.ConfigDict, data_lib.Data]:
  """The data of a checkpoint, with the split that is to be evaluated.

  Args:
    restored: from `checkpoints.restore_for_eval`.
    split: one of SPLITS; an attribute of the data.
    data_path: where the data set is now; "" as when it was trained.
    batch_size: images at a time; 0 for `config.eval.batch_size`.
    views: of each image; "" for `config.eval.views`.

  Returns:
    (the checkpoint's config with what the arguments change in it, the data).

  Raises:
    InputError: unknown views, an unknown or empty split, or data of other
      classes.
  """
  if split not in SPLITS:
    raise errors.InputError(
      f"--split={split!r}: must be one of {', '.join(SPLITS)}"
    )
  config = copy.deepcopy(restored.config)
  if data_path:
    # Its images are there, too, wherever those of the training were.
    config.data.path, config.data.images = str(data_path), ""
  if batch_size:
    config.eval.batch_size = batch_size
  if views:
    config.eval.views = views
  config_lib.check_config(config)
  names = tuple(restored.class_names)
  images = membership.read(restored.workdir / membership.FILE)
  if images is not None:
    data = data_lib.open_again(_without_extra(config), names, images)
  else:
    data = data_lib.open_data(_without_extra(config))
  if getattr(data, split) is None:
    raise errors.InputError(
      f"--split={split}: this run held no images out "
      f"(config.data.validation_fraction={config.data.validation_fraction:g})"
    )
  # Classes that only the extra data has come last.
  count = len(data.class_names) if config.data.extra.path else len(names)
  if tuple(data.class_names) != names[:count]:
    raise errors.InputError(
      f"the data in {config.data.path or config.data.name} has classes "
      f"{_brief(data.class_names)}, the checkpoint {_brief(names[:count])}: "
      "give the data it was trained on with --data.path=DIR"
    )
  if not len(getattr(data, split)):
    raise errors.InputError(
      f"--split={split}: none of the run's images of this part is in "
      f"{config.data.path}: give the data it was trained on with "
      "--data.path=DIR"
    )
  for note in data.notes:
    processes.say(f"data: {note}")
  return config, data


def _without_extra(
  config: ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """Of data that joins training alone nothing need be there."""
  config = copy.deepcopy(config)
  config.data.extra.path = ""
  return config


def _brief(names: Sequence[str]) -> str:
  """`[a, b, ... z] (200)`."""
  shown = [*names[:2], "...", names[-1]] if len(names) > 3 else names
  return f"[{', '.join(shown)}] ({len(names)})"
