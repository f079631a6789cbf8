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
  "": {},
  "one": _ONE,
  "told": {**_ONE, "model.tower_sees_gate": 6},
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` is `one`, `told`, or changes options."""
  config = presets.cub10()
  config.data.name = "folder"
  config.data.classes = "all"
  config.data.image_size = 224
  # Crops are tight, and squashed: little is left to crop.
  config.data.augment.crop_area_min = 0.5
  config.model.tasks = "class"
  config.model.shared_stages = 8
  config.model.condense = "pool"
  config.model.expert_dim = 8
  config.model.experts = 6
  config.model.k = "1"
  # Chosen on drawn birds, as `experiments.pay` has them.
  config.model.gate_input = "stem"
  config.model.gate_noise = 0.0
  config.model.tower_sees_gate = 6
  config.model.upcycle_epochs = 4
  config.features.views = 4
  config.batch_size = 64
  config.epochs = 16
  # Of features as well: seconds, in place of a forward pass of the network.
  config.eval.watch_test = True
  config.eval.batch_size = 90
  for key, value in ARMS.get(arg, {}).items():
    config_lib.set_path(config, key, value)
  return config_lib.apply_overrides(config, "" if arg in ARMS else arg)
