"""Poster, transfer: experts and condense frozen (there: 81.7 %).

  python launch/train.py --config=configs/poster/transfer_frozen.py \\
      --workdir=DIR --config.data.path=CUB_200_2011 \\
      --config.transfer.source=BASE

Statistics of the frozen experts stay as they were as well; the poster does not
say whether its did.
Runtime and result: not measured here (needs the whole data set and a GPU)."""

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.config import presets


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The row's config; `arg` changes options, as in FILE:epochs=3."""
  config = presets.poster_ten()
  config.transfer.freeze = ("experts/",)
  config.model.norm = "frozen"
  return config_lib.apply_overrides(config, arg)
