"""Mixup of a batch, for a class task beside a box task.

Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization". A mixed image
shows two objects and its labels say how much of each; no single box is right
for it, so a mixed image has none. What a frozen stem gave for the images is
mixed as they are, with the same weights (Verma et al. 2019, "Manifold Mixup",
with the end of the stem as its layer).

Letters: B images.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

Array = jax.Array
_MIXED = ("image", "features", "gate_features")


def mixup(
  key: Array, batch: Mapping[str, Array], share: float, alpha: float
) -> dict[str, Array]:
  """Mixes some images of a batch with their neighbours.

  Image b becomes w x_b + (1 - w) x_(b - 1), w = max(l, 1 - l), l ~ Beta(alpha,
  alpha): its own label stays the larger part. Batches are shuffled, so the
  neighbour is a random image. Only images with a label on both sides are mixed.

  Args:
    key: all randomness.
    batch: `image` u8 [B, H, W, 3], `label` i32 [B], `has_label`, `has_box`,
      `valid` bool [B], with features computed once `features` and perhaps
      `gate_features` f16 [B, ...], and whatever else, which stays.
    share: of the images that are mixed, in [0, 1].
    alpha: of the Beta distribution, above 0.

  Returns:
    The batch with `image` and features f32, mixed alike, and `has_box` False
    where mixed, and two more entries: `other_label` i32 [B], and `label_weight`
    f32 [B], w (1 where not mixed).
  """
  draw, weigh = jax.random.split(key)
  count = batch["label"].shape[0]
  usable = batch["has_label"] & batch["valid"]
  mixed = jax.random.bernoulli(draw, share, (count,))
  mixed &= usable & jnp.roll(usable, 1)
  weight = jax.random.beta(weigh, alpha, alpha, (count,))
  weight = jnp.where(mixed, jnp.maximum(weight, 1 - weight), 1.0)

  def mix(x: Array) -> Array:
    x = x.astype(jnp.float32)
    own = weight.reshape((-1,) + (1,) * (x.ndim - 1))
    return own * x + (1 - own) * jnp.roll(x, 1, axis=0)

  return {
    **batch,
    **{name: mix(batch[name]) for name in _MIXED if name in batch},
    "has_box": batch["has_box"] & ~mixed,
    "other_label": jnp.roll(batch["label"], 1),
    "label_weight": weight,
  }
