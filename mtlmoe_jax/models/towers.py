"""Towers: from the combined features of a task to its output.

Letters: B images, G side of the coarse grid, D condensed width, F hidden width,
L classes.
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtlmoe_jax.models.layers import START_SCALE, cosine_logits, scaled_normal

# The box before training: centred, this share of each side. Boxes that start
# sensible keep the first steps of the complete-IoU loss stable.
START_SIDE = 0.6
# Channels of each cell that the box tower flattens: what matters is where.
CELL_FEATURES = 64

_Hidden = functools.partial(nn.Dense, kernel_init=scaled_normal(2.0))


@dataclasses.dataclass(frozen=True)
class TowerOptions:
  """What both towers have.

  Attributes:
    width: F, of the hidden layer.
    dropout: rate in front of it.
    classifier: "linear" or "cosine"; the latter takes the hidden layer without
      its swish, as cosines need features of both signs (Gidaris & Komodakis
      2018, "Dynamic Few-Shot Visual Learning without Forgetting", sec. 3.2).
  """

  width: int
  dropout: float
  classifier: str = "linear"


class ClassTower(nn.Module):
  """MLP over the features, averaged over the grid where there is one.

  Attributes:
    classes: L.
    options: of the tower.
  """

  classes: int
  options: TowerOptions

  @nn.compact
  def __call__(
    self, x: jax.Array, train: bool, told: jax.Array | None = None
  ) -> jax.Array:
    """Maps features to logits.

    Args:
      x: [B, D] or [B, G, G, D].
      train: with dropout.
      told: [B, R], a router's probabilities, beside the features; None: none.

    Returns:
      f32 [B, L].
    """
    if x.ndim == 4:
      x = jnp.mean(x, (1, 2))
    x = nn.Dropout(self.options.dropout, deterministic=not train)(x)
    x = _Hidden(self.options.width, name="hidden")(_beside(x, told))
    if self.options.classifier == "cosine":
      return CosineClassifier(self.classes, name="out")(x)
    x = nn.swish(x)
    return nn.Dense(self.classes, kernel_init=scaled_normal(1.0), name="out")(x)


class CosineClassifier(nn.Module):
  """`cosine_logits` with a learned scale; parameters `kernel`, `log_scale`.

  Attributes:
    classes: L.
  """

  classes: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, F] to logits [B, L], float32."""
    shape = (x.shape[-1], self.classes)
    kernel = self.param("kernel", scaled_normal(1.0), shape)
    start = nn.initializers.constant(math.log(START_SCALE))
    return cosine_logits(x, kernel, jnp.exp(self.param("log_scale", start, ())))


class BoxTower(nn.Module):
  """MLP that ends in a box; on a grid it keeps every cell apart.

  A cell's D channels are first reduced to 64 by one layer that all cells
  share, then the cells are flattened, so position reaches the MLP.

  Attributes:
    options: of the tower; its classifier means nothing here.
  """

  options: TowerOptions

  @nn.compact
  def __call__(
    self, x: jax.Array, train: bool, told: jax.Array | None = None
  ) -> jax.Array:
    """Maps features to boxes [B, 4] xyxy, float32; see `ClassTower`."""
    if x.ndim == 4:
      x = nn.swish(_Hidden(CELL_FEATURES, name="cell")(x))
      x = x.reshape(x.shape[0], -1)
    x = nn.Dropout(self.options.dropout, deterministic=not train)(x)
    x = nn.swish(_Hidden(self.options.width, name="hidden")(_beside(x, told)))
    raw = nn.Dense(
      4,
      kernel_init=scaled_normal(0.01),
      bias_init=_start_bias,
      name="out",
    )(x)
    return decode_box(raw)


def _beside(x: jax.Array, told: jax.Array | None) -> jax.Array:
  return x if told is None else jnp.concatenate([x, told], -1)


def decode_box(raw: jax.Array) -> jax.Array:
  """Any four numbers as a box with x1 <= x2 and y1 <= y2.

  Args:
    raw: [..., 4], whose sigmoid is (centre x, centre y, width, height).

  Returns:
    [..., 4] xyxy in units of the frame. The centre is inside the frame; a
    corner may leave it, which keeps its gradient (a clipped one has none).
  """
  center, side = jnp.split(nn.sigmoid(raw), 2, -1)
  return jnp.concatenate([center - side / 2, center + side / 2], -1)


def _start_bias(
  key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> jax.Array:
  del key
  logit = jnp.log(START_SIDE / (1 - START_SIDE))
  return jnp.array([0.0, 0.0, logit, logit], dtype).reshape(shape)
