"""What gates know before the first step.

Gates that see features (`model.gate_input`) take moments of them, and their
start (`model.gate_start`), from one forward pass over the training images; see
`moe.starts`. All of it is in the variables, and so in every checkpoint.

Letters: n images, N experts, F features.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import ml_collections
import numpy as np

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import data as data_lib
from mtlmoe_jax import models
from mtlmoe_jax.data import feature_store
from mtlmoe_jax.devices import compilation, sharding
from mtlmoe_jax.metrics import predictions, split
from mtlmoe_jax.models.gates import FEATURE_INPUTS, PROJECTED
from mtlmoe_jax.moe import starts
from mtlmoe_jax.training import initialization
from mtlmoe_jax.utils import progress, trees

# More images tell a router nothing new.
MOST_IMAGES = 10_000
# Of the images that gates are looked at with before training.
_SHOWN = 2_000
_ROWS = 1024


def start(
  variables: initialization.Variables,
  new: frozenset[str],
  model: models.MTLMoE,
  config: ml_collections.ConfigDict,
  source: data_lib.Source,
  mesh: jax.sharding.Mesh,
  store: feature_store.Views | None,
) -> tuple[initialization.Variables, str]:
  """Moments and start of every gate that is new.

  Args:
    variables: of the model, placed.
    new: names of the arrays that are as they were drawn; what another run's
      have replaced stays.
    model: of the config.
    config: the whole config.
    source: training images; at most `MOST_IMAGES` of them are seen, not
      augmented.
    mesh: the devices.
    store: features of the images, if they are computed: the first augmented
      view of each then is what is seen.

  Returns:
    (variables, lines for the log; "" where gates see pixels).

  Raises:
    InputError: an image that cannot be read.
  """
  if model.gating.sees not in FEATURE_INPUTS:
    return variables, ""
  flat = trees.flatten(variables)
  routers = {
    name: start
    for name, start in _routers(model, config).items()
    if all(n in new for n in flat if n.startswith(f"params/{name}/"))
  }
  moments = ("batch_stats/gate_input/mean", "batch_stats/gate_input/std")
  if not routers and moments[0] not in new:
    return variables, ""
  chosen = _sample(len(source), config.seed)
  views = _features(variables, model, config, source, mesh, store, chosen)
  values: dict[str, np.ndarray] = {}
  if moments[0] in new:
    values |= dict(zip(moments, starts.moments(views)))
  mean, std = (np.asarray(values.get(n, flat[n])) for n in moments)
  z = (views.astype(np.float64) - mean) / std
  lines: list[str] = []
  for name, kind in routers.items():
    gate = model.gating
    experts = model.told if name.startswith("tower_") else gate.routed
    found, line = router(
      z,
      source.labels[chosen],
      experts,
      kind,
      gate.router,
      config.seed,
    )
    lines.append(f"{name}: {line}")
    values |= {f"params/{name}/{n}": v for n, v in found.items()}
  placed = {
    name: jax.device_put(
      np.asarray(value, flat[name].dtype), flat[name].sharding
    )
    for name, value in values.items()
  }
  return trees.unflatten({**flat, **placed}), "\n".join(lines)


def _routers(
  model: models.MTLMoE, config: ml_collections.ConfigDict
) -> dict[str, str]:
  """Name of each gate, and of each router of a tower, with its start."""
  starts_of = config_lib.resolve(config).gate_starts
  gates = dict(zip(model.gate_names, starts_of))
  learns = model.gating.kind not in config_lib.CONTROLS
  return {
    **(gates if learns else {}),
    **(
      {f"tower_{name}": kind for name, kind in gates.items()}
      if model.told and not model.gate_tells
      else {}
    ),
  }


def router(
  z: np.ndarray,
  labels: np.ndarray,
  experts: int,
  kind: str,
  form: str,
  seed: int,
) -> tuple[dict[str, np.ndarray], str]:
  """The parameters that a router starts from.

  Args:
    z: f64 [n, F], standardized.
    labels: i [n], negative where there is none.
    experts: N.
    kind: "zeros", "kmeans" or "discriminant".
    form: "linear", "mlp" or "cosine".
    seed: of all that is drawn.

  Returns:
    (arrays by name below the gate's own; none where it starts as drawn, what
    was done). A discriminant needs two classes and twice as many images as
    classes, else k-means is what is left; that needs twice as many images as
    experts.
  """
  if kind == "zeros" or experts == 1:
    return {}, "starts near 0"
  known = labels >= 0
  classes = len(np.unique(labels[known]))
  said = ""
  if kind == "discriminant":
    enough = max(2 * classes, 2 * experts)
    if classes < 2 or known.sum() < enough:
      said = f" (a discriminant of {classes} classes needs {max(enough, 4)})"
      kind = "kmeans"
  count = int(known.sum()) if kind == "discriminant" else len(z)
  if count < 2 * experts:
    return {}, f"starts near 0: {count} images are too few{said}"
  spherical = form == "cosine"
  if kind == "discriminant":
    fit = starts.discriminant(z, labels, experts, seed, spherical)
    what = f"a discriminant of {classes} classes"
  else:
    fit = starts.kmeans(z, experts, seed, spherical)
    what = "clusters"
  line = f"starts from {what} of {count} images{said}"
  if not spherical:
    linear = starts.linear_router(fit)
    return {"logits/kernel": linear.kernel, "logits/bias": linear.bias}, line
  cosine = starts.cosine_router(fit)
  # Directions that are not there are 0, which changes no cosine.
  width = PROJECTED - cosine.projection.shape[1]
  return {
    "cosine/project/kernel": np.pad(cosine.projection, ((0, 0), (0, width))),
    "cosine/project/bias": np.pad(cosine.offset, (0, width)),
    "cosine/prototypes": np.pad(cosine.prototypes, ((0, width), (0, 0))),
    "cosine/log_scale": np.log(cosine.scale),
  }, line


def _sample(count: int, seed: int) -> np.ndarray:
  """Positions of the images that are seen, in order."""
  if count <= MOST_IMAGES:
    return np.arange(count)
  order = np.random.default_rng(seed).permutation(count)
  return np.sort(order[:MOST_IMAGES])


def _features(
  variables: initialization.Variables,
  model: models.MTLMoE,
  config: ml_collections.ConfigDict,
  source: data_lib.Source,
  mesh: jax.sharding.Mesh,
  store: feature_store.Views | None,
  chosen: np.ndarray,
) -> np.ndarray:
  """What gates see of some images, before it is standardized: f32 [n, F]."""
  if store is not None:
    parts = (
      _pooled(store.rows(range(i, min(i + _ROWS, len(source)))))
      for i in range(0, len(source), _ROWS)
    )
    return np.concatenate(list(parts))[chosen]
  run = compilation.jit_forward(
    lambda variables, images: model.apply(
      variables, images, method="gate_view"
    ),
    out_shardings=sharding.replicated(mesh),
  )
  seen: list[np.ndarray] = []
  with jax.set_mesh(mesh):
    for batch in _batches(source, config, chosen, "gates"):
      images = sharding.put_whole({"image": batch["image"]}, mesh)["image"]
      found = np.asarray(run(variables, images))
      seen.append(found[batch["valid"]])
  return np.concatenate(seen)


def _pooled(rows: dict[str, np.ndarray]) -> np.ndarray:
  if "gate_features" in rows:
    return rows["gate_features"].astype(np.float32)
  return rows["features"].astype(np.float32).mean((1, 2))


def _batches(
  source: data_lib.Source,
  config: ml_collections.ConfigDict,
  chosen: np.ndarray,
  label: str,
) -> Iterator[data_lib.Batch]:
  """Whole images, with a bar."""
  config = config.copy_and_resolve_references()
  config.eval.views = "whole"
  size = config.eval.batch_size
  bar = progress.Progress(
    -(-len(chosen) // size), items_per_step=size, label=label
  )
  some = data_lib.Subset(source, chosen)
  with bar:
    for batch in data_lib.eval_batches(some, config, size):
      yield batch
      bar.update(1)


def shown(count: int) -> range:
  """The images of a split that `routing` looks at."""
  return range(0, count, -(-count // _SHOWN))


def routing(
  variables: initialization.Variables,
  model: models.MTLMoE,
  config: ml_collections.ConfigDict,
  source: data_lib.Source,
  mesh: jax.sharding.Mesh,
  batches: Iterable[data_lib.Batch] | None,
) -> dict[str, Any]:
  """How gates that see features use the experts before training.

  Args:
    variables: of the model, placed.
    model: of the config.
    config: the whole config.
    source: images, of which `shown` are taken.
    mesh: the devices.
    batches: of the source or of these, with features of the stem, if they are
      computed; not read for gates that see pixels.

  Returns:
    `<task>/<name>`, see `metrics.split.routing_metrics`; nothing for gates that
    see pixels, and for controls.
  """
  gate = model.gating
  if gate.sees not in FEATURE_INPUTS or gate.kind in config_lib.CONTROLS:
    return {}
  run = compilation.jit_forward(
    functools.partial(model.apply, method="routings"),
    out_shardings=sharding.replicated(mesh),
  )
  chosen = np.asarray(shown(len(source)))
  parts: list[dict[str, Any]] = []
  labels: list[np.ndarray] = []
  with jax.set_mesh(mesh):
    if batches is None:
      batches = _batches(source, config, chosen, "gates, before")
    for batch in batches:
      names = ("image", "features", "gate_features")
      known = sharding.put_whole(
        {n: batch[n] for n in names if n in batch}, mesh
      )
      found = jax.device_get(run(variables, known.pop("image"), **known))
      valid = batch["valid"]
      parts.append(
        {
          task: {
            n: getattr(r, n)[valid] for n in ("experts", "weights", "probs")
          }
          for task, r in found.items()
        }
      )
      labels.append(np.where(batch["has_label"], batch["label"], -1)[valid])
  whole = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
  truth = np.concatenate(labels)
  return {
    f"{task}/{name}": value
    for task, choices in predictions.choices_of(whole).items()
    for name, value in split.routing_metrics(
      choices.experts, choices.weights, choices.probs, truth
    ).items()
  }
