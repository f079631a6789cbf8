"""The base of the ablation on ten classes of CUB: small, and trained fast.

  python launch/ablate.py --config=configs/cub10_ablation.py --seeds=3 \
      --workdir=runs/ablation --config.data.path=CUB_200_2011

Three experts behind a frozen stem, whose features are computed once for all
variations with the same images. What is better than the base here is worth a
try in `configs/cub10_best.py`, which has no time for 99 runs. The page:
docs/ablation.md.

Pre-training on other birds: the base started from the backbones of a run of
`configs/crops96.py` in place of ImageNet's (`--only=base --workdir=runs/other
--config.model.pretrained=runs/crops96/base/seed_0`) has top1 0.835 ± 0.016,
miou 0.740 ± 0.013, acc_iou_50 0.940 ± 0.024, top1_loc 0.797 ± 0.014; without,
0.842 ± 0.010, 0.715 ± 0.013, 0.901 ± 0.015, 0.774 ± 0.015.
"""

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.config import presets


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
