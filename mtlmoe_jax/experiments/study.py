"""What the experts of a finished run learned, as plain values.

Letters: n images of the test split, N experts, L classes.
"""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data as data_lib
from mtlmoe_jax import errors, models
from mtlmoe_jax.checkpoints import restore
from mtlmoe_jax.evaluation import evaluate
from mtlmoe_jax.experiments import expert_outputs, removal
from mtlmoe_jax.metrics import cka, split
from mtlmoe_jax.metrics import permutation as null
from mtlmoe_jax.metrics.predictions import Predictions
from mtlmoe_jax.training import features

# Beside the class, what an expert may specialise in, where the source knows it.
ATTRIBUTES = ("pose", "facing", "background", "family")
PERMUTATIONS = 200
# Fewer images have no similarity of experts.
_LEAST_FOR_CKA = 4
# Attributes by fingerprint of the images.
Attributes = dict[str, dict[str, np.ndarray]]


def study(
  folder: pathlib.Path,
  data_path: str = "",
  attributes: Attributes | None = None,
) -> dict[str, Any]:
  """Looks at the gates and experts of a run through its test split.

  Args:
    folder: workdir of a finished run.
    data_path: where the data set is now; "" as when it was trained.
    attributes: those known from runs before, filled with this one's: a suite
      studies many runs of the same images, and to know a drawn image's
      attributes is to draw it.

  Returns:
    Values ready for JSON. `experts`: N; with N = 1 nothing else. `tasks`; `k`
    of each; `gates`: see `_gate`, of each task; `agreement`: see `_agreement`,
    only with two gates; `removal`: see `_removal`, only where gates have
    parameters; `cka`: [N, N], see `cka.linear_cka`; `weights`: [n, N] of each
    task, to four digits.

  Raises:
    InputError: no run there, or not its data.
  """
  folder = pathlib.Path(folder)
  config = _config(folder)
  experts = config.model.experts
  if experts == 1:
    return {"experts": 1}
  restored = restore.restore_for_eval(folder, config.eval.step)
  config, data = evaluate.open_split(restored, "test", data_path=data_path)
  source = data.test
  model = models.build_model(config, len(restored.class_names))
  evaluated = functools.partial(
    evaluate.evaluate_source,
    evaluate.make_predict_step(model),
    source=source,
    config=config,
    progress=False,
  )
  batches_of = functools.partial(
    features.of_run, dataclasses.replace(restored, config=config)
  )
  batches = batches_of(source)
  evaluated = functools.partial(evaluated, batches=batches)
  whole = evaluated(restored.variables)
  p = whole.predictions
  groups = _groups(p, source, {} if attributes is None else attributes)
  values: dict[str, Any] = {
    "experts": experts,
    "k": [gate.experts.shape[1] for gate in p.routing.values()],
    "tasks": list(config_lib.resolve(config).tasks),
    "gates": {t: _gate(whole.metrics, p, t, groups) for t in p.routing},
    "weights": {t: g.dense.round(4).tolist() for t, g in p.routing.items()},
  }
  if config.model.gate not in config_lib.CONTROLS:
    again = functools.partial(evaluated, restored.variables)
    lost = evaluate.gate_values(whole, again, source, config, batches)
    for name, value in lost.items():
      values["gates"][name.split("/")[0]]["gate_value"] = value
  if len(p.routing) == 2 and not config.model.share_gate:
    values["agreement"] = _agreement(*(g.dense for g in p.routing.values()))
  shared = config.model.shared_experts
  removed = _removal(evaluated, restored.variables, p, experts, shared)
  if removed:
    values["removal"] = removed
  if len(source) >= _LEAST_FOR_CKA:
    outputs = expert_outputs.of_images(restored, source, batches_of=batches_of)
    values["cka"] = cka.matrix(outputs).tolist()
  return values


def _config(folder: pathlib.Path) -> Any:
  """The config of a run, without reading a checkpoint."""
  try:
    saved = json.loads((folder / "config.json").read_text("utf-8"))
  except (OSError, ValueError) as error:
    raise errors.InputError(
      f"{folder}: no config.json of a run there ({error})"
    ) from None
  return config_lib.from_saved(saved)


