r"""Six whole networks as experts on 20,010 drawn birds, beside their controls.

  python launch/train.py --config=configs/drawn_whole.py --workdir=W \
      --config.seed=0

An expert is all of Lite0 behind its first four stages; those are shared and
frozen, and an image goes to one of six. The gate sees the whole frozen backbone
and stays as it starts; until three quarters of the training one expert learns
from every image. One expert of equal active compute:
`--config=configs/drawn_whole.py:one`, the same that is told what the router
knows: `:told`. With `--config.features.cache=DIR` they share the features.
"""

import ml_collections

from mtlmoe_jax import config as config_lib

# What the three differ in.
_ONE = {
  "model.experts": 1,
  "model.upcycle_epochs": 0.0,
  "model.tower_sees_gate": 0,
  "optimizer.frozen": ("stem/",),
}
ARMS = {
  "one": _ONE,
  "told": {
    **_ONE,
    "model.tower_sees_gate": 6,
    "optimizer.frozen": ("stem/", "^tower_gate/"),
  },
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` is `one` or `told`, and options: FILE:one,epochs=1."""
  config = config_lib.default_config()
  config.data.name = "synthetic"
  config.data.image_size = 64
  config.data.synthetic.classes = 30
  config.data.synthetic.train_per_class = 667
  config.data.synthetic.test_per_class = 70
  # Drawn birds fill their frames alike (configs/demo.py).
  config.data.augment.crop_area_min = 0.75
  config.data.augment.crop_aspect_max = 1.1
  config.model.backbone = "tf_efficientnet_lite0"
  config.model.pretrained = "lite"
  config.model.shared_stages = 4
  # Of 64 pixels the last map keeps 2 x 2.
  config.model.condense = "pyramid"
  config.model.condense_dim = 64
  config.model.tower_dim = 128
  config.model.dropout = 0.0
  config.model.experts = 6
  config.model.k = "1"
  config.model.compute = "sparse"
  config.model.gate_input = "all"
  # One gate: an image meets one expert, not one for each task.
  config.model.share_gate = True
  config.model.gate_noise = 0.0
  config.model.tower_sees_gate = 6
  config.model.upcycle_epochs = 2.25
  config.optimizer.frozen = ("stem/", "^gate/")
  config.optimizer.lr = 3e-3
  config.optimizer.pretrained_lr = 1e-3
  config.optimizer.warmup_epochs = 0.5
  config.features.views = 1
  config.loss.box_weight = 3.0
  config.batch_size = 64
  config.epochs = 3
  config.eval.batch_size = 100
  config.eval.step = "latest"
  config.eval.report = False
  return config_lib.apply_arm(config, ARMS, arg)
