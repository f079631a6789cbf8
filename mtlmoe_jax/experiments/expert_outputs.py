"""What every expert makes of the same images, whoever they are routed to.

Letters: B images of a batch, n images, N experts, D' values of an expert's
condensed output.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from mtlmoe_jax import data as data_lib
from mtlmoe_jax import models
from mtlmoe_jax.checkpoints import restore
from mtlmoe_jax.devices import compilation
from mtlmoe_jax.reports.evaluation import gallery


def of_images(
  restored: restore.Restored,
  source: data_lib.Source,
  limit: int = 256,
  batches_of: Callable[[data_lib.Source], Iterable[data_lib.Batch] | None]
  | None = None,
) -> np.ndarray:
  """The condensed outputs of all experts for images of a source.

  Args:
    restored: from `restore.restore_for_eval`.
    source: at least one record.
    limit: at most so many images, spread evenly over the source.
    batches_of: gives the batches of a source with features of the stem; None,
      as itself or what it gives: `data.eval_batches`.

  Returns:
    f32 [N, n, D'].
  """
  config = copy.deepcopy(restored.config)
  # One view of each image, the whole, is enough.
  config.eval.views = "whole"
  model = models.build_model(config, len(restored.class_names))
  step = _make_step(model)
  some = data_lib.Subset(source, gallery.spread(len(source), limit))
  parts = []
  batches = batches_of(some) if batches_of else None
  if batches is None:
    batches = data_lib.eval_batches(some, config, config.eval.batch_size)
  for batch in batches:
    inputs = (batch["image"], batch.get("features"))
    outputs = np.asarray(step(restored.variables, *inputs))
    parts.append(outputs[:, batch["valid"]])
  outputs = np.concatenate(parts, axis=1)
  return outputs.reshape(*outputs.shape[:2], -1)


def _make_step(model: models.MTLMoE) -> Callable[..., jax.Array]:
  """step(variables, u8 [B, H, W, 3], features or None) -> f32 [N, B, ...]."""

  def step(
    variables: Any, images: jax.Array, features: jax.Array | None
  ) -> jax.Array:
    outputs: Any = model.apply(
      variables, images, features, method="expert_outputs"
    )
    return outputs

  return compilation.jit_forward(step)
