r"""Two gates of six narrow experts on 9,000 drawn birds: who chooses?

  python launch/train.py --config=configs/drawn_narrow.py --workdir=W \
      --config.seed=0

Of six experts each gate chooses two for an image: each gate for itself
(`--config=configs/drawn_narrow.py`); both started from classes (`:alike`); both
together (`:joint`, `:joint_alike`); one gate for both tasks (`:shared`).
With `--config.features.cache=DIR` all share the features.

2,100 drawn test images, seeds 0, 1 and 2: top1 0.620, 0.615, 0.631, miou 0.698,
0.694, 0.691, an image meets 3.44, 3.35, 3.47 experts; `:joint` 0.616, 0.604,
0.626, miou 0.697, 0.694, 0.689 and two experts. Half a minute a run on one core
once features are there, four minutes for these.
"""

import ml_collections

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.config import presets

_ALIKE = {"model.gate_start": "discriminant"}
_JOINT = {"model.select": "joint"}
ARMS = {
  "alike": _ALIKE,
  "joint": _JOINT,
  "joint_alike": {**_ALIKE, **_JOINT},
  "shared": {"model.share_gate": True},
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` is one of ARMS, and options: FILE:joint,epochs=1."""
  config = presets.narrow_drawn()
  config.data.synthetic.train_per_class = 300
  config.model.experts = 6
  config.model.k = "2"
  config.model.expert_dim = 8
  config.model.share_gate = False
  config.model.tower_sees_gate = 6
  config.model.upcycle_epochs = 2
  config.epochs = 8
  return config_lib.apply_arm(config, ARMS, arg)
