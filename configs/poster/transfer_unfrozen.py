"""Poster, transfer: from the base model, all trained (there: 93.3 %, ~1.2 h).

  python launch/train.py --config=configs/poster/transfer_unfrozen.py \\
      --workdir=DIR --config.data.path=CUB_200_2011 \\
      --config.transfer.source=BASE

Runtime and result: not measured here (needs the whole data set and a GPU)."""

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.config import presets


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The row's config; `arg` changes options, as in FILE:epochs=3."""
  config = presets.poster_ten()
  config.model.experts = 6
  return config_lib.apply_overrides(config, arg)
