"""Poster, transfer: the base model on all classes but the last ten (190).

  python launch/train.py --config=configs/poster/transfer_base.py \\
      --workdir=BASE --config.data.path=CUB_200_2011

Runtime and result: not measured here (needs the whole data set and a GPU)."""

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.config import presets


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The row's config; `arg` changes options, as in FILE:epochs=3."""
  config = presets.poster_ten()
  config.data.classes = "except_last:10"
  return config_lib.apply_overrides(config, arg)
