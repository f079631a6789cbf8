r"""V-MoE-B/16 with both tasks: 32 token experts in every second block.

  python launch/train.py --config=configs/vmoe_b16.py --workdir=runs/vmoe \
      --config.data.path=CUB_200_2011

For a TPU slice or several GPUs: the mixture's experts are spread over 8 devices
(`config.mesh.expert`). Starts from ImageNet-21k weights, each token expert as a
copy of the MLP that it replaces (Komatsuzaki et al. 2023). Not trained here:
docs/scaling.md has its plan for 64 chips.
"""

import ml_collections

from mtlmoe_jax import config as config_lib


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` changes options, as in FILE:k=2."""
  config = config_lib.default_config()
  config.data.name = "cub"
  config.data.image_size = 224
  config.precision = "bfloat16"
  config.model.backbone = "vit_base_patch16_224"
  config.model.pretrained = "hf:timm/vit_base_patch16_224.augreg_in21k"
  # One network, all of it shared: the experts are those of the tokens.
  config.model.shared_stages = 5
  config.model.experts = 1
  config.model.k = "1"
  config.model.norm = "group"
  # Each second block, 32 experts, two for a token: Riquelme et al. 2021.
  config.model.token_moe.blocks = "every:2"
  config.model.token_moe.experts = 32
  config.model.token_moe.k = 2
  config.mesh.expert = 8
  config.batch_size = 1024
  config.epochs = 50
  config.optimizer.lr = 1e-3
  config.optimizer.pretrained_lr = 1e-4
  config.optimizer.warmup_epochs = 5.0
  return config_lib.apply_overrides(config, arg)
