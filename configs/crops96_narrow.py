r"""Six narrow experts on 96 classes of CUB birds, beside their controls.

  python launch/train.py --config=configs/crops96_narrow.py --workdir=W \
      --config.data.path=CROPS --config.seed=0

CROPS as in configs/crops96.py. All of Lite0 is frozen and its features of four
views of each image are computed once; an expert is an MLP 8 wide, and an image
goes to one of six. One expert of equal active compute:
`--config=configs/crops96_narrow.py:one`, the same that is told what the router
knows: `:told`. With `--config.features.cache=DIR` they share the features.

Test split, n = 2790, seeds 0, 1 and 2: top1 0.759, 0.757, 0.755; one 0.709,
0.718, 0.720; told 0.732, 0.745, 0.738. Of experts 32 wide
(`--config.model.expert_dim=32`) none of the three is better: 0.872, 0.873; one
0.872, 0.874; told 0.875, 0.876 (two seeds). Two minutes for the features of a
seed on two cores, then seconds a run.
"""

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.config import presets

# What the three differ in.
_ONE = {
  "model.experts": 1,
  "model.upcycle_epochs": 0.0,
  "model.tower_sees_gate": 0,
}
ARMS = {
  "one": _ONE,
  "told": {**_ONE, "model.tower_sees_gate": 6},
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` is `one` or `told`, and options: FILE:one,epochs=1."""
  config = presets.narrow_crops()
  return config_lib.apply_arm(config, ARMS, arg)
