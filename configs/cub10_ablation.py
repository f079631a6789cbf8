"""The base of the ablation on ten classes of CUB: small, and trained fast.

  python launch/ablate.py --config=configs/cub10_ablation.py --seeds=3 \
      --workdir=runs/ablation --config.data.path=CUB_200_2011

Three experts behind a frozen stem, whose features are computed once for all
variations with the same images. What is better than the base here is worth a
try in `configs/cub10_best.py`, which has no time for 90 runs.
"""

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import presets


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` changes options, as in FILE:experts=6."""
  config = presets.cub10()
  config.data.image_size = 192
  config.model.compute = "sparse"
  config.model.shared_stages = 5
  config.model.gate_width = 16
  config.features.views = 16
  config.optimizer.pretrained_lr = 3e-4
  config.batch_size = 20
  config.epochs = 16
  config.checkpoint.every_steps = 240
  return config_lib.apply_overrides(config, arg)
