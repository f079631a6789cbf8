"""Shapes and inputs that both sides of a comparison share.

Letters: B images or tokens, N experts, K selected, H = W image size.
"""

import dataclasses
import math
import zlib
from typing import Any

import numpy as np

# Noise draws that one contestant cycles through: expert loads differ.
DRAWS = 8
CLASSES = 200
# Of the rows about forward passes.
BACKBONE = "tf_efficientnet_lite0"
# Batches of one repetition of an input pipeline: single ones come in spurts.
BATCHES = 8


@dataclasses.dataclass(frozen=True)
class Mixture:
  """One mixture-of-experts layer.

  Attributes:
    batch: B.
    experts: N.
    k: K.
    width: channels in; of the map for convolutional experts.
    hidden: channels between.
    out: channels out.
    side: of the map [side, side, width]; 0: vectors, and experts are MLPs.
    activation: between the layers: "relu" or "gelu" (its tanh form).
  """

  batch: int
  experts: int
  k: int
  width: int
  hidden: int
  out: int
  side: int = 0
  activation: str = "relu"

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Channels last."""
    side = (self.side,) * 2 if self.side else ()
    return (self.batch, *side, self.width)

  @property
  def flops(self) -> int:
    """Useful work of a forward pass: each image through K experts."""
    if self.side:
      weights = (self.width + 9 * self.hidden + self.out) * self.hidden
    else:
      weights = (self.width + self.out) * self.hidden
    return 2 * weights * max(self.side, 1) ** 2 * self.batch * self.k

  def noise(self) -> np.ndarray:
    """f32 [DRAWS, B, N], the same for every contestant.

    Both gates start with zero weights (Shazeer et al. 2017, appendix A), so
    the noise alone decides, and alike on both sides.
    """
    random = np.random.default_rng(0)
    return random.standard_normal((DRAWS, self.batch, self.experts), np.float32)

  def options(self, **others: Any) -> dict[str, Any]:
    """A builder's keyword arguments: the shape and others."""
    return {"shape": dataclasses.asdict(self), **others}


def training_batch(batch: int, size: int) -> dict[str, np.ndarray]:
  """A batch of this package's pipeline: noise [B, H, H, 3], labels, boxes."""
  random = np.random.default_rng(0)
  corner = random.uniform(0, 0.4, (batch, 2))
  other = corner + random.uniform(0.3, 0.6, (batch, 2))
  return {
    "image": random.integers(0, 256, (batch, size, size, 3), np.uint8),
    "label": random.integers(0, CLASSES, batch, np.int32),
    "box": np.concatenate([corner, other], 1).astype(np.float32),
    "has_label": np.ones(batch, bool),
    "has_box": np.ones(batch, bool),
    "valid": np.ones(batch, bool),
    "index": np.arange(batch, dtype=np.int32),
  }


def named_weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """f32 kernel [..., I, O], He et al.'s scale, the same wherever it is asked.

  Args:
    name: of the parameter, such as `params/tower_class/hidden/kernel`.
    shape: of the kernel.
  """
  random = np.random.default_rng(zlib.crc32(name.encode()))
  scale = np.float32(math.sqrt(2 / math.prod(shape[-4:-1])))
  return scale * random.standard_normal(shape, np.float32)
