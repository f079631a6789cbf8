"""Ten classes of CUB, the best that two CPU cores train in an hour.

  python launch/ablate.py --config=configs/cub10_best.py --only=base \
      --seeds=3 --workdir=runs/best --config.data.path=CUB_200_2011

`configs/cub10.py` with larger images, a cached stem and fourteen views of each
test image. One seed: `python launch/train.py --config=configs/cub10_best.py`.
"""

import ml_collections

from mtlmoe_jax import config as config_lib


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` changes options, as in FILE:experts=6."""
  config = config_lib.default_config()
  config.data.name = "cub"
  config.data.classes = "first:10"
  config.data.image_size = 320
  config.data.validation_fraction = 0.0
  config.model.backbone = "tf_efficientnet_lite0"
  config.model.pretrained = "lite"
  config.model.experts = 3
  config.model.k = "2"
  config.model.compute = "sparse"
  config.model.shared_stages = 3
  # The last map is 10 x 10: each cell stays as it is.
  config.model.grid = 10
  config.optimizer.frozen = ("stem/",)
  # A view for each epoch: nothing is seen twice.
  config.features.views = 32
  config.batch_size = 16
  config.epochs = 32
  # Boxes are learned last: classes are all right after a third of the steps.
  config.loss.box = 3.0
  config.optimizer.lr = 2e-3
  config.optimizer.pretrained_lr = 3e-4
  config.optimizer.warmup_epochs = 2.0
  config.optimizer.ema = 0.98
  config.eval.step = "latest"
  config.eval.views = "crops+flip+zoom"
  config.checkpoint.every_steps = 90
  return config_lib.apply_overrides(config, arg)