def _groups(
  predictions: Predictions, source: data_lib.Source, attributes: Attributes
) -> dict[str, np.ndarray]:
  """Name -> i [n]: what the images may be told apart by; -1 is unknown."""
  known = predictions.has_label
  groups = {"class": np.where(known, predictions.labels, -1)}
  # After the evaluation, so that the images need not be made again.
  first = source[0].get("attributes", {})
  names = tuple(name for name in ATTRIBUTES if name in first)
  if names and source.fingerprint not in attributes:
    records = [source[i]["attributes"] for i in range(len(source))]
    attributes[source.fingerprint] = {
      name: np.unique([a[name] for a in records], return_inverse=True)[1]
      for name in names
    }
  return groups | (attributes[source.fingerprint] if names else {})


def _gate(
  metrics: dict[str, Any],
  predictions: Predictions,
  task: str,
  groups: dict[str, np.ndarray],
) -> dict[str, Any]:
  """How one task uses the experts.

  `load` and `importance`: shares of the choices and of the weight, [N];
  `entropy`, bits, of an image's probabilities over all experts, mean;
  `effective_experts`: see `metrics.routing_metrics`; for `class` and each of
  `ATTRIBUTES` that the source knows: see `null.information`. Beside these, of
  gates with parameters, `gate_value`: see `evaluate.gate_values`.
  """
  weights = predictions.routing[task].dense
  return {
    "load": metrics[f"{task}/load"],
    "importance": metrics[f"{task}/importance"],
    "entropy": metrics[f"{task}/entropy"] / math.log(2),
    "effective_experts": metrics[f"{task}/effective_experts"],
    **{
      name: null.information(weights, values, PERMUTATIONS)
      for name, values in groups.items()
    },
  }


def _agreement(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
  """Whether two gates, weights [n, N] each, do the same with an image.

  `divergence`: Jensen-Shannon, bits, of their shares of weight, mean over
  images; `null`: the same with the images of one permuted, mean over
  permutations, so what two gates with nothing in common but their favourites
  have; `same_top`: share of images with the same heaviest expert; and
  `same_top_null`.
  """
  one, other = (
    weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)
    for weights in (one, other)
  )

  def compare(order: np.ndarray) -> tuple[float, float]:
    same = one.argmax(1) == other[order].argmax(1)
    divergence = split.jensen_shannon(one, other[order])
    return float(np.mean(divergence)), float(np.mean(same))

  images = np.arange(len(one))
  random = np.random.default_rng(0)
  drawn = [compare(random.permutation(images)) for _ in range(PERMUTATIONS)]
  divergence, same_top = compare(images)
  divergence_null, same_top_null = np.mean(drawn, axis=0).tolist()
  return {
    "divergence": divergence,
    "null": divergence_null,
    "same_top": same_top,
    "same_top_null": same_top_null,
  }


def _removal(
  evaluated: Callable[[Any], Any],
  variables: Any,
  whole: Predictions,
  experts: int,
  shared: int = 0,
) -> list[dict[str, Any]]:
  """What the model loses with each expert, not trained again.

  A dict for each expert that gates choose: `expert`; the changes `top1` and
  `miou`, less than 0 where the expert is missed, and `per_class` [L], the
  changes in accuracy (None for a class without images), of the tasks it has.
  Nothing where no expert can
  be removed.
  """
  before = _scores(whole)
  losses: list[dict[str, Any]] = []
  for expert in range(shared, experts):
    without = removal.without_expert(variables, expert, shared)
    if without is None:
      return []
    after = _scores(evaluated(without).predictions)
    changes = {name: after[name] - value for name, value in before.items()}
    if "per_class" in changes:
      changes["per_class"] = [
        None if math.isnan(change) else change
        for change in changes["per_class"].tolist()
      ]
    losses.append({"expert": expert, **changes})
  return losses


def _scores(predictions: Predictions) -> dict[str, Any]:
  """`top1`, `per_class` f64 [L] (NaN without images) and `miou`."""
  p = predictions
  scores: dict[str, Any] = {}
  if p.correct is not None and p.has_label.any():
    assert p.logits is not None
    labels, classes = p.labels[p.has_label], p.logits.shape[1]
    counts = np.bincount(labels, minlength=classes)
    right = np.bincount(labels, p.correct[p.has_label], minlength=classes)
    scores["top1"] = float(right.sum() / len(labels))
    scores["per_class"] = np.divide(
      right, counts, out=np.full(classes, np.nan), where=counts > 0
    )
  if p.iou is not None and p.has_box.any():
    scores["miou"] = float(np.nanmean(p.iou))
  return scores
