"""Your photographs: what fits them is chosen when the run starts.

  python launch/train.py PHOTOS
  python launch/train.py --config=configs/my_data.py:best --workdir=runs/mine \
      --config.data.path=PHOTOS

Size of images, backbone, what of it learns, length, tasks, validation, experts
and more are chosen from the images, their boxes and this machine, and told with
the reasons and the time that they take (`mtlmoe_jax/training/fit`). After the
colon: `fast`, `usual` (the default), `best`, or minutes as `budget=30`; and any
option, such as `my_data:fast,experts=3,k=2`, which then stays as it is.

The first ten classes of CUB as a folder of images of 500 x 375 pixels (300, and
243 for the test, as official; one seed): top1 0.901, miou 0.734, acc_iou_50
0.951, top1_loc 0.864. 4 minutes of two cores that other programs shared (it had
said 4.3), of which 184 seconds of a CPU, and 2.0 GB.
"""

import ml_collections

from mtlmoe_jax import config as config_lib

ARMS = {word: {"fit.budget": word} for word in ("fast", "usual", "best")}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` is `fast`, `usual` or `best`, and options."""
  config = config_lib.default_config()
  config.fit.budget = "usual"
  return config_lib.apply_arm(config, ARMS, arg)
