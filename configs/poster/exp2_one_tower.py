"""Poster, experiment 2, one tower: the class alone, 200 classes.

  python launch/train.py --config=configs/poster/exp2_one_tower.py \\
      --workdir=DIR --config.data.path=CUB_200_2011

Runtime and result: not measured here (needs the whole data set and a GPU)."""

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.config import presets


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The row's config; `arg` changes options, as in FILE:epochs=3."""
  config = presets.poster()
  config.model.tasks = "class"
  config.epochs = 200
  return config_lib.apply_overrides(config, arg)
