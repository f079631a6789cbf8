"""The poster's model on all of CUB-200-2011, on the official split.

  python launch/prepare_cub.py --out=DATA
  python launch/train.py --config=configs/cub.py --workdir=DIR \
      --config.data.path=DATA/CUB_200_2011
  ... --config=configs/cub.py:experts=3,backbone=tf_efficientnet_b0

Six EfficientNet-B1 experts at 240 pixels want a GPU or a TPU. Runtime and
result: not measured here (needs the whole data set and a GPU). The poster's own
rows, on its own split, are `configs/poster.py:ROW`.
"""

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.config import presets


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` changes options, as in FILE:experts=3."""
  config = presets.poster()
  config.data.split_scheme = "official"
  return config_lib.apply_overrides(config, arg)
