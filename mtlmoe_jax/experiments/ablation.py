"""What each part of the model and of the recipe is worth, one at a time."""

from mtlmoe_jax.experiments.cells import BASE, Reevaluate, Train

_EXPERTS, _TASKS, _RECIPE = "experts and gates", "tasks and condense", "recipe"
_EVALUATION = "evaluation"

VARIATIONS = (
  Train(BASE, {}, "base"),
  Train(
    "one_expert",
    {"model.experts": 1, "model.k": "1"},
    "a single expert",
    _EXPERTS,
  ),
  Train("uniform_gate", {"model.gate": "uniform"}, "uniform gate", _EXPERTS),
  Train("dense_gate", {"model.gate": "dense"}, "dense gate", _EXPERTS),
  Train("top_k_gate", {"model.gate": "top_k"}, "top-k gate", _EXPERTS),
  Train("k_1", {"model.k": "1"}, "one expert an image", _EXPERTS),
  Train("six_experts", {"model.experts": 6}, "six experts", _EXPERTS),
  Train("shared_gate", {"model.share_gate": True}, "one gate", _EXPERTS),
  Train("joint", {"model.select": "joint"}, "joint selection", _EXPERTS),
  Train(
    "no_balance",
    {"loss.importance": 0.0, "loss.load": 0.0},
    "no balance losses",
    _EXPERTS,
  ),
  Train(
    "noise_decay",
    {"model.gate_noise_schedule": "linear"},
    "gate noise falls to 0",
    _EXPERTS,
  ),
  Train(
    "parted",
    {"model.break_symmetry": 0.01},
    "experts start apart",
    _EXPERTS,
  ),
  Train("class_only", {"model.tasks": "class"}, "class task only", _TASKS),
  Train("box_only", {"model.tasks": "box"}, "box task only", _TASKS),
  Train("pool", {"model.condense": "pool"}, "pooled condense", _TASKS),
  Train("pyramid", {"model.condense": "pyramid"}, "pyramid condense", _TASKS),
  Train("box_weight", {"loss.box_weight": 3.0}, "box loss times 3", _TASKS),
  Train(
    "uncertainty",
    {"loss.weighting": "uncertainty"},
    "learned task weights",
    _TASKS,
  ),
  Train("no_smoothing", {"loss.label_smoothing": 0.0}, "no smoothing", _RECIPE),
  Train("no_ema", {"optimizer.ema": 0.0}, "no EMA", _RECIPE),
  Train(
    "no_colours",
    {
      "data.augment.brightness": 0.0,
      "data.augment.contrast": 0.0,
      "data.augment.saturation": 0.0,
    },
    "no colours",
    _RECIPE,
  ),
  Train(
    "no_crops",
    {"data.augment.crop_area_min": 1.0, "data.augment.crop_aspect_max": 1.0},
    "no random crops",
    _RECIPE,
  ),
  Train("no_flip", {"data.augment.flip": 0.0}, "no flip", _RECIPE),
  Train("no_dropout", {"model.dropout": 0.0}, "no dropout", _RECIPE),
  Train("drop_path", {"model.drop_path": 0.1}, "drop path 0.1", _RECIPE),
  Train(
    "frozen_experts",
    {"optimizer.frozen": ("stem/", "experts/backbone/")},
    "frozen backbone",
    _RECIPE,
  ),
  Train("larger_images", {"data.image_size": 256}, "256 pixels", _RECIPE),
  Train(
    "layer_decay", {"optimizer.layer_decay": 0.7}, "layer decay 0.7", _RECIPE
  ),
  Train("cosine", {"model.classifier": "cosine"}, "cosine classifier", _RECIPE),
  Train(
    "mixup",
    {"data.augment.mixup": 0.5},
    "mixup of half of the images",
    _RECIPE,
  ),
  Reevaluate("flips", {"eval.views": "flip"}, "mirror image too", _EVALUATION),
  Reevaluate(
    "crops",
    {"eval.views": "crops+flip"},
    "five crops and mirror images too",
    _EVALUATION,
  ),
  Reevaluate(
    "closer",
    {"eval.views": "crops+flip+zoom"},
    "and a closer look at what they found",
    _EVALUATION,
  ),
)
