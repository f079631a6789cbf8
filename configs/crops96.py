r"""96 classes of cropped CUB birds, no boxes: three runs that answer together.

  python launch/ablate.py --config=configs/crops96.py --only=base --seeds=3 \
      --workdir=runs/crops96 --config.data.path=CROPS
  python launch/ensemble.py --step=latest --out=runs/crops96/together \
      runs/crops96/base/seed_*

CROPS holds `train/CLASS/*` and `test/CLASS/*`: 96 classes of CUB-200-2011, none
of the first ten, official split, each bird cut out at its box and stretched to
a square. One run alone: `python launch/train.py --config=configs/crops96.py`.

Test split, n = 2790: top1 0.925 (0.927, 0.923, 0.925) each, 0.935 together. On
one core 11 minutes for the features of all runs, then 32 minutes a run.

One network alone, `--config=configs/crops96.py:one`: top1 0.935 with seed 0, in
57 minutes of two cores beside other programs; the steps to it: docs/gates.md.
"""

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.config import presets

# One network in place of a mixture: larger, with more of it trained, on larger
# images.
ARMS = {
  "one": {
    "model.backbone": "tf_efficientnet_lite2",
    "model.experts": 1,
    "model.k": "1",
    "model.shared_stages": 4,
    "data.image_size": 320,
  },
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` is `one`, and options: FILE:one,epochs=1."""
  config = presets.crops()
  config.data.image_size = 256
  config.model.compute = "sparse"
  config.model.condense = "pool"
  config.model.shared_stages = 5
  # Every training image is right long before the end.
  config.model.dropout = 0.5
  config.model.drop_path = 0.2
  config.features.views = 8
  config.batch_size = 32
  config.epochs = 10
  config.optimizer.pretrained_lr = 3e-4
  config.optimizer.warmup_epochs = 1.0
  config.optimizer.ema = 0.99
  config.eval.views = "flip"
  config.checkpoint.every_steps = 180
  return config_lib.apply_arm(config, ARMS, arg)
