"""Poster, experiment 1, six experts on ten classes (there: ~96.7 % of 60).

  python launch/train.py --config=configs/poster/exp1_moe.py \\
      --workdir=DIR --config.data.path=CUB_200_2011

Runtime and result: not measured here (needs the whole data set and a GPU)."""

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.config import presets


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The row's config; `arg` changes options, as in FILE:epochs=3."""
  config = presets.poster_ten()
  config.model.experts = 6
  return config_lib.apply_overrides(config, arg)
