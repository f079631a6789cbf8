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


def cub10() -> ml_collections.ConfigDict:
  """Three Lite experts on ten classes of CUB-200-2011, for two CPU cores.

  The stem is shared and stays as pretrained: on a CPU its gradients would cost
  more than everything behind it. 30 of 300 images could not tell two
  checkpoints apart: all are trained on, and the last checkpoint is reported.
  """
  config = config_lib.default_config()
  config.data.name = "cub"
  config.data.classes = "first:10"
  config.data.validation_fraction = 0.0
  config.model.backbone = "tf_efficientnet_lite0"
  config.model.pretrained = "lite"
  config.model.experts = 3
  config.model.k = "2"
  config.optimizer.frozen = ("stem/",)
  config.optimizer.lr = 2e-3
  config.optimizer.warmup_epochs = 2.0
  config.optimizer.ema = 0.98
  config.eval.step = "latest"
  return config


def crops() -> ml_collections.ConfigDict:
  """`cub10` on a folder of cropped photographs, the class alone."""
  config = cub10()
  config.data.name = "folder"
  config.data.classes = "all"
  # Crops are tight, and squashed: little is left to crop.
  config.data.augment.crop_area_min = 0.5
  config.model.tasks = "class"
  return config


def narrow_crops() -> ml_collections.ConfigDict:
  """Six narrow experts on cropped photographs, the class alone.

  All of Lite0 is frozen and its features of four views of each image are
  computed once; an expert is an MLP 8 wide, and an image goes to one of six.
  """
  config = crops()
  config.data.image_size = 224
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
  return config


def narrow_drawn() -> ml_collections.ConfigDict:
  """One narrow expert on drawn birds of 30 species, class and box.

  All of Lite0 is frozen and its features are computed once; an expert is an
  MLP. Learning rate and noise were chosen on drawn birds of another seed.
  """
  config = config_lib.default_config()
  data, model = config.data, config.model
  data.name, data.image_size = "synthetic", 96
  data.synthetic.classes = 30
  data.synthetic.test_per_class = 70
  # Drawn birds fill their frames alike (configs/demo.py).
  data.augment.crop_area_min, data.augment.crop_aspect_max = 0.75, 1.1
  model.backbone, model.pretrained = "tf_efficientnet_lite0", "lite"
  model.shared_stages = 8
  # Of 96 pixels the last map keeps 3 x 3.
  model.condense, model.grid = "spatial", 3
  model.condense_dim, model.tower_dim, model.dropout = 64, 128, 0.0
  model.experts, model.k = 1, "1"
  model.gate_input, model.share_gate, model.gate_noise = "stem", True, 0.0
  config.optimizer.frozen = ("stem/",)
  config.optimizer.lr, config.optimizer.warmup_epochs = 3e-3, 0.5
  config.features.views = 1
  config.loss.box_weight = 3.0
  # No checkpoint is chosen, and seeds share their images: what is held out
  # depends on the seed.
  data.validation_fraction = 0.0
  config.batch_size = 64
  config.eval.batch_size = 100
  config.eval.step, config.eval.report = "latest", False
  config.eval.watch_test = True
  config.eval.every_epochs = config.checkpoint.every_steps = 10**6
  return config
