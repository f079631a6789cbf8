"""The base of the ablation on ten classes of CUB: small, and trained fast.

  python launch/ablate.py --config=configs/cub10_ablation.py --seeds=3 \
      --workdir=runs/ablation --config.data.path=CUB_200_2011

Three experts behind a frozen stem, whose features are computed once for all
variations with the same images: two minutes a run on two cores. What is better
than the base here is worth a try in `configs/cub10_best.py`, which has no time
for 80 runs.
"""

import ml_collections

from mtlmoe_jax import config as config_lib


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` changes options, as in FILE:experts=6."""
  config = config_lib.default_config()
  config.data.name = "cub"
  config.data.classes = "first:10"
  config.data.validation_fraction = 0.0
  config.model.backbone = "tf_efficientnet_lite0"
  config.model.pretrained = "lite"
  config.model.experts = 3
  config.model.k = "2"
  config.model.compute = "sparse"
  config.model.shared_stages = 5
  config.optimizer.frozen = ("stem/",)
  config.features.views = 16
  config.batch_size = 30
  config.epochs = 32
  config.optimizer.lr = 2e-3
  config.optimizer.pretrained_lr = 3e-4
  config.optimizer.warmup_epochs = 2.0
  config.optimizer.ema = 0.98
  config.eval.step = "latest"
  config.checkpoint.every_steps = 320
  return config_lib.apply_overrides(config, arg)
