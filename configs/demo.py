"""The demo: drawn birds, four small experts, on a laptop's CPU.

  python launch/train.py --config=configs/demo.py --workdir=runs/demo
"""

import ml_collections

from mtlmoe_jax import config as config_lib


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` changes options, as in FILE:experts=3."""
  config = config_lib.default_config()
  config.data.name = "synthetic"
  config.data.image_size = 96
  config.model.backbone = "efficientnet_tiny"
  config.model.norm = "group"
  config.model.experts = 4
  config.model.k = "2"
  config.batch_size = 32
  config.epochs = 20
  config.optimizer.lr = 3e-3
  return config_lib.apply_overrides(config, arg)
