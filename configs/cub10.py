"""Ten classes of CUB on two CPU cores: three Lite0 experts, both tasks.

  python launch/train.py --config=configs/cub10.py --workdir=runs/cub10 \
      --config.data.path=CUB_200_2011
"""

import ml_collections

from mtlmoe_jax import config as config_lib


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` changes options, as in FILE:experts=6."""
  config = config_lib.default_config()
  config.data.name = "cub"
  config.data.classes = "first:10"
  config.model.backbone = "efficientnet_lite0"
  config.model.pretrained = "lite"
  config.model.experts = 3
  config.model.k = "2"
  config.model.gate = "noisy_top_k"
  config.batch_size = 16
  config.epochs = 16
  config.optimizer.lr = 2e-3
  config.optimizer.pretrained_lr = 3e-4
  config.optimizer.ema = 0.99
  return config_lib.apply_overrides(config, arg)
