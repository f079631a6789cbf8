"""What each part of the model and of the recipe is worth, one at a time."""

from mtlmoe_jax.experiments.cells import BASE, Variation

_EXPERTS, _TASKS, _RECIPE = "experts and gates", "tasks and condense", "recipe"
_EVALUATION = "evaluation"

VARIATIONS = (
  Variation(BASE, {}, "base"),
  Variation(
    "one_expert",
    {"model.experts": 1, "model.k": "1"},
    "a single expert",
    _EXPERTS,
  ),
  Variation(
    "uniform_gate", {"model.gate": "uniform"}, "uniform gate", _EXPERTS
  ),
  Variation("dense_gate", {"model.gate": "dense"}, "dense gate", _EXPERTS),
  Variation("top_k_gate", {"model.gate": "top_k"}, "top-k gate", _EXPERTS),
  Variation("k_1", {"model.k": "1"}, "one expert an image", _EXPERTS),
  Variation("six_experts", {"model.experts": 6}, "six experts", _EXPERTS),
  Variation("shared_gate", {"model.share_gate": True}, "one gate", _EXPERTS),
  Variation("joint", {"model.select": "joint"}, "joint selection", _EXPERTS),
  Variation(
    "no_balance",
    {"loss.importance": 0.0, "loss.load": 0.0},
    "no balance losses",
    _EXPERTS,
  ),
  Variation(
    "noise_decay",
    {"model.gate_noise_schedule": "linear"},
    "gate noise falls to 0",
    _EXPERTS,
  ),
  Variation(
    "parted",
    {"model.break_symmetry": 0.01},
    "experts start apart",
    _EXPERTS,
  ),
  Variation("class_only", {"model.tasks": "class"}, "class task only", _TASKS),
  Variation("box_only", {"model.tasks": "box"}, "box task only", _TASKS),
  Variation("pool", {"model.condense": "pool"}, "pooled condense", _TASKS),
  Variation(
    "pyramid", {"model.condense": "pyramid"}, "pyramid condense", _TASKS
  ),
  Variation("box_weight", {"loss.box_weight": 3.0}, "box loss times 3", _TASKS),
  Variation(
    "uncertainty",
    {"loss.weighting": "uncertainty"},
    "learned task weights",
    _TASKS,
  ),
  Variation(
    "no_smoothing", {"loss.label_smoothing": 0.0}, "no smoothing", _RECIPE
  ),
  Variation("no_ema", {"optimizer.ema": 0.0}, "no EMA", _RECIPE),
  Variation(
    "no_colours",
    {
      "data.augment.brightness": 0.0,
      "data.augment.contrast": 0.0,
      "data.augment.saturation": 0.0,
    },
    "no colours",
    _RECIPE,
  ),
  Variation(
    "no_crops",
    {"data.augment.crop_area_min": 1.0, "data.augment.crop_aspect_max": 1.0},
    "no random crops",
    _RECIPE,
  ),
  Variation("no_flip", {"data.augment.flip": 0.0}, "no flip", _RECIPE),
  Variation("no_dropout", {"model.dropout": 0.0}, "no dropout", _RECIPE),
  Variation("drop_path", {"model.drop_path": 0.1}, "drop path 0.1", _RECIPE),
  Variation(
    "frozen_experts",
    {"optimizer.frozen": ("stem/", "experts/backbone/")},
    "frozen backbone",
    _RECIPE,
  ),
  Variation("larger_images", {"data.image_size": 256}, "256 pixels", _RECIPE),
  Variation(
    "layer_decay", {"optimizer.layer_decay": 0.7}, "layer decay 0.7", _RECIPE
  ),
  Variation(
    "cosine", {"model.classifier": "cosine"}, "cosine classifier", _RECIPE
  ),
  Variation(
    "mixup",
    {"data.augment.mixup": 0.5},
    "mixup of half of the images",
    _RECIPE,
  ),
  Variation("flips", {"eval.views": "flip"}, "mirror image too", _EVALUATION),
  Variation(
    "crops",
    {"eval.views": "crops+flip"},
    "five crops and mirror images too",
    _EVALUATION,
  ),
  Variation(
    "closer",
    {"eval.views": "crops+flip+zoom"},
    "and a closer look at what they found",
    _EVALUATION,
  ),
)
