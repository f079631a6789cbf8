"""What a linear head on a frozen backbone says of images it did not learn.

Features of the whole data set are computed once. Then every image is answered
by a head that was fitted to the other folds: seconds, where training as many
networks would take hours.

Letters: n images, D features, L classes, H W C the backbone's last map, G side
of the grid that is kept of it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from scipy import linalg, special

from mtlmoe_jax import pretrained
from mtlmoe_jax.data import pipeline
from mtlmoe_jax.data.source import Source
from mtlmoe_jax.devices import compilation
from mtlmoe_jax.errors import InputError
from mtlmoe_jax.models.building import backbone_of
from mtlmoe_jax.models.layers import average_to
from mtlmoe_jax.models.mtlmoe import normalized
from mtlmoe_jax.training import initialization
from mtlmoe_jax.utils.progress import Progress

# Without weights in the config.
BACKBONE, WEIGHTS = "tf_efficientnet_lite0", "lite"
# Of standardized features whose squares sum to 1 on average.
_DECAY = 1e-4
_RIDGE = 3e-4
_STEPS = 300
_CLOSE = 1e-3


def features(
  config: ml_collections.ConfigDict, source: Source, grid: int = 1
) -> np.ndarray:
  """What the frozen backbone of a config sees in each image, shown whole.

  Args:
    config: the whole config; backbone, weights and image size are used. One
      without weights (`model.pretrained`) gets EfficientNet-Lite0's own.
    source: n images.
    grid: G; cells of the last map are averaged to G x G.

  Returns:
    f32 [n, G G C], cell after cell.

  Raises:
    InputError: weights that are not installed (the extra `lite`), cannot be
      read, or differ from expert to expert; an image that cannot be read.
  """
  config = config.copy_and_resolve_references()
  if not config.model.pretrained:
    config.model.backbone, config.model.pretrained = BACKBONE, WEIGHTS
    config.model.normalization = ""
  config = pretrained.settle(config)
  config.eval.views = "whole"
  weights = initialization.weights(config)
  if weights.per_expert:
    raise InputError(
      f"config.model.pretrained={config.model.pretrained!r}: its experts "
      "differ, and features are those of one backbone; give other weights"
    )
  backbone = backbone_of(config)
  network = backbone.sizes.network(dtype=jnp.dtype(config.precision))

  def run(variables: Any, images: jax.Array) -> jax.Array:
    x = normalized(images, backbone).astype(network.dtype)
    last: Any = network.apply(variables, x)
    cells = average_to(last.astype(jnp.float32), (grid, grid))
    return cells.reshape(len(images), -1)

  step = compilation.jit_forward(run)
  variables = jax.device_put(
    {"params": weights.params, "batch_stats": weights.batch_stats}
  )
  size = config.eval.batch_size
  out = np.zeros((len(source), grid**2 * backbone.features), np.float32)
  steps = pipeline.num_batches(source, size)
  with Progress(steps, items_per_step=size, label="features") as bar:
    for batch in pipeline.eval_batches(source, config, size):
      rows = jax.device_get(step(variables, batch["image"]))
      out[batch["index"][batch["valid"]]] = rows[batch["valid"]]
      bar.update()
  return out


def out_of_fold(
  features: np.ndarray, labels: np.ndarray, folds: np.ndarray
) -> np.ndarray:
  """Class probabilities of each image, by heads that did not see its fold.

  Multinomial logistic regression with an L2 penalty on standardized features.

  Args:
    features: f32 [n, D].
    labels: i32 [n]; L is the largest + 1. Images of -1 teach nothing.
    folds: i32 [n], any two values or more.

  Returns:
    f32 [n, L]; rows sum to 1. A class that the other folds do not show is 0.

  Raises:
    ValueError: fewer than two folds, or one without a labelled image outside.
  """
  hot = np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]
  hot[labels < 0] = 0
  out = np.zeros(hot.shape, np.float32)
  for inside, taught in _parts(folds, labels >= 0):
    x = _scaled(features, taught)
    x = np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1)
    targets = np.zeros_like(hot)
    targets[taught] = hot[taught]
    there = targets.any(0)
    bound = x[taught].T @ x[taught] / (2 * len(taught))
    bound[np.diag_indices(len(bound))] += _decay(len(bound)) / there.sum()
    head = np.asarray(_logistic(x, targets, there, linalg.inv(bound)))
    logits = np.where(there, x[inside] @ head, -np.inf)
    out[inside] = special.softmax(logits, axis=1)
  return out


def boxes_out_of_fold(
  features: np.ndarray,
  boxes: np.ndarray,
  has_box: np.ndarray,
  folds: np.ndarray,
) -> np.ndarray:
  """As `out_of_fold`, boxes by ridge regression.

  Args:
    features: f32 [n, D]; with a grid, as boxes need to know where.
    boxes: f32 [n, 4] xyxy, normalised.
    has_box: bool [n].
    folds: i32 [n].

  Returns:
    f32 [n, 4] xyxy in [0, 1].

  Raises:
    ValueError: as `out_of_fold`.
  """
  out = np.zeros((len(folds), 4), np.float32)
  for inside, taught in _parts(folds, has_box):
    x = _scaled(features, taught)
    rows, mean = x[taught], boxes[taught].mean(0)
    # n equations are fewer than D: the dual form.
    gram = (rows @ rows.T).astype(np.float64)
    gram[np.diag_indices(len(gram))] += _RIDGE * len(gram)
    dual = linalg.solve(gram, boxes[taught] - mean, assume_a="pos")
    answers = x[inside] @ (rows.T @ dual.astype(np.float32)) + mean
    answers = np.clip(answers, 0, 1)
    out[inside, :2] = np.minimum(answers[:, :2], answers[:, 2:])
    out[inside, 2:] = np.maximum(answers[:, :2], answers[:, 2:])
  return out


def _parts(
  folds: np.ndarray, known: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
  """(positions of a fold, those of the others that teach) for each fold."""
  parts = [
    (np.flatnonzero(folds == fold), np.flatnonzero((folds != fold) & known))
    for fold in np.unique(folds)
  ]
  if not all(len(taught) for _, taught in parts):
    raise ValueError("a fold leaves nothing to learn from")
  return parts


def _scaled(features: np.ndarray, taught: np.ndarray) -> np.ndarray:
  """Standardized by the images that teach; squares sum to 1 on average."""
  x = features[taught]
  mean, scale = x.mean(0), x.std(0) * x.shape[1] ** 0.5 + 1e-6
  return (features - mean) / scale


@jax.jit
def _logistic(
  x: jax.Array, hot: jax.Array, there: jax.Array, inverse: jax.Array
) -> jax.Array:
  """Weights and, last, the bias of a multinomial logistic regression.

  Newton's method with the bound of Böhning (1992) in place of the Hessian: one
  inverse serves all steps, however features correlate. Accelerated as Nesterov
  (1983), begun anew where that leads uphill.

  Args:
    x: f32 [n, D + 1], the last a one.
    hot: f32 [n, L]; rows of zeros do not count.
    there: bool [L], classes that are shown.
    inverse: f32 [D + 1, D + 1], of the bound.

  Returns:
    f32 [D + 1, L].
  """
  known = hot.sum(1, keepdims=True)
  decay = _decay(x.shape[1])[:, None] / there.sum()

  def step(state: Any) -> Any:
    steps, head, ahead, momentum, _ = state
    chances = jax.nn.softmax(jnp.where(there, x @ ahead, -jnp.inf), axis=1)
    gradient = x.T @ (known * chances - hot) / known.sum() + decay * ahead
    new = ahead - inverse @ gradient
    change = new - head
    momentum = jnp.where(jnp.vdot(gradient, change) > 0, 1.0, momentum)
    after = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
    ahead = new + (momentum - 1) / after * change
    moved = jnp.abs(change).max() / jnp.abs(new).max()
    return steps + 1, new, ahead, after, moved

  def goes_on(state: Any) -> jax.Array:
    return (state[0] < _STEPS) & (state[-1] > _CLOSE)

  zeros = jnp.zeros((x.shape[1], hot.shape[1]))
  start = (0, zeros, zeros, jnp.float32(1.0), jnp.float32(jnp.inf))
  return jax.lax.while_loop(goes_on, step, start)[1]


def _decay(size: int) -> np.ndarray:
  """Of each weight, f32 [D + 1]; that of the bias is next to none."""
  return np.append(np.full(size - 1, _DECAY), 1e-3 * _DECAY).astype(np.float32)
