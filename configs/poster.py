"""The rows of the poster, each as it has them: `configs/poster.py:ROW`.

  python launch/train.py --config=configs/poster.py:table_6_experts \\
      --workdir=DIR --config.data.path=CUB_200_2011
  python launch/train.py --config=configs/poster.py:transfer_base \\
      --workdir=BASE --config.data.path=CUB_200_2011
  python launch/train.py --config=configs/poster.py:transfer_frozen \\
      --workdir=DIR --config.data.path=CUB_200_2011 \\
      --config.transfer.source=BASE

Rows (mtlmoe_jax/config/poster.py has what the poster shows for each):
exp1_single, exp1_moe; transfer_base, transfer_direct, transfer_frozen,
transfer_unfrozen; exp2_one_tower, exp2_two_towers; table_1_expert,
table_3_experts, table_6_experts.

Runtime and result: not measured here (needs the whole data set and a GPU).
"""

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.config import poster


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """A row's config; `arg` is the row, then options: ROW or ROW,epochs=3."""
  row, _, options = arg.partition(",")
  return config_lib.apply_overrides(poster.row_config(row), options)
