"""Poster, experiment 1, single expert on ten classes (there: 95.0 % of 60).

  python launch/train.py --config=configs/poster/exp1_single.py \\
      --workdir=DIR --config.data.path=CUB_200_2011

Runtime and result: not measured here (needs the whole data set and a GPU)."""

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.config import presets


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The row's config; `arg` changes options, as in FILE:epochs=3."""
  config = presets.poster_ten()
  config.model.experts = 1
  config.model.k = "1"
  return config_lib.apply_overrides(config, arg)
