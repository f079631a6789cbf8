"""Configs that several files in `configs/` start from."""

import ml_collections

from mtlmoe_jax import config as config_lib


def poster() -> ml_collections.ConfigDict:
  """The poster's two-tower model on CUB-200-2011, as far as it is known.

  From the poster: whole EfficientNet-B1 experts, one fully connected condense
  layer each, one gate per task, batch 16, learning rate 1e-4, 100 epochs,
  CIoU + cross-entropy, tests on a tenth of each class. Its figures show every
  expert in both sums, so the gate is dense; `model.gate=noisy_top_k` is its
  text's "sparsely-gated". Ours, where it is silent: B1's own 240 pixels,
  AdamW, cosine, frozen batch-norm statistics (`batch` from random weights).
  """
  config = config_lib.default_config()
  config.batch_size = 16
  config.epochs = 100
  config.data.name = "cub"
  config.data.split_scheme = "poster"
  config.data.image_size = 240
  config.model.backbone = "tf_efficientnet_b1"
  config.model.experts = 6
  config.model.gate = "dense"
  config.model.condense = "pool"
  config.model.norm = "batch"
  config.optimizer.lr = 1e-4
  config.optimizer.pretrained_lr = 1e-4
  return config


def poster_ten() -> ml_collections.ConfigDict:
  """The poster's first experiment and its transfer: the last ten classes.

  One gate, one tower: only the class is told.
  """
  config = poster()
  config.data.classes = "last:10"
  config.model.tasks = "class"
  return config
